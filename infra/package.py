"""Packaging: `python -m infra.package --stage dev --out build/package`.

Chalice writes the template and packages the application alone, in a folder of its own with empty
requirements; the requirements come from a zip that is built once per set of pins. So only the first
packaging takes longer than a second or two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.core.environ import from_environ
from chalicelib.core.errors import SettingsInvalid
from infra import (
    archive,
    authentication,
    configuration,
    layer,
    names,
    platforms,
    sbom,
    snapshot,
    template,
    wheels,
)
from infra.platforms import Platform
from infra.region import RegionUnknown, region

ROOT = configuration.ROOT
#: Lambda's limit is 250; this is our own budget.
LARGEST_MB = 50
Report = Callable[[str], None]


class PackagingFailed(Exception):
    """The message says why in one sentence."""


@dataclass(frozen=True)
class Package:
    folder: Path

    @property
    def template(self) -> Path:
        return self.folder / "sam.json"

    @property
    def archive(self) -> Path:
        return self.folder / "deployment.zip"

    @property
    def bill_of_materials(self) -> Path:
        """What is in the zip, as CycloneDX."""
        return self.folder / "sbom.cdx.json"


def package(
    stage: str,
    out: Path,
    environ: Mapping[str, str],
    report: Report = lambda line: None,
    for_this_machine: bool = False,
    cache: Path = ROOT / "build" / "cache",
) -> Package:
    """Build the template, the zip and the list of what is in the zip of `stage` into `out`.

    `for_this_machine`: the embedded cloud runs functions as processes of this machine, whatever its
    operating system; otherwise the zip is for Lambda's Linux.
    Raises SettingsInvalid, wheels.WheelsMissing or PackagingFailed.
    """
    with _timed("settings", report):
        names.require_fit(stage)
        variables = configuration.environment(stage, environ)
        _require_known(stage)
        platform = (
            platforms.here() if for_this_machine else platforms.chosen(from_environ(variables))
        )
    with _timed("requirements", report):
        base = layer.build(ROOT / "requirements.txt", cache, platform, report)
        if base.interpreter is None:
            report(
                f"nothing is compiled, because {platform.runtime} is not on this machine: "
                "cold starts take two to three times as long. Install it, or package with it"
            )
    staging = out.parent / f"{out.name}.staging"
    with _timed("template", report):
        _stage_project(staging, variables)
        _run_chalice(staging, stage, {**environ, **variables})
    with _timed("zip", report):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        built = Package(out)
        finished = json.loads((staging / "out" / "sam.json").read_text(encoding="utf-8"))
        authentication.require(finished, from_environ(variables))
        snapshot.follow_api(finished)
        _run_on(platform, finished)
        _write_json(built.template, finished)
        code = staging / "code"
        with zipfile.ZipFile(staging / "out" / "deployment.zip") as application:
            application.extractall(code)
        archive.compile_folder(code, base.interpreter)
        archive.write(code, built.archive, base.archive)
        shutil.rmtree(staging)
        _write_json(built.bill_of_materials, sbom.of(built.archive, base.digests, platform))
    size_mb = archive.unzipped_bytes(built.archive) / 1e6
    report(f"{built.archive.stat().st_size / 1e6:.1f} MB, {size_mb:.1f} MB unzipped")
    if size_mb > LARGEST_MB:
        raise PackagingFailed(f"the package is {size_mb:.1f} MB unzipped, above {LARGEST_MB} MB")
    return built


def _require_known(stage: str) -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))
    # Chalice takes an unknown stage silently, without any of its settings.
    if stage not in config["stages"]:
        raise PackagingFailed(f"the stage {stage!r} is not in .chalice/config.json")
    if "lambda_architecture" in config | config["stages"][stage]:
        raise PackagingFailed(
            "lambda_architecture of .chalice/config.json does not count: set it in settings.toml"
        )


def _run_on(platform: Platform, finished: dict[str, Any]) -> None:
    """Chalice itself has functions run on the Python that packages them, and on x86_64."""
    for resource in finished["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["Runtime"] = platform.runtime
            resource["Properties"]["Architectures"] = [platform.architecture]


def _stage_project(staging: Path, variables: dict[str, str]) -> None:
    """A copy of what Chalice reads, with no requirements and the merge template."""
    shutil.rmtree(staging, ignore_errors=True)
    (staging / ".chalice").mkdir(parents=True)
    config = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))
    shutil.copy(ROOT / ".chalice" / "config.json", staging / ".chalice")
    shutil.copy(ROOT / ".chalice" / config["iam_policy_file"], staging / ".chalice")
    shutil.copy(ROOT / "app.py", staging)
    shutil.copytree(
        ROOT / "chalicelib",
        staging / "chalicelib",
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
    )
    # Chalice puts what is in `vendor` at the root of the zip.
    shutil.copytree(ROOT / "console", staging / "vendor" / "console")
    (staging / "vendor" / "docs").mkdir()
    contract = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    # Without spaces: half of its size.
    text = json.dumps(contract, ensure_ascii=False, separators=(",", ":"))
    (staging / "vendor" / "docs" / "openapi.json").write_text(text, encoding="utf-8")
    (staging / "requirements.txt").touch()
    _write_json(staging / "merge.json", template.build(variables))


def _run_chalice(staging: Path, stage: str, environ: Mapping[str, str]) -> None:
    # Chalice wants a region for the names of service principals; packaging calls nothing.
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    code = "from chalice.cli import main; main()"
    command = [sys.executable, "-c", code, "package", "--stage", stage]
    done = subprocess.run(
        [*command, "--merge-template", "merge.json", "out"],
        cwd=staging,
        env={**environ, "AWS_DEFAULT_REGION": region},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PackagingFailed("chalice package failed:\n" + (done.stderr or done.stdout).strip())


@contextmanager
def _timed(what: str, report: Report) -> Iterator[None]:
    started = time.monotonic()
    yield
    report(f"{what}: {time.monotonic() - started:.1f} s")


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the template and the deployment zip.")
    parser.add_argument("--stage", default="dev")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "package")
    parser.add_argument("--for-this-machine", action="store_true", help="for the embedded cloud")
    given = parser.parse_args()
    native = given.for_this_machine
    try:
        # The embedded cloud's region is none of the profile's business.
        chosen = None if native else region(os.environ)
        environ = {**os.environ, **({"AWS_REGION": chosen} if chosen else {})}
        package(given.stage, given.out, environ, report=print, for_this_machine=native)
    except (SettingsInvalid, RegionUnknown, PackagingFailed, wheels.WheelsMissing) as error:
        print(f"Packaging failed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
