"""A certificate for 127.0.0.1, so that what is measured pays for TLS as on the real network."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import certifi
from cryptography import x509

from tests.doubles.certificates import self_signed


def server_context(folder: Path) -> ssl.SSLContext:
    """A server's TLS with the self-signed certificate in `folder`, which is made where it is not
    there yet, with the bundle of its clients."""
    if not bundle(folder).exists():
        _make(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def bundle(folder: Path) -> Path:
    return folder / "bundle.pem"


def _make(folder: Path) -> None:
    shown, secret = self_signed("benchmark", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    (folder / "key.pem").write_bytes(secret)
    (folder / "certificate.pem").write_bytes(shown)
    # All the usual roots besides ours: reading them is part of every client's start.
    bundle(folder).write_bytes(Path(certifi.where()).read_bytes() + b"\n" + shown)
