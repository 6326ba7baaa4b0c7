"""Hints come in, provider calls go out, and what came of them is recorded.

`deliver` claims what a hint names, renders, sends and records; `sweep` gives whatever is due its
next step. The row decides everything: a hint that is lost, repeated or late changes no outcome.
This room never accepts a request and never holds a transaction open while a provider is asked.
"""
