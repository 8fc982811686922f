"""What outlives a removed stack, and how the next stack of the same name takes it over.

The bucket and the tables with `DeletionPolicy: Retain` have no names of their own: CloudFormation
calls them <stack>-<logical id>-<twelve characters>, the bucket in lower case. By that they are
found again, and imported into the new stack before anything else is made.

Sources: CloudFormation User Guide, "Import AWS resources into a CloudFormation stack" (a template
of nothing but what is imported, without outputs; each with a DeletionPolicy) and "Name type".
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from botocore.exceptions import WaiterError

from local.artifacts import keys
from local.aws import Account

Template = dict[str, Any]

#: Type -> the property that identifies one.
_IDENTIFIERS = {"AWS::S3::Bucket": "BucketName", "AWS::DynamoDB::Table": "TableName"}
#: The table of what is covered, and the bucket that it is about.
_COVERAGE, _COVERED = "MarketTable", "CandlesBucket"
#: Of one stack, both are made within minutes of each other.
_TOGETHER = timedelta(hours=1)
_CHANGE_SET = "adopt-what-was-kept"


class ImportFailed(Exception):
    """The message says why."""


class Kept(NamedTuple):
    """A resource that an earlier stack of the name left, `older`: others, which it left before."""

    type: str
    name: str
    made: datetime
    older: tuple[str, ...] = ()


def find(to: Account, stack: str, template: Template) -> tuple[dict[str, Kept], list[str]]:
    """Logical id -> what is there for it; and the names of what is there and cannot be used.

    Where there are several, the newest was in use last. A table that says what a bucket covers is
    of no use without that very bucket, which was made together with it: it would name candles that
    are not there.
    """
    found = {}
    for logical, resource in template["Resources"].items():
        kind = resource["Type"]
        if resource.get("DeletionPolicy") != "Retain" or kind not in _IDENTIFIERS:
            continue
        start = f"{stack}-{logical}-"
        listed = _buckets(to, start) if kind == "AWS::S3::Bucket" else _tables(to, start)
        newest = sorted(listed, reverse=True)
        if newest:
            (made, name), *older = newest
            found[logical] = Kept(kind, name, made, tuple(name for _, name in older))
    coverage, bucket = found.get(_COVERAGE), found.get(_COVERED)
    if coverage and not (bucket and abs(coverage.made - bucket.made) < _TOGETHER):
        del found[_COVERAGE]
        return found, [coverage.name, *coverage.older]
    return found, []


def import_template(template: Template, found: dict[str, Kept]) -> Template:
    """What is imported, and nothing else.

    Of a bucket no property: the update that follows then sets all of them, whatever a bucket of an
    older release has. A table's indexes cannot be added twice, so it is described as it is.
    """
    resources = {}
    for logical, kept in found.items():
        resource = template["Resources"][logical]
        properties = {} if kept.type == "AWS::S3::Bucket" else resource["Properties"]
        resources[logical] = {
            **{name: part for name, part in resource.items() if name.endswith(("Policy", "Type"))},
            "Properties": {
                name: value
                for name, value in properties.items()
                if all(other in found for other in _references(value))
            },
        }
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def adopt(to: Account, stack: str, template: Template, found: dict[str, Kept]) -> None:
    """Make `stack` of what was found. Raises ImportFailed."""
    formation = to.client("cloudformation")
    which = {"StackName": stack, "ChangeSetName": _CHANGE_SET}
    patience = {"Delay": 1 if to.embedded else 5, "MaxAttempts": 180}
    formation.create_change_set(
        **which,
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(import_template(template, found)),
        ResourcesToImport=[
            {
                "ResourceType": kept.type,
                "LogicalResourceId": logical,
                "ResourceIdentifier": {_IDENTIFIERS[kept.type]: kept.name},
            }
            for logical, kept in found.items()
        ],
    )
    try:
        formation.get_waiter("change_set_create_complete").wait(**which, WaiterConfig=patience)
        formation.execute_change_set(**which)
        formation.get_waiter("stack_import_complete").wait(StackName=stack, WaiterConfig=patience)
    except WaiterError as error:
        why = error.last_response.get("StatusReason") or error
        names = ", ".join(kept.name for kept in found.values())
        raise ImportFailed(f"{names} cannot be taken over: {why}") from error


def source_root(to: Account, bucket: str, exchange: str) -> str | None:
    """The root that the bucket's candles of an exchange's name are from; None where it has none."""
    storage = to.client("s3")
    key = next(keys(storage, bucket, f"candles/exchange={exchange}/"), None)
    if key is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "candles.parquet"
        file.write_bytes(storage.get_object(Bucket=bucket, Key=key)["Body"].read())
        told = duckdb.sql(
            "SELECT decode(value) FROM parquet_kv_metadata($1) WHERE decode(key) = 'source_root'",
            params=[str(file)],
        ).fetchall()
    return str(told[0][0]) if told else None


def _buckets(to: Account, start: str) -> Iterator[tuple[datetime, str]]:
    start = start.lower()
    pages = to.client("s3").get_paginator("list_buckets")
    for page in pages.paginate(Prefix=start, BucketRegion=to.region_name):
        for bucket in page["Buckets"]:
            if bucket["Name"].startswith(start):  # LocalStack lists all
                yield bucket["CreationDate"], bucket["Name"]


def _tables(to: Account, start: str) -> Iterator[tuple[datetime, str]]:
    database = to.client("dynamodb")
    for page in database.get_paginator("list_tables").paginate():
        for name in page["TableNames"]:
            if name.startswith(start):
                yield database.describe_table(TableName=name)["Table"]["CreationDateTime"], name


def _references(value: Any) -> Iterator[str]:
    """The logical ids that a part of a template refers to."""
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "Ref" and not each.startswith("AWS::"):
                yield each
            elif key == "Fn::GetAtt":
                yield each[0] if isinstance(each, list) else each.partition(".")[0]
            elif key == "Fn::Sub":
                text = each if isinstance(each, str) else each[0]
                yield from re.findall(r"\$\{(?!AWS::)([^!.}]+)", text)
            else:
                yield from _references(each)
