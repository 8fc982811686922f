"""Signature Version 4: of requests, and of URLs that whoever holds them may get.

A test signs generated requests with botocore's own signer and compares.

Sources: AWS General Reference, "Create a signed AWS API request"; Amazon S3 API Reference,
"Authenticating Requests: Using Query Parameters".
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED, _CHECKSUM = "UNSIGNED-PAYLOAD", "x-amz-checksum-crc32"
#: What may stay as it is in a name or value of a query, and in a path.
_IN_QUERY, _IN_PATH = "-_.~", "/-_.~"


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    service: str,
    region: str,
    credentials: Mapping[str, str],
    now: time.struct_time,
) -> dict[str, str]:
    """`headers`, and those of Signature Version 4.

    The names and values of a query must be percent-encoded as by `quote(..., safe="-_.~")`. As
    with botocore, a body that S3 checks by a checksum, and TLS guards on its way, is not hashed a
    second time. `credentials` has AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps
    AWS_SESSION_TOKEN.
    """
    parts = urlsplit(url)
    stamp = _stamp(now)
    signed = {
        **{name.lower(): value for name, value in headers.items()},
        "host": parts.netloc,
        "x-amz-date": stamp,
    }
    if service == "s3" and parts.scheme == "https" and _CHECKSUM in signed:
        content = _UNSIGNED
    else:
        content = hashlib.sha256(body).hexdigest()
    if service == "s3":
        signed["x-amz-content-sha256"] = content
    token = credentials.get("AWS_SESSION_TOKEN")
    if token:
        signed["x-amz-security-token"] = token
    path = _canonical_path(service, parts.path)
    names = sorted(signed)
    canonical = _canonical(method, path, parts.query, signed, names, content)
    scope = _scope(stamp, region, service)
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.get('AWS_ACCESS_KEY_ID', '')}/{scope}, "
        f"SignedHeaders={';'.join(names)}, "
        f"Signature={_signature(canonical, stamp, scope, credentials)}"
    )
    return signed


def presigned(
    url: str,
    region: str,
    credentials: Mapping[str, str],
    now: time.struct_time,
    seconds: int,
) -> str:
    """The URL of an object in S3, without a query, as anybody may get it for so many seconds.

    Those of a role's session end with the session, where that is earlier. `credentials` as of
    `sign`.
    """
    parts = urlsplit(url)
    stamp = _stamp(now)
    scope = _scope(stamp, region, "s3")
    fields = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.get('AWS_ACCESS_KEY_ID', '')}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    token = credentials.get("AWS_SESSION_TOKEN")
    if token:
        fields["X-Amz-Security-Token"] = token
    query = "&".join(f"{name}={quote(fields[name], safe=_IN_QUERY)}" for name in fields)
    canonical = _canonical("GET", parts.path, query, {"host": parts.netloc}, ["host"], _UNSIGNED)
    return f"{url}?{query}&X-Amz-Signature={_signature(canonical, stamp, scope, credentials)}"


def region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _stamp(now: time.struct_time) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", now)


def _scope(stamp: str, region: str, service: str) -> str:
    return f"{stamp[:8]}/{region}/{service}/aws4_request"


def _canonical_path(service: str, path: str) -> str:
    """A path is encoded once more than it is sent, except in S3."""
    return path or "/" if service == "s3" else quote(path or "/", safe=_IN_PATH)


def _canonical(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    names: Sequence[str],
    content: str,
) -> str:
    """`names`: of the headers, sorted; `content`: the hash of the body, or what stands for it."""
    return "\n".join(
        [
            method,
            path,
            # By name, then by value: "0=" comes before "00=", though as texts it does not.
            "&".join(sorted(query.split("&"), key=lambda pair: pair.partition("=")[::2])),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            content,
        ]
    )


def _signature(canonical: str, stamp: str, scope: str, credentials: Mapping[str, str]) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = _key(credentials.get("AWS_SECRET_ACCESS_KEY", ""), scope)
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    return hmac.digest(key, text.encode(), "sha256").hex()


@lru_cache(maxsize=16)
def _key(secret: str, scope: str) -> bytes:
    """What signs all requests of a day to one service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
