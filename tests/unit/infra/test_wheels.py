"""Wheels for Lambda's Python and processor, taken by pip on a machine of another kind."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from chalicelib.core.settings import LAMBDA_ARCHITECTURES, LAMBDA_RUNTIMES
from infra import pins, platforms, wheels
from infra.platforms import Platform
from infra.wheels import WheelsMissing

ALL = [
    Platform(python, processor) for python in LAMBDA_RUNTIMES for processor in LAMBDA_ARCHITECTURES
]


class Index:
    """A folder of wheels, and a locked file for them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "index"
        self._folder.mkdir()
        self.lock = folder / "requirements.txt"
        self.options = ["--no-index", "--find-links", str(self._folder)]

    def add(self, name: str, tag: str, needs: str = "") -> str:
        """The SHA-256 of a wheel of version 1.0 for `tag`, whose module holds the tag."""
        file, info = self._folder / f"{name}-1.0-{tag}.whl", f"{name}-1.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        with zipfile.ZipFile(file, "w") as wheel:
            wheel.writestr(f"{name}.py", f"TAG = {tag!r}\n")
            wheel.writestr(
                f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" * bool(needs))
            )
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def pin(self, line: str, *digests: str) -> None:
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests)
        with self.lock.open("a") as file:
            file.write(f"{line}{hashes}\n    # via something\n")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


@pytest.mark.parametrize(
    ("platform", "fits"),
    [
        (Platform("python3.11", "x86_64"), "cp311-cp311-manylinux_2_17_x86_64"),
        (Platform("python3.13", "arm64"), "cp313-cp313-manylinux_2_28_aarch64"),
    ],
)
def test_the_wheel_of_lambdas_python_and_processor_is_taken(
    index: Index, tmp_path: Path, platform: Platform, fits: str
) -> None:
    tags = [
        *("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_28_x86_64"),
        *("cp311-cp311-manylinux_2_17_aarch64", "cp313-cp313-manylinux_2_28_x86_64"),
        *("cp313-cp313-manylinux_2_28_aarch64", "cp313-cp313-manylinux_2_39_aarch64"),
        *("cp313-cp313-macosx_11_0_arm64", "cp314-cp314-manylinux_2_28_aarch64"),
    ]
    digests = {tag: index.add("thing", tag) for tag in tags}
    index.pin("thing==1.0", *digests.values())
    found = wheels.install(index.lock, tmp_path / "out", platform, *index.options)
    assert found == {"thing": digests[fits]}
    assert fits in (tmp_path / "out" / "thing.py").read_text()


@pytest.mark.parametrize(
    "platform", [Platform("python3.11", "arm64"), Platform("python3.14", "arm64")]
)
def test_markers_count_for_lambda_and_not_for_the_machine_that_packages(
    index: Index, tmp_path: Path, platform: Platform
) -> None:
    tag, here = "py3-none-any", platforms.here().python
    needed_here = f"absent; python_version == '{here}' and python_version != '{platform.python}'"
    index.pin("thing==1.0", index.add("thing", tag, needed_here))
    index.pin("backport==1.0 ; python_full_version < '3.12'", index.add("backport", tag))
    index.pin("colours==1.0 ; sys_platform == 'win32'", index.add("colours", tag))
    index.pin("metal==1.0 ; platform_machine == 'aarch64'", index.add("metal", tag))
    found = wheels.install(index.lock, tmp_path / "out", platform, *index.options)
    assert set(found) == {"thing", "metal"} | ({"backport"} if platform.python == "3.11" else set())


def test_a_wheel_that_is_not_the_one_that_was_locked_is_refused(
    index: Index, tmp_path: Path
) -> None:
    index.add("thing", "py3-none-any")
    index.pin("thing==1.0", "0" * 64)
    with pytest.raises(WheelsMissing, match=r"(?i)hash"):
        wheels.install(index.lock, tmp_path / "out", platforms.here(), *index.options)


def test_a_pin_without_a_hash_is_refused(index: Index, tmp_path: Path) -> None:
    index.add("thing", "py3-none-any")
    index.pin("thing==1.0")
    with pytest.raises(WheelsMissing, match=r"(?i)hash"):
        wheels.install(index.lock, tmp_path / "out", platforms.here(), *index.options)


def test_a_package_without_a_wheel_there_is_named(index: Index, tmp_path: Path) -> None:
    index.pin("thing==1.0", index.add("thing", "cp313-cp313-manylinux_2_28_x86_64"))
    with pytest.raises(WheelsMissing, match=r"No matching .* thing==1\.0"):
        wheels.install(
            index.lock, tmp_path / "out", Platform("python3.13", "arm64"), *index.options
        )


def test_the_check_has_a_line_for_each_platform_and_counts_those_that_lack_a_wheel(
    tmp_path: Path,
) -> None:
    asked: list[Platform] = []

    def resolve(lock: Path, folder: Path, platform: Platform, *options: str) -> wheels.Digests:
        assert options == ("--dry-run",)
        asked.append(platform)
        if platform == Platform("python3.14", "arm64"):
            raise WheelsMissing("no thing")
        return {"thing": "0" * 64, "other": "1" * 64}

    lines: list[str] = []
    assert wheels.check(tmp_path / "requirements.txt", resolve, lines.append) == 1
    assert asked == ALL
    assert lines[0] == "python3.11 x86_64: 2 wheels"
    assert lines[-1] == "python3.14 arm64: no thing"
    assert len(lines) == len(ALL) == 8


def test_what_ships_is_locked_for_each_platform_once() -> None:
    locked = pins.read(wheels.ROOT / "requirements.txt")
    for platform in [*ALL, platforms.here()]:
        names = [pin.name for pin in pins.wanted(locked, platform.markers())]
        assert len(names) == len(set(names))
        assert {"botocore", "aiohttp", "arro3-core"} <= set(names)
