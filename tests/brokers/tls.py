"""TLS in front of a server that has none (the Valkey of the wheel): certificates by a CA of our own, and a door."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from notifier.embedded.ports import HOST, free_port

_CHUNK = 1 << 16


class Authority:
    """A CA in a folder: `ca` is its certificate, `issue` makes one for a host, with its key, in one file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.ca = folder / "ca.pem"
        made = self._certificate(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.ca.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: x509.GeneralName) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        made = self._certificate(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName([name]), critical=False
        )
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path = self._folder / "server.pem"
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, *form)
            + made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )


#: The address under which our servers listen, and one under which none does.
OURS = x509.IPAddress(ipaddress.ip_address(HOST))
ANOTHERS = x509.DNSName("another.example")


class Door:
    """Listens with TLS on `port`, and passes everything on to `upstream` without it."""

    def __init__(self, upstream: int, certificate: Path) -> None:
        self.port = free_port()
        self._upstream = upstream
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._serve, HOST, self.port, ssl=self._context)

        # Who mistrusts the certificate leaves in the middle of the handshake: that is what the tests are about.
        self._loop.set_exception_handler(lambda *_: None)
        server = self._loop.run_until_complete(listen())
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, inward = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, inward), _pass_on(inner, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
