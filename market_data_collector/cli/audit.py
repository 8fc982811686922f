"""`data-collector audit`: what happened, and whether the trail that says so is whole."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console
from rich.text import Text

from market_data_collector.audit_chain import AuditEvent, Fault, verify
from market_data_collector.cli.exports import Exports, read_exports
from market_data_collector.cli.options import Commands, Time, everywhere
from market_data_collector.cli.session import Session
from market_data_collector.cli.tables import cells, say, show_columns
from market_data_collector.cli.values import amount, plain, records, when

BROKEN = 1
#: Kind of subject -> the API's parameter.
PARAMETERS = {"task": "task_id", "schedule": "schedule_id", "market": "exchange", "key": "key_id"}
BEGINNING = "1970-01-01"


@click.group(cls=Commands, invoke_without_command=True)
@click.option("--task", "task_id", metavar="ID", help="Only this task; expired ones too.")
@click.option("--schedule", "schedule_id", metavar="ID", help="Only this schedule.")
@click.option("--exchange", metavar="NAME", help="Only this market, e.g. binance.")
@click.option("--key-id", metavar="ID", help="Only this key.")
@click.option("--from", "from_", type=Time(), help="Recorded then or later (else: 24 hours back).")
@click.option("--to", type=Time(), help="Recorded before then.")
@click.option("--action", help="Only this action, e.g. task.cancelled.")
@everywhere
@click.pass_context
def audit(context: click.Context, /, from_: str | None, **filters: str | None) -> None:
    """Show what happened, who did it and when; `audit verify` proves it unaltered."""
    given: Any = {name: value for name, value in {"from": from_, **filters}.items() if value}
    if context.invoked_subcommand is not None:
        if given:
            raise click.UsageError("give these options to audit itself, without a command")
        return
    session: Session = context.obj
    if "task_id" in given:
        given["task_id"] = session.task_id(given["task_id"])
    with session.busy("Reading the audit trail"):
        found = [*session.client.audit(given.pop("from", None), **given)]
    session.show({"events": found}, _events)


@audit.command("verify")
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "everything", is_flag=True, help="Every chain of which anything is left.")
@click.option(
    "--exports",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A copy of the bucket's audit/ folder: finds what was cut off or made anew.",
)
@click.option(
    "--retention-days", default=400, show_default=True, help="The stack's AUDIT_RETENTION_DAYS."
)
@everywhere
@click.pass_obj
def verify_chains(
    session: Session,
    ids: tuple[str, ...],
    everything: bool,
    exports: Path | None,
    retention_days: int,
) -> int:
    """Recompute the hash chains of ID... (a task, or schedule:ID, market:EXCHANGE, key:ID).

    Exit code 0: no error; 1: something was altered, is missing, out of order or cut off.
    """
    if bool(ids) == everything:
        raise click.UsageError("name the chains to verify, or give --all")
    held = read_exports(exports) if exports else Exports()
    chains = _all_chains(session, held, retention_days) if everything else _chains(session, ids)
    checked = [
        {
            "subject": subject,
            "events": len(events),
            "faults": [
                {"seq": fault.seq, "kind": fault.kind, "detail": fault.detail}
                for fault in _faults(session, subject, events, held, everything)
            ],
        }
        for subject, events in chains.items()
    ]
    broken = [chain for chain in checked if chain["faults"]]
    answer = {
        "ok": not broken and not held.faults,
        "chains": checked,
        "exported_days": held.days,
        "export_faults": held.faults,
    }
    session.show(answer, _verdict)
    return 0 if answer["ok"] else BROKEN


def _chains(session: Session, ids: tuple[str, ...]) -> dict[str, list[AuditEvent]]:
    subjects = []
    for name in ids:
        kind, colon, rest = name.partition(":")
        if not colon or kind not in PARAMETERS:
            kind, rest = "task", name
        subjects.append(f"{kind}:{session.task_id(rest) if kind == 'task' else rest}")
    return {subject: _chain(session, subject) for subject in dict.fromkeys(subjects)}


def _chain(session: Session, subject: str) -> list[AuditEvent]:
    kind, _, name = subject.partition(":")
    filters: Any = {PARAMETERS[kind]: name}
    return _events_in(session.client.audit(**filters))


def _events_in(events: Iterable[Any]) -> list[AuditEvent]:
    """Events as the API gave them: verifying finds out whether they are what they should be."""
    return cast("list[AuditEvent]", [*events])


def _all_chains(
    session: Session, held: Exports, retention_days: int
) -> dict[str, list[AuditEvent]]:
    """Every chain, from one pass over all days; the exports' ones too that should still be there.

    Sorted by number: the pass is in the order of recording, by clocks that differ a little.
    """
    chains: dict[str, list[AuditEvent]] = defaultdict(list)
    for event in _events_in(session.client.audit(BEGINNING)):
        chains[str(event.get("subject"))].append(event)
    kept_since = datetime.now(UTC).date() - timedelta(days=retention_days)
    for subject, day in held.last_day.items():
        if day > kept_since.isoformat():
            chains.setdefault(subject, [])
    return {subject: sorted(events, key=_seq) for subject, events in sorted(chains.items())}


def _seq(event: AuditEvent) -> int:
    seq: object = event.get("seq")
    return seq if isinstance(seq, int) else 0


def _faults(
    session: Session,
    subject: str,
    events: list[AuditEvent],
    held: Exports,
    again: bool,
) -> list[Fault]:
    exported = held.known.get(subject)
    faults = verify(subject, events, exported)
    if faults and again and subject.partition(":")[0] in PARAMETERS:
        # The days' index lags behind the chains by moments; what counts is the chain itself.
        faults = verify(subject, _chain(session, subject), exported)
    return faults


def _events(console: Console, answer: Mapping[str, Any]) -> None:
    found = records(answer.get("events"))
    if not found:
        say(console, "No events.")
        return
    subjects = {plain(event.get("subject")) for event in found}
    rows = []
    for event in found:
        own = [] if len(subjects) == 1 else cells(event, "subject")
        late = " (late)" if event.get("late") is True else ""
        rows.append(
            [
                Text(when(event.get("at"), "%Y-%m-%d %H:%M:%S")),
                *own,
                *cells(event, "seq", "attempt", "action", "by"),
                Text(plain(event.get("detail")) + late),
            ]
        )
    subject = [] if len(subjects) == 1 else ["SUBJECT"]
    names = ["AT (UTC)", *subject, "SEQ", "ATTEMPT", "ACTION", "BY", "DETAIL"]
    show_columns(console, names, rows, right="SEQ|ATTEMPT")


def _verdict(console: Console, answer: Mapping[str, Any]) -> None:
    for chain in answer["chains"]:
        events = f"{amount(chain['events'])} event{'' if chain['events'] == 1 else 's'}"
        if not chain["faults"]:
            say(console, f"{plain(chain['subject'])}: {events}, no error")
        for fault in chain["faults"]:
            line = f"{plain(chain['subject'])}: {fault['kind']}: {plain(fault['detail'])}"
            say(console, line, "red")
    for fault in answer["export_faults"]:
        say(console, f"export: {plain(fault)}", "red")
    total, broken = len(answer["chains"]), sum(bool(chain["faults"]) for chain in answer["chains"])
    days = f", against {len(answer['exported_days'])} exported days"
    against = days if answer["exported_days"] else ""
    verdict = "no error" if not broken else f"{amount(broken)} broken"
    say(console, f"{amount(total)} chain{'' if total == 1 else 's'} verified{against}, {verdict}")
