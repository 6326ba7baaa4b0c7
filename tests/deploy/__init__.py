"""Image, compose file and chart: rendered by real Helm, checked against real schemas, their processes started."""
