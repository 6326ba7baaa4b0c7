"""Words and rules: what a notification is, what may follow what, when to try again.

Pure: no I/O, no framework, no clock and no randomness of its own (both are arguments), so that
every rule here can be walked by a property test. Everything else may import this room; it
imports nothing of ours.
"""
