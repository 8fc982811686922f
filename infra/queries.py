"""Athena over the candles bucket, where the setting ATHENA says so: a Glue table with partition
projection, and a workgroup.

Which partitions there are is computed from the query and never stored, so a new symbol or timeframe
is there at once. `symbol` is injected: a query must name the ones that it wants. Types are those of
the files (candles/codec.py).

Sources: Amazon Athena User Guide, "Use partition projection with Amazon Athena", "Supported types
for partition projection" and "Data types in Amazon Athena"; AWS CloudFormation Template Reference,
AWS::Glue::Table, AWS::Athena::WorkGroup.
"""

from __future__ import annotations

from typing import Any

from chalicelib.candles.candles import COLUMNS
from chalicelib.core.settings import Settings
from chalicelib.core.timeframes import LENGTH_MS, folder

Resource = dict[str, Any]

#: Where results of queries are, in the candles bucket, and for how long.
RESULTS, RESULT_DAYS = "athena/", 7
#: A query that would read more is ended: at 5 dollars a terabyte this is five cents.
MOST_BYTES = 10 * 1024**3
_TYPES = {"q": "bigint", "d": "double"}
_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"


def resources(settings: Settings) -> dict[str, Resource]:
    """Database, table and workgroup; nothing where the setting is `no`."""
    if settings.athena == "no":
        return {}
    return {
        "CandlesDatabase": {
            "Type": "AWS::Glue::Database",
            "Properties": {
                "CatalogId": {"Ref": "AWS::AccountId"},
                "DatabaseInput": {"Name": _database_name()},
            },
        },
        "CandlesGlueTable": {
            "Type": "AWS::Glue::Table",
            "Properties": {
                "CatalogId": {"Ref": "AWS::AccountId"},
                "DatabaseName": {"Ref": "CandlesDatabase"},
                "TableInput": _table(settings.exchange),
            },
        },
        "CandlesWorkGroup": {
            "Type": "AWS::Athena::WorkGroup",
            "Properties": {
                "Name": {"Ref": "AWS::StackName"},
                # With the queries that it remembers; or it could not be deleted.
                "RecursiveDeleteOption": True,
                "WorkGroupConfiguration": {
                    "EnforceWorkGroupConfiguration": True,
                    "PublishCloudWatchMetricsEnabled": False,
                    "BytesScannedCutoffPerQuery": MOST_BYTES,
                    "ResultConfiguration": {
                        "OutputLocation": {"Fn::Sub": f"s3://${{CandlesBucket}}/{RESULTS}"},
                        "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"},
                    },
                },
            },
        },
    }


def outputs(settings: Settings) -> dict[str, Any]:
    if settings.athena == "no":
        return {}
    names = {"AthenaDatabase": "CandlesDatabase", "AthenaWorkGroup": "CandlesWorkGroup"}
    return {name: {"Value": {"Ref": resource}} for name, resource in names.items()}


def expiry(settings: Settings) -> list[Resource]:
    """The rule by which results leave the candles bucket."""
    if settings.athena == "no":
        return []
    return [
        {
            "Id": "ExpireQueryResults",
            "Status": "Enabled",
            "Prefix": RESULTS,
            "ExpirationInDays": RESULT_DAYS,
        }
    ]


def _database_name() -> Resource:
    """The stack's, with `_` for `-`: SQL takes it without quotes."""
    return {"Fn::Join": ["_", {"Fn::Split": ["-", {"Ref": "AWS::StackName"}]}]}


def _table(exchange: str) -> Resource:
    times = ("open_time", "close_time", "answered_at")
    columns = {
        name: "timestamp" if name in times else _TYPES[code] for name, code in COLUMNS.items()
    }
    candles = "s3://${CandlesBucket}/candles/"
    partitions = "exchange=${!exchange}/timeframe=${!timeframe}/symbol=${!symbol}/"
    return {
        "Name": "candles",
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": [
            {"Name": name, "Type": "string"} for name in ("exchange", "timeframe", "symbol")
        ],
        "Parameters": {
            "classification": "parquet",
            "projection.enabled": "true",
            "projection.exchange.type": "enum",
            "projection.exchange.values": exchange,
            "projection.timeframe.type": "enum",
            "projection.timeframe.values": ",".join(map(folder, LENGTH_MS)),
            "projection.symbol.type": "injected",
            "storage.location.template": {"Fn::Sub": candles + partitions},
        },
        "StorageDescriptor": {
            "Location": {"Fn::Sub": candles},
            "Columns": [{"Name": name, "Type": kind} for name, kind in columns.items()],
            "InputFormat": f"{_PARQUET}.MapredParquetInputFormat",
            "OutputFormat": f"{_PARQUET}.MapredParquetOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": f"{_PARQUET}.serde.ParquetHiveSerDe",
                "Parameters": {"serialization.format": "1"},
            },
        },
    }
