"""A run on an endpoint: which tests ran there, which did not, and what those need."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

_REASON = "Skipped: needs "


@dataclass(eq=False)
class Run:
    """A plugin of pytest, which the fixture `endpoint` looks for."""

    url: str
    session: Any
    lacking: frozenset[str]
    #: All that tests may need in vain; None: anything.
    foreseen: frozenset[str] | None = None
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    #: What the endpoint lacks -> the tests that need it.
    not_run: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: (implementation, service) -> calls that reached the endpoint.
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Those alone that call an endpoint."""
        calling = [item for item in items if "endpoint" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in calling])
        items[:] = calling

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.removeprefix("tests/aws/")
        if report.failed:
            self.failed.add(name)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            if not reason.startswith(_REASON):
                self.failed.add(name)  # nothing else may keep a test from running
            self.not_run[reason.removeprefix(_REASON)].add(name)
        elif report.when == "call":
            self.passed.add(name)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.failed or not self.passed or self.unforeseen:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def unforeseen(self) -> set[str]:
        """What tests needed in vain, though nobody said that it may be lacking."""
        return set() if self.foreseen is None else set(self.not_run) - self.foreseen

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(self.url)
        for line in self.lines():
            terminalreporter.write_line(line)
        for need in sorted(self.unforeseen):
            terminalreporter.write_line(f"It is not known to lack {need}.", red=True)

    def lines(self) -> list[str]:
        """What there is to say, as a list of Markdown."""
        found = [f"- {len(self.passed | self.failed)} tests ran, {len(self.failed)} failed."]
        files = Counter(name.partition("::")[0] for name in self.passed)
        if files:
            ran = ", ".join(f"{n} of `{file}`" for file, n in sorted(files.items()))
            found.append(f"- Passed: {ran}.")
        for way in ("signed", "pooled"):
            counts = sorted((name, n) for (each, name), n in self.calls.items() if each == way)
            if counts:
                found.append(f"- Calls, {way}: {', '.join(f'{n} {name}' for name, n in counts)}.")
        for need, names in sorted(self.not_run.items()):
            found.append(f"- {len(names)} did not run, which need {need}:")
            found += [f"  `{test}` ({n})" for test, n in sorted(Counter(map(_test, names)).items())]
        return found


def _test(name: str) -> str:
    return name.partition("[")[0]
