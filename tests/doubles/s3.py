"""S3 in memory: whole objects with conditional writes (If-Match, If-None-Match)."""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.errors import CallFailed


@dataclass
class Bucket:
    """`objects`: key -> body; `writes`: key -> how often it was written."""

    objects: dict[str, bytes] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)


class S3:
    def __init__(self, buckets: dict[str, Bucket]) -> None:
        self.buckets = buckets

    def apply(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_{operation}")(**parameters)
        return answer

    def _GetObject(self, Bucket: str, Key: str, Range: str | None = None) -> dict[str, Any]:
        body = self._bucket("GetObject", Bucket).objects.get(Key)
        if body is None:
            raise CallFailed("s3", "GetObject", "NoSuchKey", "The specified key does not exist.")
        answer = {"Body": body, "ETag": _etag(body), "ContentLength": len(body)}
        if Range is None:
            return answer
        last = re.fullmatch(r"bytes=-([1-9][0-9]*)", Range)
        if last is None:
            raise NotImplementedError(Range)
        if not body:
            raise CallFailed("s3", "GetObject", "InvalidRange", "The range is not satisfiable")
        part = body[-int(last[1]) :]
        return {**answer, "Body": part, "ContentLength": len(part)}

    def _ListObjectsV2(
        self,
        Bucket: str,
        Prefix: str,
        StartAfter: str = "",
        ContinuationToken: str = "",
        MaxKeys: int = 1000,
    ) -> dict[str, Any]:
        """A token is the last key that was listed. Keys come in the order of their bytes."""
        objects = self._bucket("ListObjectsV2", Bucket).objects
        if len(Prefix.encode()) > 1024:
            raise CallFailed("s3", "ListObjectsV2", "KeyTooLongError", "Your key is too long")
        after = (ContinuationToken or StartAfter).encode()
        keys = sorted(key for key in objects if key.startswith(Prefix) and key.encode() > after)
        listed = keys[: min(MaxKeys, 1000)]
        answer: dict[str, Any] = {
            "Contents": [
                {"Key": key, "Size": len(objects[key]), "ETag": _etag(objects[key])}
                for key in listed
            ],
            "IsTruncated": len(keys) > len(listed),
        }
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = listed[-1]
        return answer

    def _PutObject(
        self,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str = "binary/octet-stream",
        ChecksumCRC32: str | None = None,
        IfMatch: str | None = None,
        IfNoneMatch: str | None = None,
    ) -> dict[str, Any]:
        bucket = self._bucket("PutObject", Bucket)
        stored = bucket.objects.get(Key)
        checksum = b64encode(zlib.crc32(Body).to_bytes(4, "big")).decode()
        if ChecksumCRC32 not in (None, checksum):
            raise CallFailed(
                "s3", "PutObject", "BadDigest", "The CRC32 you specified did not match"
            )
        if len(Key.encode()) > 1024:
            raise CallFailed("s3", "PutObject", "KeyTooLongError", "Your key is too long")
        if IfNoneMatch is not None and IfNoneMatch != "*":
            raise CallFailed("s3", "PutObject", "NotImplemented", "If-None-Match takes *")
        if IfMatch is not None and stored is None:
            raise CallFailed("s3", "PutObject", "NoSuchKey", "The specified key does not exist.")
        late = (IfNoneMatch is not None and stored is not None) or (
            IfMatch is not None and stored is not None and IfMatch != _etag(stored)
        )
        if late:
            raise CallFailed(
                "s3", "PutObject", "PreconditionFailed", "At least one precondition did not hold"
            )
        bucket.objects[Key] = bytes(Body)
        bucket.writes[Key] = bucket.writes.get(Key, 0) + 1
        return {"ETag": _etag(Body)}

    def _bucket(self, operation: str, name: str) -> Bucket:
        if name not in self.buckets:
            raise CallFailed("s3", operation, "NoSuchBucket", name)
        return self.buckets[name]


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
