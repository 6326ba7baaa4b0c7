"""Requests come in; committed rows and hints go out.

A notification is accepted when its rows are committed, and only then answered. Everything a
caller could have got wrong is found here, so that nothing is left to fail at send time. This room
never calls a provider.
"""
