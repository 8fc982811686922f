"""Running the tests of mutants, each mutant in a process of its own.

The tests are collected once. Then each mutant gets a fork of this process, which puts the mutated
code into the functions that are there already: nothing is imported again, and no file is written.
Which tests reach a mutant's lines is recorded first, by running each of them once.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import pytest

from tests.mutation.generate import CHALICELIB, PACKAGES, Mutant

TESTS = Path(__file__).parents[1]
KILLED, SURVIVED, HUNG = "killed", "survived", "killed by timeout"
#: Tests that play thousands of schedules.
_LEFT_OUT = (
    "test_no_schedule_breaks_an_invariant",
    "test_every_mutant_is_killed",
    "test_where_nothing_goes_wrong_no_sweep_is_needed",
)
#: Seconds of tests that a mutant has to survive, measured without it; the nearest come first.
_MOST_SECONDS = 40.0
#: A mutant has this many times as long as its tests take without it, and some seconds to begin.
_PATIENCE, _BEGIN_SECONDS = 5, 10
#: Bytes that a mutant may fill before it counts as killed.
_MOST_MEMORY = 4 << 30

#: Tests that one process records.
_CHUNK = 50
_KEPT = TESTS.parent / "build" / "mutation-reach.pickle"

#: File -> lines of it that a test reached.
Lines = dict[str, set[int]]


class Recorded(NamedTuple):
    """A test by its id, the seconds that it takes, and what it reaches."""

    test: str
    seconds: float
    lines: Lines


class Verdict(NamedTuple):
    """`by`: the first test that failed; None where none did."""

    mutant: Mutant
    verdict: str
    by: str | None


def run(mutants: list[Mutant], jobs: int, report: Callable[[Verdict], None]) -> int:
    """Run every mutant, and call `report` with each verdict. Returns pytest's exit code."""
    for path in {mutant.path for mutant in mutants}:
        importlib.import_module(".".join(path.relative_to(CHALICELIB.parent).with_suffix("").parts))
    folders = [*(TESTS / "unit" / name for name in PACKAGES), TESTS / "handlers"]
    folders.append(TESTS / "simulation")
    left_out = [f"not {name}" for name in _LEFT_OUT]
    with TemporaryDirectory() as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        arguments = [*map(str, folders), "-k", " and ".join(left_out), "-qq"]
        # No limit of time but the mutant's own; no cache and no capture for forks to share.
        arguments += ["-o", "timeout=0", "-p", "no:cacheprovider", "--capture=no"]
        return pytest.main(arguments, plugins=[_Runner(mutants, jobs, report, Path(folder))])


class _Runner:
    """In the place of pytest's own loop over the tests."""

    def __init__(
        self, mutants: list[Mutant], jobs: int, report: Callable[[Verdict], None], folder: Path
    ) -> None:
        self.mutants, self.jobs, self.report, self.folder = mutants, jobs, report, folder
        self.failed: str | None = None
        self.pids: set[int] = set()

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings  # pytest comes first

        # Always the same examples, and no time spent on finding the smallest one.
        settings.register_profile(
            "mutants",
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=[*HealthCheck],
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        with redirect_stderr(StringIO()):  # the cases of some tests are made by code that logs
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self.items = {item.nodeid: item for item in session.items}
        try:
            recorded = self._record()
            functions = _functions({str(mutant.path) for mutant in self.mutants})
            chosen = [(mutant, self._tests_of(mutant, recorded)) for mutant in self.mutants]
            works = ((mutant, self._mutated(mutant, tests, functions)) for mutant, tests in chosen)
            for mutant, status, by in self._forked(works):
                self.report(Verdict(mutant, _verdict_of(status, by), by))
        finally:
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
        return True

    def _tests_of(self, mutant: Mutant, recorded: list[Recorded]) -> list[Recorded]:
        """Those that reach it: the module's own, its package's, the other unit tests, the rest."""
        package, module = mutant.module.split("/")
        layers = (f"unit/{package}/test_{module}.py", f"unit/{package}/", "unit/", "handlers/", "")

        def nearness(test: Recorded) -> tuple[int, float]:
            path = self.items[test.test].path.relative_to(TESTS).as_posix()
            return next(
                at for at, layer in enumerate(layers) if path.startswith(layer)
            ), test.seconds

        reached = (
            test
            for test in recorded
            if not test.lines.get(str(mutant.path), set()).isdisjoint(mutant.lines)
        )
        chosen, seconds = [], 0.0
        for test in sorted(reached, key=nearness):
            seconds += test.seconds
            if chosen and seconds > _MOST_SECONDS:
                break
            chosen.append(test)
        return chosen

    def _mutated(
        self, mutant: Mutant, tests: list[Recorded], functions: dict[Any, list[FunctionType]]
    ) -> Callable[[], str | None]:
        def work() -> str | None:
            seconds = int(_BEGIN_SECONDS + _PATIENCE * sum(test.seconds for test in tests))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
            signal.alarm(10 * seconds)
            is_in_place = False
            for code in _codes(mutant.code()):
                for function in functions.get(_key(code), []):
                    if function.__code__ != code:
                        function.__code__ = code
                        is_in_place = True
            if not is_in_place:
                raise LookupError(f"no function has the code of {mutant.place}")
            for _ in self._play([test.test for test in tests]):
                if self.failed:
                    break
            return self.failed

        return work

    def _record(self) -> list[Recorded]:
        """What every test reaches. Kept for the next run, as long as its file and what it reaches
        stay as they are: a test too few makes no mutant pass for killed."""
        kept: dict[str, tuple[dict[str, str], Recorded]] = {}
        if _KEPT.exists():
            for test, (files_then, one) in pickle.loads(_KEPT.read_bytes()).items():
                if test in self.items and files_then == _contents(files_then):
                    kept[test] = files_then, one
        missing = [test for test in self.items if test not in kept]
        files = {str(path) for name in PACKAGES for path in (CHALICELIB / name).glob("*.py")}

        def recording(at: int, chunk: list[str]) -> Callable[[], str | None]:
            def work() -> str | None:
                recorded, (reached, began) = [], _reaching(files)
                for test in self._play(chunk):
                    recorded.append(Recorded(test, time.process_time() - began, dict(reached)))
                    reached.clear()
                    began = time.process_time()
                (self.folder / f"recorded-{at}").write_bytes(pickle.dumps(recorded))
                return self.failed

            return work

        chunks = {at: missing[at : at + _CHUNK] for at in range(0, len(missing), _CHUNK)}
        works = ((at, recording(at, chunk)) for at, chunk in chunks.items())
        for at, status, by in self._forked(works):
            if status:
                raise pytest.UsageError(f"without any mutant, this fails: {by or status}")
            for one in pickle.loads((self.folder / f"recorded-{at}").read_bytes()):
                kept[one.test] = _contents([str(self.items[one.test].path), *one.lines]), one
        _KEPT.parent.mkdir(exist_ok=True)
        _KEPT.write_bytes(pickle.dumps(kept))
        return [one for _, one in kept.values()]

    def _play(self, tests: Iterable[str]) -> Iterator[str]:
        """Run tests; gives each when it is done."""
        following = [*tests]
        for test, after in zip(following, [*following[1:], None], strict=True):
            item = self.items[test]
            item.config.hook.pytest_runtest_protocol(
                item=item, nextitem=self.items[after] if after else None
            )
            yield test

    def _forked(
        self, works: Iterable[tuple[Any, Callable[[], str | None]]]
    ) -> Iterator[tuple[Any, int, str | None]]:
        """Do each work in a fork, `jobs` at a time; gives (whose, its wait status, what failed)."""
        left, running = iter(works), {}
        while True:
            while len(running) < self.jobs and (following := next(left, None)) is not None:
                whose, work = following
                pid = os.fork()
                if not pid:
                    self._child(work)
                running[pid] = whose
                self.pids.add(pid)
            if not running:
                return
            pid, status = os.wait()
            self.pids.discard(pid)
            said = self.folder / f"said-{pid}"
            by = said.read_text() if said.exists() else None
            said.unlink(missing_ok=True)
            yield running.pop(pid), status, by

    def _child(self, work: Callable[[], str | None]) -> None:
        """Do a work, and end: with 0, with 1 where a test failed, with 2 where the work itself
        did."""
        code = 2
        try:
            os.setsid()
            silence = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(silence, stream)
            failed = work()
            if failed:
                (self.folder / f"said-{os.getpid()}").write_text(failed)
            code = 1 if failed else 0
        except BaseException as error:  # noqa: BLE001 - this process ends here
            (self.folder / f"said-{os.getpid()}").write_text(f"{type(error).__name__} {error}")
        finally:
            os._exit(code)


def _contents(files: Iterable[str]) -> dict[str, str]:
    """Each file, with what changes when its content does."""
    return {file: _content(file) for file in files}


@cache
def _content(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).exists() else ""


def _verdict_of(status: int, by: str | None) -> str:
    if os.WIFSIGNALED(status):
        return HUNG
    code = os.WEXITSTATUS(status)
    if code not in (0, 1):
        raise pytest.UsageError(f"a run of a mutant ended with {code}: {by}")
    return KILLED if code else SURVIVED


def _reaching(files: set[str]) -> tuple[Lines, float]:
    """From now on, which lines of these files are run; and the processor's time now."""
    reached: Lines = {}

    def in_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            reached.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
        return in_line

    def in_call(frame: FrameType, *_: Any) -> Any:
        return in_line if frame.f_code.co_filename in files else None

    sys.settrace(in_call)
    return reached, time.process_time()


def _key(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code, and all within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _functions(files: set[str]) -> dict[tuple[str, str, int], list[FunctionType]]:
    """Every function of these files that exists, wrapped or not, by its place."""
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    gc.unfreeze()  # objects that the collector passes over are not among those that it knows
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename in files:
            found.setdefault(_key(each.__code__), []).append(each)
    return found
