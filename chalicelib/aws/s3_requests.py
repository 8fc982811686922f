"""S3's REST API, as far as functions without an SDK need it: reading objects and listing them.

Sources: Amazon S3 API Reference, GetObject, ListObjectsV2 and "Error responses"; S3 User Guide,
"Virtual hosting of buckets".
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

Request = tuple[str, str, dict[str, str], bytes]

_OF_LIST = {
    "Prefix": "prefix",
    "StartAfter": "start-after",
    "ContinuationToken": "continuation-token",
    "MaxKeys": "max-keys",
}


def request(operation: str, parameters: Mapping[str, Any], url_suffix: str) -> Request:
    """(method, URL, headers, body) of GetObject (Bucket, Key, Range) or ListObjectsV2 (Bucket,
    Prefix, StartAfter, ContinuationToken, MaxKeys)."""
    given = dict(parameters)
    bucket = given.pop("Bucket")
    if operation == "GetObject":
        url = object_url(bucket, given.pop("Key"), url_suffix)
        headers = {"range": given.pop("Range")} if "Range" in given else {}
    elif operation == "ListObjectsV2":
        query = {name: given.pop(key) for key, name in _OF_LIST.items() if key in given}
        fields = urlencode({"list-type": 2, **query}, quote_via=quote, safe="-_.~")
        url, headers = f"{object_url(bucket, '', url_suffix)}?{fields}", {}
    else:
        raise NotImplementedError(operation)
    if given:
        raise NotImplementedError(f"{operation} with {', '.join(given)}")
    return "GET", url, headers, b""


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


def answer(operation: str, headers: HTTPMessage, content: bytes) -> dict[str, Any]:
    """What botocore makes of a good answer, as far as anybody reads it."""
    if operation == "GetObject":
        found: dict[str, Any] = {"Body": content, "ETag": headers.get("ETag", "")}
        if "Content-Range" in headers:
            found["ContentRange"] = headers["Content-Range"]
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


def error(content: bytes) -> dict[str, str]:
    """Code and message of an error's body, as JSON services have them."""
    text = content.decode(errors="replace")
    code = _element("Code", text)
    return {"__type": code, "message": _element("Message", text)} if code else {}


def _element(name: str, text: str) -> str:
    """The text of the first element of a name; empty where there is none."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return found[1] if found else ""
