"""What a step of `data-collector check` is."""

from collections.abc import Callable
from typing import NamedTuple

from market_data_collector.cli.check_run import CheckRun


class Step(NamedTuple):
    """`routes`: of the API, as docs/openapi.json names them. `look_at`: a heading of
    docs/RUNBOOK.md. `expects`: what the step needs to come, where the API answers with an error.
    `work` returns what it found, in a few words. It raises Failed, Untried where something before
    it is missing, or ApiError."""

    name: str
    routes: tuple[str, ...]
    look_at: str
    reads_only: bool
    expects: str
    work: Callable[[CheckRun], str]


def step(
    name: str, *routes: str, look_at: str, reads_only: bool = False
) -> Callable[[Callable[[CheckRun], str]], Step]:
    """Makes a function a step, which expects what its docstring says."""

    def made(work: Callable[[CheckRun], str]) -> Step:
        expects = (work.__doc__ or "").strip().removesuffix(".")
        return Step(name, routes, look_at, reads_only, expects, work)

    return made
