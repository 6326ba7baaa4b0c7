"""Loopback ports for servers that come and go."""

from __future__ import annotations

import secrets
import socket

HOST = "127.0.0.1"

#: Below the range from which systems hand out ports for outgoing connections (Linux 32768, macOS 49152).
#: Above it, a client that knocks at a stopped server can be given the server's own port, and connects to itself.
FIRST, LAST = 15_000, 29_999
_TRIES = 200
#: Handed out already: who got one may not listen on it yet.
_given: set[int] = set()


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        # As servers do: connections of the last run that are still fading away do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port on which nobody listens at this moment; somebody else may take it before you do."""
    for _ in range(_TRIES):
        port = FIRST + secrets.randbelow(LAST - FIRST + 1)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port found between {FIRST} and {LAST}")
