"""Compiled libraries are shipped without what only debuggers and linkers read."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from infra import elf

_LIBRARY = importlib.util.find_spec("multidict._multidict")


def test_a_trimmed_library_is_smaller_and_loads(tmp_path: Path) -> None:
    assert _LIBRARY is not None
    assert _LIBRARY.origin is not None
    origin = Path(_LIBRARY.origin)
    whole = origin.read_bytes()
    trimmed = elf.trimmed(whole)
    if sys.platform == "linux":
        assert len(trimmed) < len(whole) / 2
    else:  # no ELF
        assert trimmed == whole
    assert elf.trimmed(trimmed) == trimmed
    (tmp_path / origin.name).write_bytes(trimmed)
    code = (
        "import sys, importlib.util as u; "
        f"spec = u.spec_from_file_location('_multidict', sys.argv[1] + '/{origin.name}'); "
        "module = u.module_from_spec(spec); spec.loader.exec_module(module); "
        "print(module.MultiDict([('a', 1), ('a', 2)]).getall('a'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[1, 2]\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xcf\xfa\xed\xfe of macOS",
        b"\x7fELF\x01\x01 of 32 bits",
        b"\x7fELF\x02\x02 big-endian",
    ],
)
def test_what_is_no_elf_of_lambda_stays_as_it_is(content: bytes) -> None:
    assert elf.trimmed(content) == content
