"""The usual roots of TLS as OpenSSL reads them one by one: a file for each, named by its subject.

Reading all of them from one file takes a sixth of a function's start, and a function needs two.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
#: Tags of DER (ITU-T X.690). A version is there in all but the oldest certificates.
_UTF8_STRING, _SEQUENCE, _SET, _VERSION = 0x0C, 0x30, 0x31, 0xA0
#: Texts of a name, and how they are written: UTF-8, Printable, T61, IA5, Visible, Universal, BMP.
_TEXTS = {
    _UTF8_STRING: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


class _Value(NamedTuple):
    tag: int
    content: bytes

    @property
    def encoded(self) -> bytes:
        length = len(self.content)
        if length < 0x80:
            return bytes([self.tag, length]) + self.content
        size = (length.bit_length() + 7) // 8
        return bytes([self.tag, 0x80 | size]) + length.to_bytes(size, "big") + self.content


def write(bundle: str, folder: Path) -> None:
    """Write the certificates of a PEM bundle into `folder`, which OpenSSL may then be given."""
    folder.mkdir()
    for pem in _PEM.findall(bundle):
        name = subject_hash(ssl.PEM_cert_to_DER_cert(pem))
        number = len([*folder.glob(f"{name}.*")])
        (folder / f"{name}.{number}").write_text(pem, encoding="ascii")


def subject_hash(certificate: bytes) -> str:
    """By which OpenSSL looks for who has signed: SHA-1 of the subject, whichever way it is spelled.

    Source: OpenSSL, `X509_NAME_hash_ex` and `x509_name_canon`: texts in UTF-8, in lower case and
    with single spaces; the sequence without its own header; the first four bytes, little-endian.
    RFC 5280, 4.1, for where the subject is.
    """
    (whole,) = _values(certificate)
    signed = next(iter(_values(whole.content)))
    fields = [each for each in _values(signed.content) if each.tag != _VERSION]
    _serial, _algorithm, _issuer, _validity, subject, *_ = fields
    canonical = b"".join(_canonical(part) for part in _values(subject.content))
    return f"{int.from_bytes(hashlib.sha1(canonical).digest()[:4], 'little'):08x}"


def _canonical(part: _Value) -> bytes:
    pairs = []
    for pair in _values(part.content):
        name, value = _values(pair.content)
        if value.tag in _TEXTS:
            text = value.content.decode(_TEXTS[value.tag]).encode()
            value = _Value(_UTF8_STRING, b" ".join(text.lower().split()))
        pairs.append(_Value(_SEQUENCE, name.encoded + value.encoded).encoded)
    return _Value(_SET, b"".join(sorted(pairs))).encoded


def _values(content: bytes) -> Iterator[_Value]:
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(content[at : at + size], "big"), at + size
        yield _Value(tag, content[at : at + length])
        at += length
