"""A whole stack on one machine: private PostgreSQL and Valkey, and every process of the service.

In comes a data directory; out come server addresses (`Stack`, for tests) or a running service
(`running` and `up`, for `notifier up` and `notifier demo`). Works as root and as anybody, several
side by side, and again on the same directory. Nothing started here outlives its parent, however
the parent dies. The running service never imports this room, and this room sends nothing.
"""

from notifier.embedded.stack import ServerUrls, Stack
from notifier.embedded.up import Programs, Service, running, up

__all__ = ["Programs", "ServerUrls", "Service", "Stack", "running", "up"]
