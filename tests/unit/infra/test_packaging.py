"""The deployment zip, and what packaging refuses."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import LAMBDA_RUNTIMES
from infra import layer, platforms
from infra import package as packaging
from infra.archive import compile_folder, unzipped_bytes
from infra.configuration import LARGEST_ENVIRONMENT, environment, user_settings
from infra.layer import Layer, build
from infra.names import stack_name
from infra.package import LARGEST_MB, ROOT, PackagingFailed, Report, package
from infra.platforms import Platform
from infra.wheels import WheelsMissing

ENVIRON = {"PATH": os.environ["PATH"]}

#: Runs with the unpacked zip as its only library: what is missing there is missing on Lambda.
IMPORT_EVERYTHING = """
import importlib, pathlib, pkgutil, sys
sys.path.insert(0, ".")
import app, chalicelib
for module in pkgutil.walk_packages(chalicelib.__path__, "chalicelib."):
    importlib.import_module(module.name)
import aiobotocore.session, aiohttp, botocore.session
for file in pathlib.Path().rglob("*.so"):
    importlib.import_module(".".join((*file.parts[:-1], file.name.partition(".")[0])))
for name in ("dynamodb", "s3"):
    botocore.session.get_session().create_client(
        name, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
for region, host in (
    ("eu-central-1", "dynamodb.eu-central-1.amazonaws.com"),
    ("cn-north-1", "dynamodb.cn-north-1.amazonaws.com.cn"),
    ("us-gov-west-1", "dynamodb.us-gov-west-1.amazonaws.com"),
):
    client = botocore.session.get_session().create_client(
        "dynamodb", region_name=region, aws_access_key_id="a", aws_secret_access_key="b"
    )
    assert client.meta.endpoint_url == "https://" + host, client.meta.endpoint_url
outside = [
    name for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "")
]
assert not outside, outside
"""


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("archive") / "package"
    return package("local", out, ENVIRON, for_this_machine=True).archive


@pytest.fixture(scope="session")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def test_the_zip_stays_within_its_budget_unzipped(archive: Path) -> None:
    assert unzipped_bytes(archive) <= LARGEST_MB * 1e6
    assert LARGEST_MB == 50


def test_every_module_of_the_application_imports_from_the_zip_alone(unpacked: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_EVERYTHING],
        cwd=unpacked,
        env={"AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_time_zones_come_from_the_zip_where_the_operating_system_has_none(unpacked: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); import zoneinfo; zoneinfo.reset_tzpath(to=()); "
        "from chalicelib.schedules.firings import zone; print(zone('America/Argentina/Ushuaia'))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "America/Argentina/Ushuaia\n", done.stderr


def test_only_the_models_of_services_in_use_are_shipped(unpacked: Path) -> None:
    services = {entry.name for entry in (unpacked / "botocore/data").iterdir() if entry.is_dir()}
    assert services == {"dynamodb", "s3"}


def test_the_laptops_tools_are_not_shipped(unpacked: Path) -> None:
    shipped = {entry.name for entry in unpacked.iterdir()}
    assert not shipped & {
        "tests",
        "local",
        "market_data_collector",
        "infra",
        "pip",
        "setuptools",
        "bin",
        "boto3",
    }
    assert {"app.py", "chalicelib", "chalice"} <= shipped


def test_compiled_code_does_not_ask_for_the_date_of_its_source(unpacked: Path) -> None:
    sources = [path for path in unpacked.rglob("*.py") if path.parent.name != "__pycache__"]
    tag = sys.implementation.cache_tag
    compiled = [path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc" for path in sources]
    assert [path for path in compiled if not path.exists()] == []
    # PEP 552: flags 1 is hash-based, and the second bit would mean "checked".
    assert {path.read_bytes()[4] for path in compiled} == {1}


def test_packaging_twice_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    again = package("local", tmp_path / "package", ENVIRON, for_this_machine=True)
    assert _sha(again.archive) == _sha(archive)


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_bad_setting_ends_packaging_with_one_sentence_and_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.package", "--out", str(tmp_path / "package")],
        cwd=ROOT,
        env={**ENVIRON, "RETENTION_SECONDS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    [sentence] = done.stderr.splitlines()
    assert "RETENTION_SECONDS is 0; it must lie between 1 and 604800" in sentence


def test_the_environment_wins_over_the_stage_and_the_stage_over_the_default(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        "[default]\nbudget_percent = 50\nmax_symbols = 10\nlog_level = 'DEBUG'\n"
        "[dev]\nbudget_percent = 60\nmax_symbols = 20\n"
    )
    chosen = environment("dev", {"BUDGET_PERCENT": "70"}, file)
    assert chosen["BUDGET_PERCENT"] == "70"
    assert chosen["MAX_SYMBOLS"] == "20"
    assert chosen["LOG_LEVEL"] == "DEBUG"


def test_a_resource_name_of_the_shell_never_replaces_the_templates() -> None:
    assert "TASKS_TABLE" not in environment("dev", {"TASKS_TABLE": "someone-elses"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[default]\n[dev]\nretenton_seconds = 5\n", "retenton_seconds"),
        ("[default]\n", "no section"),
        ("[default\n", "cannot be read"),
        ("[dev]\ndefault_timeframes = ['2m']\n", "2m"),
    ],
)
def test_a_settings_file_that_is_wrong_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(content)
    with pytest.raises(SettingsInvalid, match=said):
        environment("dev", {}, file)


def test_settings_that_exceed_lambdas_environment_are_refused() -> None:
    symbols = ",".join(f"SYMBOL{number}USDT" for number in range(300))
    with pytest.raises(SettingsInvalid, match="shorten DEFAULT_SYMBOLS"):
        environment("dev", {"DEFAULT_SYMBOLS": symbols})


@pytest.mark.parametrize("entry", ["quote=", "qoute=USDT", "top=0", "top=3,top=4", "!!AUSDT", "!"])
def test_default_symbols_may_be_selectors_and_wrong_ones_are_never_packaged(entry: str) -> None:
    good = "*USDT,!AUSDT,quote=USDT,top=3"
    assert environment("dev", {"DEFAULT_SYMBOLS": good})["DEFAULT_SYMBOLS"] == good
    with pytest.raises(SettingsInvalid, match="DEFAULT_SYMBOLS names"):
        environment("dev", {"DEFAULT_SYMBOLS": entry})


def test_a_stage_that_chalice_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises((SettingsInvalid, PackagingFailed), match="staging"):
        package("staging", tmp_path / "package", ENVIRON)


def test_requirements_that_cannot_be_installed_are_named(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("nothing==1.0\n")
    with pytest.raises(WheelsMissing, match=r"cannot be installed.*nothing==1\.0"):
        build(requirements, tmp_path / "cache", platforms.here())


def test_functions_run_on_the_runtime_and_processor_that_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def built(requirements: Path, cache: Path, platform: Platform, report: Report) -> Layer:
        asked.append(platform)
        return Layer(build(requirements, cache, platforms.here()).archive, {}, None)

    monkeypatch.setattr(layer, "build", built)
    other = next(runtime for runtime in LAMBDA_RUNTIMES if runtime != platforms.here().runtime)
    lines: list[str] = []
    environ = ENVIRON | {"LAMBDA_RUNTIME": other, "LAMBDA_ARCHITECTURE": "arm64"}
    made = package("dev", tmp_path / "package", environ, lines.append)
    assert asked == [Platform(other, "arm64")]
    resources = json.loads(made.template.read_text())["Resources"].values()
    functions = [each for each in resources if each["Type"] == "AWS::Serverless::Function"]
    ran = {
        (each["Properties"]["Runtime"], *each["Properties"]["Architectures"]) for each in functions
    }
    assert ran == {(other, "arm64")}
    # Nothing of the application is compiled either, and whoever packages is told what that costs.
    with zipfile.ZipFile(made.archive) as opened:
        assert not [
            name for name in opened.namelist() if name.startswith("chalice") and ".pyc" in name
        ]
    assert [line for line in lines if f"{other} is not on this machine" in line]


def test_without_the_runtimes_python_nothing_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "module.py").touch()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.cpython-39.pyc").touch()
    compile_folder(tmp_path, None)
    assert [path.name for path in tmp_path.rglob("*")] == ["module.py"]
    compile_folder(tmp_path, sys.executable)
    assert list(tmp_path.rglob("*.pyc"))


def test_a_library_that_no_function_loads_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = ("botocore-1.0.dist-info/METADATA", "boto3x-1.0.dist-info/METADATA", "boto3x/a.py")
    left_out = (
        "boto3/a.py",
        "boto3-1.0.dist-info/METADATA",
        "arro3_compute-1.0.dist-info/METADATA",
    )
    for name in (*kept, *left_out, "botocore/data/endpoints.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"partitions": []}')
    layer.prune(tmp_path)
    assert [name for name in (*kept, *left_out) if (tmp_path / name).exists()] == [*kept]


def test_a_processor_in_chalices_own_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    config["stages"]["dev"]["lambda_architecture"] = "arm64"
    (tmp_path / ".chalice").mkdir()
    (tmp_path / ".chalice" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(packaging, "ROOT", tmp_path)
    with pytest.raises(PackagingFailed, match=r"set it in settings\.toml"):
        package("dev", tmp_path / "package", ENVIRON)


#: Of any stage and region: the longest there are (CloudFormation adds twelve characters to a name).
_LONGEST = {
    "AWS::StackName": stack_name("ninechars"),
    "AWS::Region": "ap-southeast-2",
    "AWS::URLSuffix": "amazonaws.com.cn",
    "AWS::Partition": "aws-us-gov",
    "AWS::AccountId": "1" * 12,
    "WebsocketAPI": "a" * 10,
}


def _longest(value: Any, resources: dict[str, Any]) -> str:
    """The longest text that a part of the template can become."""
    if isinstance(value, str):
        return value
    [(how, what)] = value.items()
    if how == "Fn::Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda found: _LONGEST[found[1]], what)
    logical = what if how == "Ref" else what[0]
    if logical in _LONGEST:
        return _LONGEST[logical]
    name = f"{_LONGEST['AWS::StackName']}-{logical}-{'x' * 12}"
    place = f"{_LONGEST['AWS::Region']}:{_LONGEST['AWS::AccountId']}"
    if how == "Fn::GetAtt":
        return f"arn:{_LONGEST['AWS::Partition']}:lambda:{place}:function:{name}"
    if resources[logical]["Type"] == "AWS::SQS::Queue":
        host = f"sqs.{_LONGEST['AWS::Region']}.{_LONGEST['AWS::URLSuffix']}"
        return f"https://{host}/{_LONGEST['AWS::AccountId']}/{name}.fifo"
    return name


def test_a_functions_environment_has_room_for_the_longest_settings(
    resources: dict[str, Any],
) -> None:
    settings = {name for name, _, _ in user_settings()}
    for resource in resources.values():
        if resource["Type"] == "AWS::Serverless::Function":
            variables = resource["Properties"]["Environment"]["Variables"]
            own = sum(
                len(name) + len(_longest(value, resources))
                for name, value in variables.items()
                if name not in settings
            )
            assert own + LARGEST_ENVIRONMENT <= 4096  # Lambda Developer Guide, "Lambda quotas"
