"""A model of the service: what figures measured on one machine say of others. `make scaling`; docs/scaling.md."""
