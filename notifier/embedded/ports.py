"""Loopback ports for servers that come and go."""

from __future__ import annotations

import secrets
import socket
import sys

HOST = "127.0.0.1"

#: Below the range from which systems hand out ports for outgoing connections (Linux 32768, macOS 49152).
#: Above it, a client that knocks at a stopped server can be given the server's own port, and connects to itself.
FIRST, LAST = 15_000, 29_999
_TRIES = 200
#: Ports of this process, each with the descriptor that reserves it.
_reserved: dict[int, int] = {}


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
    """A port on which nobody listens at this moment, and which no other call gives out while this process lives.

    On Linux the reservation holds on the whole machine: a server may be stopped and started on its port while other
    processes look for theirs. Elsewhere it holds in this process only.
    """
    for _ in range(_TRIES):
        port = FIRST + secrets.randbelow(LAST - FIRST + 1)
        if port not in _reserved and is_free(port) and _reserve(port):
            return port
    raise OSError(f"no free port found between {FIRST} and {LAST}")


def _reserve(port: int) -> bool:
    """Whether `port` is this process's now, until it ends.

    An abstract socket's name can be bound once on a machine, needs no file, and is free when its process is gone
    (unix(7)).
    """
    if sys.platform != "linux":
        _reserved[port] = -1
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0notifier-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved[port] = name.detach()
    return True
