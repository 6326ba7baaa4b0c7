"""The process: its ports, its end, and HTTP at the edges."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from notifier.sandbox import SandboxBusy, start
from tests.sandbox.house import House, eventually

PROGRAM = """
import sys, pathlib
from notifier.sandbox import run
run(data_dir=pathlib.Path(sys.argv[1]), port=0, smtp_port=0)
"""


@asynccontextmanager
async def process(data_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A sandbox as a process of its own, up and listening."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(data_dir))
    where = data_dir / "sandbox.json"

    async def is_up() -> bool:
        return where.exists() and json.loads(where.read_bytes())["pid"] == child.pid

    try:
        await eventually(is_up, within=30)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_a_killed_sandbox_has_forgotten_nothing_and_comes_back(data_dir: Path) -> None:
    async with aiohttp.ClientSession() as session:
        async with process(data_dir) as child:
            url = json.loads((data_dir / "sandbox.json").read_bytes())["url"]
            body = {"FromEmailAddress": "a@b.example", "Destination": {"ToAddresses": ["ada@shop.example"]}}
            content = {"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hi"}}}}
            for _ in range(3):
                async with session.post(f"{url}/v2/email/outbound-emails", json=body | {"Content": content}) as answer:
                    assert answer.status == 200
            os.kill(child.pid, signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
        async with process(data_dir) as child:
            url = json.loads((data_dir / "sandbox.json").read_bytes())["url"]
            async with session.get(f"{url}/ledger/summary") as answer:
                assert (await answer.json())["calls"] == 3
            child.terminate()
            assert await child.wait() == 0
    assert not (data_dir / "sandbox.json").exists()


async def test_one_data_directory_serves_one_sandbox(house: House) -> None:
    with pytest.raises(SandboxBusy):
        await start(data_dir=house.data_dir)
    assert (await house.ask("GET", "/livez")).json == {"status": "ok"}


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(OSError, match="in use"):
        await start(data_dir=other, port=house.sandbox.port)
    await (await start(data_dir=other)).close()


async def test_the_public_url_is_what_clients_are_told(data_dir: Path) -> None:
    public = "https://sandbox.acme.example"
    sandbox = await start(data_dir=data_dir, public_url=public + "/")
    base = f"http://127.0.0.1:{sandbox.port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}/fcm/service-account.json") as answer:
            assert (await answer.json())["token_uri"] == f"{public}/token"
        async with session.post(f"{base}/webpush/subscriptions", json={"id": "a"}) as answer:
            assert (await answer.json())["endpoint"] == f"{public}/webpush/a"
    await sandbox.close()


async def test_closing_does_not_wait_for_calls_that_hang(house: House) -> None:
    await house.faults({"action": "hang"})
    hanging = asyncio.create_task(house.push())
    await eventually(house.ledger)
    async with asyncio.timeout(5):
        await house.sandbox.close()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    await house.restart()


async def talk(house: House, said: bytes) -> bytes:
    """What comes back on one connection until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.sandbox.port)
    try:
        writer.write(said)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_requests_in_a_row_are_answered_in_their_order(house: House) -> None:
    await house.faults({"action": "delay", "seconds": 0.05})
    body = json.dumps({"Content": {}}).encode()
    asked = b"POST /v2/email/outbound-emails HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    answer = await talk(
        house,
        b"GET /ledger HTTP/1.1\r\n\r\n" + asked + b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 ") == 3
    assert answer.index(b'"items"') < answer.index(b"BadRequestException") < answer.index(b'"ok"')


async def test_a_chunked_body_after_a_100_continue_is_read(house: House) -> None:
    answer = await talk(
        house,
        b"PUT /faults HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b'8\r\n{"faults\r\n5\r\n":[]}\r\n0\r\n\r\n',
    )
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", b"431"),
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"DELETE /livez HTTP/1.0\r\n\r\n", b"404"),
    ],
)
async def test_what_is_no_request_of_ours_is_refused(house: House, said: bytes, status: bytes) -> None:
    assert (await talk(house, said)).startswith(b"HTTP/1.1 " + status)


async def test_a_body_without_end_is_cut_off(house: House) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 0x100000

    async with asyncio.timeout(20):
        try:
            async with house.session.post(f"{house.sandbox.url}/token", data=endless()) as answer:
                assert answer.status == 413
        except aiohttp.ClientError:
            pass  # cut off before the answer could be read
    assert (await house.ask("GET", "/livez")).status == 200
