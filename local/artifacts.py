"""The bucket of what is deployed: code and templates, each stack's under its own name.

    s3://market-data-collector-artifacts-<account>-<region>/<stack>/<sha256>.zip, .json

What a stack runs on stays: CloudFormation reads it again to roll a failed update back. Once another
release has taken its place it is tagged, and what is tagged expires.
Source: Amazon S3 User Guide, "Managing the lifecycle of objects", filters by tag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from infra.names import APP
from local.aws import Account

#: Days after its upload for which a replaced artifact is still there, to look at.
KEPT_DAYS = 30
_REPLACED = {"Key": "replaced", "Value": "yes"}
_LIFECYCLE = {
    "Rules": [
        {
            "ID": "ExpireReplaced",
            "Status": "Enabled",
            "Filter": {"Tag": _REPLACED},
            "Expiration": {"Days": KEPT_DAYS},
        },
        {
            "ID": "AbortIncompleteUploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        },
    ]
}


def bucket_name(to: Account) -> str:
    identity = to.client("sts").get_caller_identity()
    return f"{APP}-artifacts-{identity['Account']}-{to.region_name}"


def make_bucket(to: Account) -> str:
    """The bucket's name; it is made where it is missing."""
    bucket, region, storage = bucket_name(to), to.region_name, to.client("s3")
    where = {} if region == "us-east-1" else {"LocationConstraint": region}
    try:
        storage.create_bucket(
            Bucket=bucket, **({"CreateBucketConfiguration": where} if where else {})
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
    storage.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=_LIFECYCLE)
    return bucket


def upload(to: Account, bucket: str, stack: str, content: bytes, ending: str) -> str:
    """Store `content` under its own hash, and return the key. Stored again, it loses its tag."""
    key = f"{stack}/{hashlib.sha256(content).hexdigest()}.{ending}"
    to.client("s3").put_object(Bucket=bucket, Key=key, Body=content)
    return key


def replace(to: Account, bucket: str, stack: str, current: Iterable[str]) -> None:
    """Let everything of the stack expire but the keys that it runs on now."""
    storage, stay = to.client("s3"), set(current)
    for key in keys(storage, bucket, f"{stack}/"):
        if key not in stay:
            storage.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": [_REPLACED]})


def count(to: Account, bucket: str, prefix: str) -> int:
    """How many objects are under the prefix; 0 where there is no bucket."""
    try:
        return sum(1 for _ in keys(to.client("s3"), bucket, prefix))
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchBucket":
            return 0
        raise


def remove(to: Account, bucket: str, prefix: str) -> int:
    """Delete what is under the prefix, and the bucket once it is empty; how many objects it was.

    Nothing happens where there is no bucket.
    """
    storage, removed = to.client("s3"), 0
    try:
        for key in keys(storage, bucket, prefix):
            storage.delete_object(Bucket=bucket, Key=key)
            removed += 1
        storage.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchBucket", "BucketNotEmpty"):
            raise
    return removed


def keys(storage: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in storage.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (found["Key"] for found in page.get("Contents", ()))
