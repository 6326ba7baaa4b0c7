"""Real servers on loopback for the channel tests, and messages to send to them."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from notifier.channels import Message
from notifier.domain.content import Content, DesktopContent, EmailContent, PushContent
from notifier.domain.notification import Priority
from notifier.domain.recipient import Device, Subscription, Target

SECOND = timedelta(seconds=1)
TAG = "0123456789abcdef0123456789abcdef"
MAIL = EmailContent("Payment received", "Thank you.\n", "<p>Thank you.</p>")
PUSH = PushContent("Payment received", "12.50 EUR", url="https://acme.example/p/1", data={"order": "991"})
DESKTOP = DesktopContent("Payment received", "12.50 EUR", url="https://acme.example/p/1", data={"order": "991"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def a_message(content: Content, target: Target, *, tag: str = TAG, priority: Priority = Priority.URGENT,
              ttl: timedelta = timedelta(minutes=5), delivery_id: int = 42, attempt: int = 1) -> Message:  # fmt: skip
    return Message(delivery_id, attempt, tag, target, content, priority, ttl)


def a_mail(to: str = "ada@example.com", content: EmailContent = MAIL, *, delivery_id: int = 42) -> Message:
    return a_message(content, to, delivery_id=delivery_id)


def a_push(content: PushContent = PUSH, *, device: str = "token-1") -> Message:
    return a_message(content, Device(device, "android"))


def b64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Browser:
    """A browser with a Web Push subscription, which can read what it is sent."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = bytes(range(16))

    def subscription(self, endpoint: str) -> Subscription:
        raw = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return Subscription(endpoint, b64url(raw), b64url(self.auth))

    def decrypt(self, body: bytes) -> dict[str, Any]:
        import http_ece

        plain = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        read: dict[str, Any] = json.loads(plain)
        return read


@asynccontextmanager
async def http_server(handler: Handler) -> AsyncIterator[str]:
    """A server that gives every request to `handler`; yields its URL."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(talk: Talk) -> AsyncIterator[int]:
    """A server that lets `talk` do as it likes with each connection; yields its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One HTTP request with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    sizes = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + (await reader.readexactly(int(sizes[0])) if sizes else b"")


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection the hard way (RST)."""
    import socket
    import struct

    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def unused_port() -> int:
    """A port that nobody listens on."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@lru_cache(maxsize=1)
def _rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def a_service_account(token_url: str) -> dict[str, str]:
    """A Google service account whose tokens come from `token_url`."""
    return {
        "type": "service_account",
        "project_id": "acme-push",
        "private_key_id": "1",
        "private_key": _rsa_pem(),
        "client_email": "notifier@acme-push.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_url,
    }


def a_vapid_key(folder: Path) -> Path:
    """A P-256 private key in a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / "vapid.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def a_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_file, key_file
