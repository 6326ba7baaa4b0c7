"""The fault wire itself: what it leaves behind would fail whatever test comes next."""

from __future__ import annotations

import gc
import socket

from tests.faults.proxy import Wire


def test_a_wire_that_closes_while_callers_come_leaves_no_socket_behind() -> None:
    """Python tells of a socket that nobody has closed when it is collected; pytest makes that this test's error."""
    for _ in range(10):
        with socket.create_server(("127.0.0.1", 0), backlog=50) as upstream:
            wire = Wire(upstream.getsockname()[1])
            callers = [socket.create_connection(("127.0.0.1", wire.port)) for _ in range(20)]
            wire.close()
            for caller in callers:
                caller.close()
    del wire
    gc.collect()
