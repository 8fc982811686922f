"""The region comes from the environment or the profile, for packaging and for deploying alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.package import ROOT
from infra.region import RegionUnknown, region
from local.aws import account

CONFIG = """[default]
region = eu-north-1

[profile mine]
region = ap-southeast-2

[profile bare]
output = json
"""


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with profiles, and an environment without a word on AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return config


CASES = [
    ({}, "eu-north-1"),
    ({"AWS_PROFILE": "mine"}, "ap-southeast-2"),
    ({"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
    ({"AWS_PROFILE": "mine", "AWS_REGION": "eu-west-1"}, "eu-west-1"),
    ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-west-2"}, "eu-west-1"),
    ({"AWS_REGION": "", "AWS_PROFILE": "mine"}, "ap-southeast-2"),
    ({"AWS_REGION": "eu-west-1", "AWS_PROFILE": "nobody"}, "eu-west-1"),
]


@pytest.mark.parametrize(("environ", "expected"), CASES)
def test_the_first_that_names_a_region_wins(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert region(os.environ) == expected
    to = account(os.environ)
    assert to.region_name == expected


def test_clients_and_the_names_of_buckets_follow_the_profiles_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    to = account(os.environ)
    assert to.client("s3").meta.region_name == to.region_name == "ap-southeast-2"


def test_a_profile_without_a_region_is_told_how_to_choose_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "bare")
    with pytest.raises(RegionUnknown, match="set AWS_REGION, for example"):
        account(os.environ)


def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RegionUnknown, match="nobody"):
        account(os.environ)


def test_an_embedded_cloud_asks_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert account(os.environ).region_name == "us-east-1"


def test_a_package_is_built_for_the_profiles_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen through a Chalice that notes its region."""
    (tmp_path / "chalice").mkdir()
    (tmp_path / "chalice" / "__init__.py").touch()
    (tmp_path / "chalice" / "cli.py").write_text(
        "import os\n\n\ndef main():\n    raise SystemExit(os.environ['AWS_DEFAULT_REGION'])\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    code = "from infra import layer, package; built = layer.Layer(None, {}, None); "
    code += "layer.build = lambda *_: built; package.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "chalice package failed:\nap-southeast-2" in done.stderr
