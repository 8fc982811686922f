"""What the functions run on, and what a setting may ask for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from packaging.markers import default_environment

from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import (
    LAMBDA_ARCHITECTURES,
    LAMBDA_RUNTIMES,
    Settings,
)
from infra import platforms
from infra.platforms import Platform

OWN = f"python{sys.version_info.major}.{sys.version_info.minor}"
OTHER = next(runtime for runtime in LAMBDA_RUNTIMES if runtime != OWN)


@pytest.mark.parametrize("runtime", LAMBDA_RUNTIMES)
@pytest.mark.parametrize("architecture", LAMBDA_ARCHITECTURES)
def test_each_runtime_and_processor_of_lambda_can_be_chosen(
    runtime: str, architecture: str
) -> None:
    settings = Settings(lambda_runtime=runtime, lambda_architecture=architecture)
    assert platforms.chosen(settings) == Platform(runtime, architecture)


def test_where_nothing_is_chosen_lambda_is_like_this_machine() -> None:
    here = platforms.here()
    assert platforms.chosen(Settings()) == Platform(here.runtime, here.architecture)
    assert here.native


@examples(deadline=None)
@given(
    name=st.sampled_from(["LAMBDA_RUNTIME", "LAMBDA_ARCHITECTURE"]),
    value=st.text(max_size=20)
    | st.from_regex(r"python[0-9]\.[0-9]{1,2}", fullmatch=True)
    | st.sampled_from(["python3.10", "python3.15", "nodejs22.x", "aarch64", "amd64", "ARM64"]),
)
def test_what_lambda_does_not_offer_is_refused_by_its_name(name: str, value: str) -> None:
    offered = LAMBDA_RUNTIMES if name == "LAMBDA_RUNTIME" else LAMBDA_ARCHITECTURES
    if value.strip() in ("", *offered):
        from_environ({name: value})
        return
    with pytest.raises(SettingsInvalid, match=f"^{name} is .*; it must be .*{offered[-1]}$"):
        from_environ({name: value})


def test_a_python_that_lambda_does_not_offer_packages_for_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platforms, "_runtime_here", lambda: "python3.15")
    with pytest.raises(SettingsInvalid, match=r"set LAMBDA_RUNTIME to one of python3\.11"):
        platforms.chosen(Settings())
    assert platforms.chosen(Settings(lambda_runtime="python3.13")).runtime == "python3.13"
    assert platforms.here().runtime == "python3.15", "the embedded cloud needs no Lambda"


def test_the_markers_of_a_requirement_are_judged_for_lambda_on_any_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = dict.fromkeys(default_environment(), "elsewhere")
    monkeypatch.setattr(platforms, "default_environment", lambda: elsewhere)
    markers = Platform("python3.12", "arm64").markers()
    assert markers["sys_platform"] == "linux"
    assert markers["platform_machine"] == "aarch64"
    assert markers["python_version"] == "3.12"
    # The release and build of the operating system, which no requirement asks for.
    left = {name for name, value in markers.items() if value == "elsewhere"}
    assert left == {"platform_release", "platform_version"}
    assert platforms.here().markers() == elsewhere


def test_code_is_compiled_only_by_the_released_python_that_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lambdas = Platform(OTHER, "arm64")
    assert lambdas.interpreter() is None
    command = tmp_path / OTHER
    tag = f"cpython-{OTHER.removeprefix('python').replace('.', '')}"
    for said, fits in ((f"{tag} final", True), (f"{tag} beta", False), ("cpython-39 final", False)):
        command.write_text(f"#!/bin/sh\necho {said}\n")
        command.chmod(0o755)
        assert lambdas.interpreter() == (str(command) if fits else None)
    assert platforms.here().interpreter() == sys.executable
    assert Platform(OWN, "arm64").interpreter() == sys.executable
