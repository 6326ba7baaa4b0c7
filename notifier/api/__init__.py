"""The HTTP door: parse, authenticate, limit, hand over to a story, answer.

In come requests, out go JSON answers or RFC 9457 problems. Routes are thin; nothing here knows SQL,
a provider or a queue.
"""
