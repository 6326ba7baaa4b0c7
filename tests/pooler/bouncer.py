"""A PgBouncer of our own in transaction mode, before the private PostgreSQL."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack
from tests.running import wait_for_port

#: Far fewer sessions than the house has clients, so that each client is given one after another.
SESSIONS = 3


def start(stack: Stack, database_url: str) -> str:
    """Start it; the URL by which it is reached. The test fails where there is no PgBouncer."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.fail("There is no pgbouncer on PATH. Install it (Debian: pgbouncer), or run: make pooler", pytrace=False)
    server, port = urlsplit(database_url), free_port()
    name = server.path.strip("/")
    place = f"host={server.hostname} port={server.port} user={server.username} password={server.password}"
    configuration = f"""
[databases]
{name} = {place} dbname={name}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {SESSIONS}
max_client_conn = 500
server_reset_query_always = 0
"""
    file = stack.data_dir / "pgbouncer.ini"
    Path(file).write_text(configuration)
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to be root, but reads this file before
    stack.spawn("pgbouncer", [program, *account, str(file)])
    wait_for_port(port)
    return f"postgresql://notifier@127.0.0.1:{port}/{name}"
