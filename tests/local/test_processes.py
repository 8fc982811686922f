"""Parts of a stack are found in the list of processes, and end with all that they started."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from local.processes import parts, start, stop, stop_strays
from tests.local.conftest import Begin
from tests.local.waiting import until

#: Writes a second file when it is asked to end, and ends.
ORDERLY = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[2]).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""
#: Starts the script of its second argument, which wants no end, and writes its pid into the third.
WITH_A_CHILD = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, sys.argv[2]])
pathlib.Path(sys.argv[3]).write_text(str(child.pid))
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def pids(home: Path) -> list[int]:
    return [part.process.pid for part in parts(home)]


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def worker(home: Path) -> Path:
    """The script of a function's process, where the embedded cloud puts it."""
    script = home / "tmp" / "ministack-lambda-Collect-1" / "_worker.py"
    script.parent.mkdir(parents=True)
    script.write_text(STUBBORN, encoding="utf-8")
    return script


def test_a_part_is_known_by_its_name_and_ended(home: Path, begin: Begin) -> None:
    begin(home, "exchange")
    [part] = parts(home)
    assert part.name == "exchange"
    assert part.is_at_home(home)
    stop(part.process)
    assert parts(home) == []
    assert not part.process.is_running()


@pytest.mark.parametrize("name", ["a b", "x -m y", "-X stack=cloud:1-1:z", "ü%20\n1"])
def test_a_folder_may_have_any_name(tmp_path: Path, begin: Begin, name: str) -> None:
    home = tmp_path / name / ".local"
    home.mkdir(parents=True)
    process = begin(home)
    assert [part.folder for part in parts(home)] == [str(home)]
    assert pids(home) == [process.pid]


def test_a_copy_does_not_find_the_originals_parts(home: Path, begin: Begin, tmp_path: Path) -> None:
    begin(home)
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    assert parts(copy) == []
    assert len(parts(home)) == 1


def test_a_moved_folder_finds_its_parts_and_knows_that_it_moved(
    home: Path, begin: Begin, tmp_path: Path
) -> None:
    process = begin(home)
    moved = tmp_path / "moved"
    home.rename(moved)
    [part] = parts(moved)
    assert part.process.pid == process.pid
    assert not part.is_at_home(moved)


def test_a_folder_that_was_made_anew_finds_what_ran_there(home: Path, begin: Begin) -> None:
    process = begin(home)
    # Kept elsewhere, so that the new folder cannot get the old one's number.
    home.rename(home.with_name("gone"))
    home.mkdir()
    [part] = parts(home)
    assert part.process.pid == process.pid
    assert not part.is_at_home(home)


def test_a_pid_that_belongs_to_another_program_by_now_is_left_alone(
    home: Path, begin: Begin
) -> None:
    process = begin(home)
    stop(replace(process, started="another boot/1"), patience_s=0.1)
    assert process.is_running()


def test_a_part_ends_in_order_even_where_it_was_halted(
    home: Path, begin: Begin, tmp_path: Path
) -> None:
    process = begin(home, "cloud", ORDERLY, str(tmp_path / "ended"))
    os.kill(process.pid, signal.SIGSTOP)
    stop(process)
    assert (tmp_path / "ended").exists()
    assert not process.is_running()


def test_a_part_ends_with_what_it_started(home: Path, begin: Begin, tmp_path: Path) -> None:
    script, pid_file = worker(home), tmp_path / "pid"
    process = begin(home, "cloud", WITH_A_CHILD, str(script), str(pid_file))
    child = int(pid_file.read_text())
    assert runs(child)
    stop(process)
    until(lambda: not runs(child))


def test_functions_of_a_killed_cloud_are_ended_and_nobody_elses(
    home: Path, begin: Begin, tmp_path: Path
) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    process = begin(home, "cloud", WITH_A_CHILD, str(worker(home)), str(ours))
    begin(home, "cloud", WITH_A_CHILD, str(worker(tmp_path / "other")), str(others))
    os.kill(process.pid, signal.SIGKILL)
    stop_strays(home)
    until(lambda: not runs(int(ours.read_text())))
    assert runs(int(others.read_text()))


def test_a_program_that_names_a_file_of_the_stack_is_no_part_of_it(
    home: Path, tmp_path: Path
) -> None:
    editor = [sys.executable, "-c", STUBBORN, str(home / "tmp"), str(home / "processes.json")]
    process = start(editor, os.environ, tmp_path, tmp_path / "log")
    try:
        assert parts(home) == []
        stop_strays(home)
        assert process.is_running()
    finally:
        stop(process, patience_s=0.1)
