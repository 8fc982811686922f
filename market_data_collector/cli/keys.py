"""`data-collector keys`: who may call the API. For admins."""

from collections.abc import Mapping
from typing import Any, get_args

import click
from rich.console import Console
from rich.text import Text

from market_data_collector.answers import Scope
from market_data_collector.cli import tables
from market_data_collector.cli.options import Commands, Time, everywhere
from market_data_collector.cli.session import Session
from market_data_collector.cli.values import plain, records, texts, when

SCOPES = get_args(Scope)


@click.group(cls=Commands, invoke_without_command=True)
@everywhere
@click.pass_context
def keys(context: click.Context) -> None:
    """List API keys; or create, rotate and revoke one. Needs an admin's key."""
    if context.invoked_subcommand is None:
        _list(context.obj)


@keys.command("list")
@everywhere
@click.pass_obj
def list_keys(session: Session) -> None:
    """List every key, with its owner and what became of it."""
    _list(session)


@keys.command()
@click.argument("owner")
@click.option(
    "--scope",
    "-s",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What it allows; repeatable. collect allows what read does, admin everything.",
)
@click.option("--expires", type=Time(), help="ISO date or time (UTC), or epoch ms; else never.")
@everywhere
@click.pass_obj
def create(session: Session, owner: str, scopes: tuple[Scope, ...], expires: str | None) -> None:
    """Make a key for OWNER, and show it this once."""
    session.show(session.client.create_key(owner, list(scopes), expires), _shown)


@keys.command()
@click.argument("key_id", metavar="ID")
@everywhere
@click.pass_obj
def rotate(session: Session, key_id: str) -> None:
    """Give a key another secret, and show it this once; the old one stops within a minute."""
    session.show(session.client.rotate_key(session.key_id(key_id)), _shown)


@keys.command()
@click.argument("key_id", metavar="ID")
@everywhere
@click.pass_obj
def revoke(session: Session, key_id: str) -> None:
    """End a key for good, within a minute."""
    key_id = session.key_id(key_id)
    answer = session.client.revoke_key(key_id)
    session.show(answer, tables.say, f"Key {plain(key_id)} revoked")


# --- what is printed ------------------------------------------------------------------------------


def _list(session: Session) -> None:
    session.show({"keys": [*session.client.keys()], "next_page_token": None}, _table)


def _table(console: Console, answer: Mapping[str, Any]) -> None:
    rows = [
        [
            Text(plain(entry.get("key_id"))),
            Text(plain(entry.get("status"))),
            Text(" ".join(texts(entry.get("scopes")))),
            Text(when(entry.get("last_used_at"), "%Y-%m-%d %H:%M")),
            Text(plain(entry.get("owner"))),
        ]
        for entry in records(answer.get("keys"))
    ]
    if not rows:
        tables.say(console, "No keys. Make one: data-collector keys create --help")
        return
    tables.show_columns(console, ("ID", "STATUS", "SCOPES", "LAST USED (UTC)", "OWNER"), rows)


def _shown(console: Console, answer: Mapping[str, Any]) -> None:
    tables.pairs(
        console,
        {
            "ID": plain(answer.get("key_id")),
            "Owner": plain(answer.get("owner")),
            "Scopes": " ".join(texts(answer.get("scopes"))),
            "Expires": when(answer.get("expires_at")),
        },
    )
    tables.say(console, "The key, shown this once:")
    # Whole, however narrow the terminal is.
    console.print(Text(plain(answer.get("key"))), soft_wrap=True)
