"""`data-collector open`: the web console, in a browser where there is one."""

import webbrowser

import click

from market_data_collector.cli.options import everywhere
from market_data_collector.cli.session import Session
from market_data_collector.cli.tables import say
from market_data_collector.locate import console_url


@click.command("open")
@everywhere
@click.pass_obj
def open_console(session: Session) -> None:
    """Open the web console in the browser, and print where it is.

    Where there is no browser, as on a server, it prints the address alone.
    """
    url = console_url(session.client.url)
    session.show({"url": url, "opened": not session.json and webbrowser.open(url)}, say, url)
