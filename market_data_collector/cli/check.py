"""`data-collector check`: uses a deployed stack from outside, and says what fails."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from market_data_collector.cli.check_run import (
    HOURS,
    TIMEFRAME,
    CheckRun,
    Failed,
    Untried,
    answered,
)
from market_data_collector.cli.check_step import Step
from market_data_collector.cli.check_steps import STEPS
from market_data_collector.cli.options import everywhere
from market_data_collector.cli.session import Session
from market_data_collector.cli.stack import Stack, aws_errors, stack_option
from market_data_collector.cli.tables import say
from market_data_collector.errors import ApiError
from market_data_collector.locate import VARIABLE

OK, FAILED, UNTRIED, LEFT_OUT = "ok", "FAIL", "-", "out"
STACK_FAILED = 1
RUNBOOK = "docs/RUNBOOK.md"


@click.command()
@click.option("--read-only", is_flag=True, help="Only what changes nothing.")
@click.option(
    "--symbol", metavar="NAME", help="What is collected; else BTCUSDT, or the first listed one."
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice([step.name for step in STEPS]),
    metavar="STEP",
    help="Leave a step out. Repeatable.",
)
@click.option(
    "--limit",
    type=click.FloatRange(min=1),
    default=180,
    show_default=True,
    metavar="SECONDS",
    help="The longest that one wait may take.",
)
@stack_option
@everywhere
@click.pass_obj
def check(
    session: Session,
    read_only: bool,
    symbol: str | None,
    without: tuple[str, ...],
    limit: float,
    stack: str | None,
) -> int:
    """Use a stack from outside, step by step, and say what works.

    It collects a day of one symbol a few times and runs a schedule for a minute or two, which costs
    less than a cent; --read-only does neither. What it made is deleted or cancelled at the end.
    With --stack it finds the API by the stack's outputs, and reads the candles in the bucket.
    Exit code 0: everything works; 1: something does not.
    """
    run = CheckRun(session, limit, read_only, _stack(session, stack), symbol and symbol.upper())
    steps = [step for step in STEPS if step.reads_only or not read_only]
    session.note(_plan(run, steps))
    began = run.session.now()
    results: list[dict[str, Any]] = []
    left: list[str] = []
    try:
        for step in steps:
            results.append(_left_out(step) if step.name in without else _tried(run, step))
            if not session.json:
                session.show(results[-1], _line)
    finally:  # after Ctrl-C, too
        if run.changed:
            left = run.clean_up()
            for sentence in left:
                session.note(f"Not cleaned up: {sentence}")
    failed = [each["step"] for each in results if each["outcome"] == FAILED]
    answer = {
        "ok": not failed and not left,
        "url": run.client.url,
        "read_only": read_only,
        "seconds": round(run.session.now() - began, 2),
        "steps": results,
        "not_cleaned_up": left,
    }
    session.show(answer, _summary)
    return 0 if answer["ok"] else STACK_FAILED


def _stack(session: Session, name: str | None) -> Stack | None:
    """The stack that is named; the API's URL comes from its outputs where none is given."""
    if name is None:
        return None
    stack = Stack(name)
    if session.api_url is None and VARIABLE not in os.environ:
        with aws_errors():
            session.api_url = stack.outputs.get("EndpointURL")
    return stack


def _plan(run: CheckRun, steps: Sequence[Step]) -> str:
    where = f"Checking {run.client.url} in {len(steps)} steps"
    if run.read_only:
        return f"{where}, which change nothing."
    return (
        f"{where}.\n"
        f"It collects {HOURS} candles ({TIMEFRAME}) of {run.chosen_symbol} a few times, "
        "and runs a schedule for a minute or two:\n"
        "some twenty requests to the exchange, and less than a cent on AWS. "
        "Webhooks are not tried: they need a public address.\n"
        "What it makes is deleted or cancelled at the end; the candles stay."
    )


def _left_out(step: Step) -> dict[str, Any]:
    return {"step": step.name, "outcome": LEFT_OUT, "seconds": 0, "detail": "as asked"}


def _tried(run: CheckRun, step: Step) -> dict[str, Any]:
    """Try a step. Raises ApiError where nothing can be reached at all."""
    run.begin(step.name, step.reads_only)
    began = run.session.now()
    result: dict[str, Any] = {"step": step.name, "outcome": OK}
    try:
        result["detail"] = step.work(run)
    except Untried as why:
        result |= {"outcome": UNTRIED, "detail": str(why)}
    except Failed as failed:
        result |= _failure(step, failed.expected, failed.came)
    except ApiError as error:
        if step is STEPS[0] and error.problem.get("reason") == "UNREACHABLE":
            raise  # every other step would wait for the same
        result |= _failure(step, step.expects, answered(error))
    return {**result, "seconds": round(run.session.now() - began, 2)}


def _failure(step: Step, expected: str, came: str) -> dict[str, Any]:
    look_at = f"{RUNBOOK}#{step.look_at.lower().replace(' ', '-')}"
    return {"outcome": FAILED, "expected": expected, "came": came, "look_at": look_at}


def _line(console: Console, result: Mapping[str, Any]) -> None:
    outcome = result["outcome"]
    style = {OK: "green", FAILED: "red"}.get(outcome, "dim")
    line = Text(f"{outcome:<5}", style=style)
    line.append(f"{result['step']:<16}{result['seconds']:>8.2f} s", style="")
    if "detail" in result:
        line.append(f"  {result['detail']}", style="dim")
    console.print(line, soft_wrap=True)
    for name in ("expected", "came", "look_at"):
        if name in result:
            say(console, f"        {name.replace('_', ' ') + ':':<10}{result[name]}")


def _summary(console: Console, answer: Mapping[str, Any]) -> None:
    outcomes = [each["outcome"] for each in answer["steps"]]
    untried = sum(each in (UNTRIED, LEFT_OUT) for each in outcomes)
    parts = [f"{outcomes.count(OK)} ok", f"{outcomes.count(FAILED)} failed"]
    parts += [f"{untried} not tried"] if untried else []
    said = f"{', '.join(parts)}, in {answer['seconds']:.1f} s"
    if answer["not_cleaned_up"]:
        said += "; something is left, see above"
    say(console, said, "green" if answer["ok"] else "red")
