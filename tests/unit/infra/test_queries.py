"""The table for Athena: the files' own columns, where they are; nothing where it is not wanted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chalicelib.candles.candles import Candles
from chalicelib.candles.codec import encode
from chalicelib.candles.objects import folder_of
from chalicelib.core.settings import Settings
from chalicelib.core.timeframes import LENGTH_MS
from infra import queries
from infra.package import package
from infra.template import build

#: What Athena reads a Parquet column as (Athena User Guide, "Data types in Amazon Athena").
ATHENA = {"BIGINT": "bigint", "DOUBLE": "double", "TIMESTAMP WITH TIME ZONE": "timestamp"}


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("athena") / "package"
    wanted = {"ATHENA": "yes", "EXCHANGE": "binance", "PATH": os.environ["PATH"]}
    file = package("dev", out, wanted, for_this_machine=True).template
    lint = [
        str(Path(sys.executable).parent / "cfn-lint"),
        "--regions",
        "us-east-1",
        "--",
        str(file),
    ]
    ran = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["Resources"]
    return found


def test_a_stack_has_none_of_it_unless_it_is_wanted() -> None:
    built = build({})
    kinds = {resource.get("Type", "") for resource in built["Resources"].values()}
    assert not {kind for kind in kinds if kind.startswith(("AWS::Glue", "AWS::Athena"))}
    assert not {name for name in built["Outputs"] if name.startswith("Athena")}
    [versions, uploads] = _rules(built["Resources"])
    assert "Prefix" not in versions | uploads


def test_the_columns_are_those_of_the_files_with_their_types(
    resources: dict[str, Any], tmp_path: Path
) -> None:
    import duckdb

    file = tmp_path / "candles.parquet"
    file.write_bytes(encode(Candles(), {}))
    described = duckdb.sql(f"DESCRIBE FROM read_parquet('{file}')").fetchall()
    columns = resources["CandlesGlueTable"]["Properties"]["TableInput"]["StorageDescriptor"]
    assert [(each["Name"], each["Type"]) for each in columns["Columns"]] == [
        (name, ATHENA[kind]) for name, kind, *_ in described
    ]


def test_the_projection_leads_to_where_the_files_are(resources: dict[str, Any]) -> None:
    table = resources["CandlesGlueTable"]["Properties"]["TableInput"]
    assert [key["Name"] for key in table["PartitionKeys"]] == ["exchange", "timeframe", "symbol"]
    parameters = table["Parameters"]
    template = parameters["storage.location.template"]["Fn::Sub"]
    frames = parameters["projection.timeframe.values"].split(",")
    assert parameters["projection.exchange.values"] == "binance"
    for timeframe, name in zip(LENGTH_MS, frames, strict=True):
        values = {"exchange": "binance", "timeframe": name, "symbol": "BTCUSDT"}
        path = re.sub(r"\$\{!(\w+)\}", lambda found, values=values: values[found[1]], template)
        key = path.removeprefix("s3://${CandlesBucket}/")
        assert key == folder_of("binance", "BTCUSDT", timeframe)


def test_results_expire_and_a_query_cannot_read_everything(resources: dict[str, Any]) -> None:
    group = resources["CandlesWorkGroup"]["Properties"]["WorkGroupConfiguration"]
    assert group["EnforceWorkGroupConfiguration"] is True
    assert group["BytesScannedCutoffPerQuery"] == queries.MOST_BYTES
    where = group["ResultConfiguration"]["OutputLocation"]["Fn::Sub"]
    assert where == "s3://${CandlesBucket}/athena/"
    [rule] = [rule for rule in _rules(resources) if "Prefix" in rule]
    assert (rule["Prefix"], rule["ExpirationInDays"]) == ("athena/", queries.RESULT_DAYS)


def _rules(resources: dict[str, Any]) -> list[dict[str, Any]]:
    properties = resources["CandlesBucket"]["Properties"]
    rules: list[dict[str, Any]] = properties["LifecycleConfiguration"]["Rules"]
    return rules


def test_the_setting_is_yes_or_no() -> None:
    assert queries.resources(Settings(athena="no")) == {}
    assert set(queries.outputs(Settings(athena="yes"))) == {"AthenaDatabase", "AthenaWorkGroup"}
