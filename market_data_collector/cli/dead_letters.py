"""`data-collector dead-letters`: messages that no code could read, kept until a person decides."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from market_data_collector.cli.letters import DeadLetters, Letter
from market_data_collector.cli.options import Commands, everywhere
from market_data_collector.cli.session import Session
from market_data_collector.cli.stack import aws_errors, stack_option
from market_data_collector.cli.tables import say, show_columns
from market_data_collector.cli.values import plain, records, when


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--all", "everything", is_flag=True, help="Every message.")(command)
    return click.argument("ids", nargs=-1, metavar="ID...")(command)


@click.group("dead-letters", cls=Commands)
def dead_letters() -> None:
    """Messages that no code could read: list, show, replay or drop them."""


@dead_letters.command("list")
@stack_option
@everywhere
@click.pass_obj
def list_letters(session: Session, stack: str | None) -> None:
    """List the messages, oldest first."""
    with aws_errors(), DeadLetters(stack).received() as letters:
        views = [letter.view() for letter in letters]
    session.show({"messages": views, "count": len(views)}, _table)


@dead_letters.command("show")
@click.argument("message_id", metavar="ID")
@stack_option
@everywhere
@click.pass_obj
def show_letter(session: Session, message_id: str, stack: str | None) -> None:
    """Show one message whole: its body and its attributes, as they came."""
    with aws_errors(), DeadLetters(stack).received() as letters:
        [letter] = _selected(letters, (message_id,), everything=False)
    session.print_json(letter.view())


@dead_letters.command("replay")
@_chosen
@stack_option
@everywhere
@click.pass_obj
def replay_letters(
    session: Session, ids: tuple[str, ...], everything: bool, stack: str | None
) -> None:
    """Put messages back into their queues, once the code can read them."""
    _each(session, ids, everything, stack, DeadLetters.replay, "replayed")


@dead_letters.command("drop")
@_chosen
@stack_option
@everywhere
@click.pass_obj
def drop_letters(
    session: Session, ids: tuple[str, ...], everything: bool, stack: str | None
) -> None:
    """Delete messages for good."""
    _each(session, ids, everything, stack, DeadLetters.drop, "dropped")


def _each(
    session: Session,
    ids: tuple[str, ...],
    everything: bool,
    stack: str | None,
    work: Callable[[DeadLetters, Letter], None],
    done: str,
) -> None:
    if bool(ids) == everything:
        raise click.UsageError("Name the messages, or give --all.")
    with aws_errors():
        queue = DeadLetters(stack)
        with queue.received() as letters:
            chosen = _selected(letters, ids, everything)
            for letter in chosen:
                work(queue, letter)
    answer = {done: [letter.message_id for letter in chosen]}
    session.show(answer, lambda console, _: say(console, f"{len(chosen)} {done}"))


def _selected(letters: list[Letter], ids: tuple[str, ...], everything: bool) -> list[Letter]:
    """The messages of these ids, or all. Raises click.UsageError where one is not there."""
    missing = [one for one in ids if one not in {letter.message_id for letter in letters}]
    if missing:
        raise click.UsageError(f"There is no message {', '.join(missing)}.")
    return [letter for letter in letters if everything or letter.message_id in ids]


def _table(console: Console, answer: Mapping[str, Any]) -> None:
    found = records(answer["messages"])
    if not found:
        say(console, "No messages.")
        return
    rows = [
        [
            Text(plain(each["id"])),
            Text(when(each["set_aside_at"], "%Y-%m-%d %H:%M:%S")),
            Text(plain(each["source"] or "?")),
            Text(plain(each["error"])),
        ]
        for each in found
    ]
    show_columns(console, ["ID", "SET ASIDE (UTC)", "FROM", "ERROR"], rows)
