"""Whom servers are held against, by what is set and what is packaged."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest

from chalicelib.core import tls
from infra import roots

BUNDLE = Path(botocore.__file__).parent / "cacert.pem"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "roots"
    roots.write(BUNDLE.read_text(encoding="utf-8"), folder)
    monkeypatch.setattr(tls, "FOLDER", str(folder))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    tls.trusting.cache_clear()
    yield folder
    tls.trusting.cache_clear()


def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a context is made of."""
    given: dict[str, Any] = {}
    made = ssl.create_default_context

    def noted(**how: Any) -> ssl.SSLContext:
        given.update(how)
        return made(**how)

    monkeypatch.setattr(ssl, "create_default_context", noted)
    tls.trusting()
    return given


def test_of_the_packaged_roots_none_is_read_before_it_is_needed(packaged: Path) -> None:
    context = tls.trusting()
    assert context.cert_store_stats()["x509"] == 0
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_without_a_package_the_systems_roots_are_used(
    packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "FOLDER", str(packaged / "none"))
    assert asked(monkeypatch) == {"capath": None}


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_what_is_told_goes_before_the_packaged_roots(
    packaged: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(BUNDLE if name == "SSL_CERT_FILE" else packaged))
    assert asked(monkeypatch) == {"capath": None}


def test_a_bundle_for_aws_is_read_beside_them(
    packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(BUNDLE))
    assert tls.trusting().cert_store_stats()["x509"] > 100
