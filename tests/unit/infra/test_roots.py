"""The packaged roots, looked for by OpenSSL itself."""

from __future__ import annotations

import ssl
from pathlib import Path

import botocore
import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from infra import roots
from tests.doubles.certificates import self_signed

LETTERS = st.characters(codec="ascii", min_codepoint=0x20, exclude_characters="\x7f")
TEXTS = st.one_of(
    st.tuples(
        st.just(_ASN1Type.UTF8String),
        st.text(st.characters(codec="utf-8", min_codepoint=0x20), min_size=1, max_size=16),
    ),
    st.tuples(st.just(_ASN1Type.PrintableString), st.text("Aa '-.", min_size=1, max_size=16)),
    st.tuples(st.just(_ASN1Type.IA5String), st.text(LETTERS, min_size=1, max_size=16)),
    st.tuples(st.just(_ASN1Type.T61String), st.text("Aa  b", min_size=1, max_size=16)),
    st.tuples(st.just(_ASN1Type.BMPString), st.text("Aaßé ", min_size=1, max_size=16)),
)
OIDS = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
ATTRIBUTES = st.builds(
    lambda oid, text: x509.NameAttribute(oid, text[1], text[0]), st.sampled_from(OIDS), TEXTS
)
PARTS = st.lists(ATTRIBUTES, min_size=1, max_size=2, unique_by=lambda one: one.oid).map(
    x509.RelativeDistinguishedName
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(x509.Name)


def spelled_alike(name: x509.Name) -> str:
    return roots.subject_hash(ssl.PEM_cert_to_DER_cert(certificate(name)[0].decode()))


def certificate(name: str | x509.Name) -> tuple[bytes, bytes]:
    return self_signed(name, x509.DNSName("here"))


def shake_hands(server: Path, trusted: Path) -> None:
    """Raises SSLCertVerificationError."""
    answering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    answering.load_cert_chain(server)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(capath=str(trusted)).wrap_bio(
        back, there, server_hostname="here"
    )
    serving = answering.wrap_bio(there, back, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(side)


@given(st.lists(NAMES, min_size=1, max_size=3, unique_by=spelled_alike))
def test_openssl_finds_each_root_whatever_its_name(
    tmp_path_factory: pytest.TempPathFactory, names: list[x509.Name]
) -> None:
    home = tmp_path_factory.mktemp("roots")
    made = [certificate(name) for name in names]
    roots.write("# A bundle\n" + b"\n".join(pem for pem, _ in made).decode(), home / "roots")
    assert len([*(home / "roots").iterdir()]) == len(names)
    for pem, key in made:
        (home / "server.pem").write_bytes(key + pem)
        shake_hands(home / "server.pem", home / "roots")


def test_who_is_not_there_is_not_trusted(tmp_path: Path) -> None:
    pem, key = certificate("one")
    (tmp_path / "server.pem").write_bytes(key + pem)
    roots.write(certificate("other")[0].decode(), tmp_path / "roots")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "server.pem", tmp_path / "roots")


def test_all_that_botocore_trusts_can_be_named(tmp_path: Path) -> None:
    bundle = (Path(botocore.__file__).parent / "cacert.pem").read_text(encoding="utf-8")
    roots.write(bundle, tmp_path / "roots")
    written = [file.read_text(encoding="ascii") for file in (tmp_path / "roots").iterdir()]
    assert sorted(map(str.strip, written)) == sorted(
        f"-----BEGIN CERTIFICATE-----{part.partition('-----END')[0]}-----END CERTIFICATE-----"
        for part in bundle.split("-----BEGIN CERTIFICATE-----")[1:]
    )
