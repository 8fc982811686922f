"""TLS's roots for functions on a laptop."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from local.cloud import _roots


@pytest.mark.parametrize(
    ("name", "variable"), [("cafile", "SSL_CERT_FILE"), ("capath", "SSL_CERT_DIR")]
)
def test_roots_that_python_has_are_used(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    found = ssl.get_default_verify_paths()._replace(**{"cafile": None, "capath": None, name: "/a"})
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    assert _roots() == {variable: "/a"}


def test_a_python_without_roots_gets_those_of_the_clients_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = ssl.get_default_verify_paths()._replace(cafile=None, capath=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    file = Path(_roots()["SSL_CERT_FILE"])
    assert b"BEGIN CERTIFICATE" in file.read_bytes()
