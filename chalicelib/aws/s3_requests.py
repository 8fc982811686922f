"""S3's REST API, as far as we need it: objects are read, written and listed.

Sources: Amazon S3 API Reference, GetObject, PutObject, ListObjectsV2 and "Error responses"; S3 User
Guide, "Virtual hosting of buckets".
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from chalicelib.aws.signature import presigned, region

if TYPE_CHECKING:
    from http.client import HTTPMessage

    #: By name, in lower case.
    Headers = Mapping[str, str] | HTTPMessage

Request = tuple[str, str, dict[str, str], bytes]

#: Operation -> its method, and the headers that parameters are sent as.
_OF_OBJECTS = {
    "GetObject": ("GET", {"Range": "range"}),
    "PutObject": (
        "PUT",
        {
            "ChecksumCRC32": "x-amz-checksum-crc32",
            "ContentType": "content-type",
            "IfMatch": "if-match",
            "IfNoneMatch": "if-none-match",
        },
    ),
}
_OF_LIST = {
    "Prefix": "prefix",
    "StartAfter": "start-after",
    "ContinuationToken": "continuation-token",
    "MaxKeys": "max-keys",
}


def request(operation: str, parameters: Mapping[str, Any], url_suffix: str) -> Request:
    """(method, URL, headers, body) of GetObject (Bucket, Key, Range), PutObject (Bucket, Key, Body,
    ChecksumCRC32, ContentType, IfMatch, IfNoneMatch) or ListObjectsV2 (Bucket, Prefix, StartAfter,
    ContinuationToken, MaxKeys)."""
    given = dict(parameters)
    bucket = given.pop("Bucket")
    method, headers, body = "GET", {}, b""
    if operation in _OF_OBJECTS:
        url = object_url(bucket, given.pop("Key"), url_suffix)
        method, names = _OF_OBJECTS[operation]
        headers = {name: given.pop(key) for key, name in names.items() if key in given}
        body = given.pop("Body", b"") if method == "PUT" else b""
    elif operation == "ListObjectsV2":
        query = {name: given.pop(key) for key, name in _OF_LIST.items() if key in given}
        fields = urlencode({"list-type": 2, **query}, quote_via=quote, safe="-_.~")
        url = f"{object_url(bucket, '', url_suffix)}?{fields}"
    else:
        raise ValueError(f"{operation} is not sent: {', '.join(_OF_OBJECTS)} and ListObjectsV2 are")
    if given:
        raise ValueError(f"{operation} is not sent with {', '.join(given)}")
    return method, url, headers, body


def object_url(bucket: str, key: str, url_suffix: str) -> str:
    """Where an object is: below a given endpoint by path, on AWS by the bucket's host name."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    path = quote(key, safe="/-_.~")
    if endpoint:
        return f"{endpoint.rstrip('/')}/{bucket}/{path}"
    return f"https://{bucket}.s3.{region()}.{url_suffix}/{path}"


def presigned_get(bucket: str, key: str, url_suffix: str, now_ms: int, seconds: int) -> str:
    """A URL at which anybody gets the object for so many seconds."""
    moment = time.gmtime(now_ms // 1000)
    url = object_url(bucket, key, url_suffix)
    return presigned(url, region(), os.environ, moment, seconds)


def answer(operation: str, headers: Headers, content: bytes) -> dict[str, Any]:
    """What botocore makes of a good answer, as far as anybody reads it."""
    if operation == "PutObject":
        return {"ETag": headers.get("etag", "")}
    if operation == "GetObject":
        found: dict[str, Any] = {"Body": content, "ETag": headers.get("etag", "")}
        if "content-range" in headers:
            found["ContentRange"] = headers["content-range"]
        return found
    from html import unescape  # its table of names would slow every start down

    text = content.decode()
    listed = [
        {
            "Key": unescape(_element("Key", entry)),
            "Size": int(_element("Size", entry)),
            "ETag": unescape(_element("ETag", entry)),
        }
        for entry in re.findall(r"<Contents>(.*?)</Contents>", text, re.DOTALL)
    ]
    following = unescape(_element("NextContinuationToken", text))
    return {
        "Contents": listed,
        "IsTruncated": _element("IsTruncated", text) == "true",
        **({"NextContinuationToken": following} if following else {}),
    }


def error(status: int, content: bytes) -> dict[str, str]:
    """Code and message of an error's body, as JSON services have them; an answer without a body
    has its status as its code, as botocore has it."""
    text = content.decode(errors="replace")
    return {"__type": _element("Code", text) or str(status), "message": _element("Message", text)}


def _element(name: str, text: str) -> str:
    """The text of the first element of a name; empty where there is none."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return found[1] if found else ""
