"""`notifier demo`: the whole service on one machine, at work and under attack, checked against the providers' ledger.

A door like the command line: it starts the embedded stack, calls the HTTP API like any product
service, breaks things on purpose, and compares what the database says with what the sandbox received.
"""

from notifier.demo.show import show

__all__ = ["show"]
