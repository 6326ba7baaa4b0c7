"""`make bench`: this service and a home-made Celery sender, measured in turn on the same machine in one run."""
