"""The command-line client: `data-collector`, or `python -m market_data_collector.cli`.

| exit code | meaning |
|---|---|
| 0 | success; with --wait: the task completed and none of its units failed |
| 1 | with --wait: the task ended failed or cancelled; audit verify, check: it fails |
| 2 | wrong usage, a start not confirmed, or a request that the API rejected (4xx); it is said why |
| 3 | with --wait: the task completed, but some of its units failed |
| 4 | the API cannot be reached, answers 5xx, or is not this API |
| 130 | Ctrl-C; a task that was waited for keeps running |
| 141 | the reader of the output went away (a closed pipe, as in `| head`) |

With --json, stdout holds one JSON document whatever happens: the answer, or an RFC 9457 problem.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence

import click
import httpx

from market_data_collector.cli.commands import cli
from market_data_collector.cli.session import INTERRUPTED, Session
from market_data_collector.cli.values import plain
from market_data_collector.errors import ApiError, Expired, Rejected
from market_data_collector.locate import Unusable
from market_data_collector.sockets import Opener, open_socket

REJECTED, UNREACHABLE, CLOSED_PIPE = 2, 4, 141


def main(
    argv: Sequence[str] | None = None,
    *,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
    opener: Opener = open_socket,
) -> int:
    """Runs one command and returns its exit code. `sleep` takes seconds."""
    args = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show "–" gets "?", not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    session = Session(transport=transport, sleep=sleep, opener=opener)
    try:
        code = _run(args, session)
        sys.stdout.flush()
        return code
    except (BrokenPipeError, SystemExit):
        # click and rich both turn a closed pipe into SystemExit, and nothing else.
        # Python flushes stdout once more at its end, which must not fail again.
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return CLOSED_PIPE
    finally:
        session.close()


def _run(args: list[str], session: Session) -> int:
    try:
        code = cli.main(args, prog_name="data-collector", standalone_mode=False, obj=session)
        return code or 0
    except (click.ClickException, Unusable) as unusable:
        error = unusable
        if not isinstance(error, click.ClickException):
            error = click.UsageError(str(unusable))
        wants_json = session.json or "--json" in args
        if _told_apart(wants_json):
            error.show()
        if wants_json:
            session.print_json(
                {
                    "type": "about:blank",
                    "title": "Wrong usage",
                    "detail": error.format_message(),
                    "reason": "USAGE",
                }
            )
        return REJECTED
    except ApiError as error:
        if _told_apart(session.json):
            _report(error)
        if session.json:
            session.print_json(error.problem)
        return REJECTED if isinstance(error, Rejected) else UNREACHABLE
    except click.Abort:
        click.echo("Interrupted. What was accepted keeps running: data-collector tasks", err=True)
        if session.json:
            session.print_json({"title": "Interrupted", "reason": "INTERRUPTED"})
        return INTERRUPTED


def _told_apart(json: bool) -> bool:
    """Whether stderr says it, too: on a terminal a document on stdout says it already."""
    return not (json and sys.stdout.isatty())


def _report(error: ApiError) -> None:
    expired = "The task has expired. " if isinstance(error, Expired) else ""
    said = plain(error)
    if any(entry["detail"] in error.problem["detail"] for entry in error.errors):
        # The detail repeats what is listed below.
        said = f"{plain(error.problem['title'])} ({error.status}):"
    click.echo(f"{expired}{said}", err=True)
    for entry in error.errors:
        pointer = f"{plain(entry['pointer'])}: " if entry.get("pointer") else ""
        click.echo(f"  {pointer}{plain(entry['detail'])}", err=True)


if __name__ == "__main__":
    sys.exit(main())
