"""Options that several commands share, and the reading of times and lists."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

import click

from market_data_collector.locate import KEY_VARIABLE, VARIABLE

SIGN_VARIABLE = "DATA_COLLECTOR_SIGN"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Unit of an epoch time, and how many make a second. Each is meant below 10**11 seconds' worth.
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


class Commands(click.Group):
    """Its list of commands is never cut off: what is long goes on in the next line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, command.get_short_help_str(1000))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def everywhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command takes, before its name and after it."""
    command = click.option(
        "--sign",
        is_flag=True,
        envvar=SIGN_VARIABLE,
        expose_value=False,
        callback=_keep("sign"),
        help=f"Sign requests with your AWS credentials, as ${SIGN_VARIABLE}=1 does.",
    )(command)
    command = click.option(
        "--key",
        metavar="KEY",
        expose_value=False,
        callback=_keep("key"),
        help=f"The API key to send. Better ${KEY_VARIABLE}: others on this machine can read a "
        "command's options. Else api_key in the file that names the API's URL.",
    )(command)
    command = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_keep("json"),
        help="Print one JSON document and nothing else on stdout.",
    )(command)
    command = click.option(
        "--no-color",
        is_flag=True,
        expose_value=False,
        callback=_keep("no_color"),
        help="No colours, as $NO_COLOR says, too.",
    )(command)
    return click.option(
        "--api-url",
        metavar="URL",
        expose_value=False,
        callback=_keep("api_url"),
        help=f"Where the API is, with or without its prefix. Else ${VARIABLE}, else api_url in "
        ".local/endpoints.json here or above, else http://127.0.0.1:8000.",
    )(command)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.obj, name, value)

    return callback


def wait(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--wait", "-w", is_flag=True, help="Stay until the task has ended, showing its progress."
    )(command)


class Time(click.ParamType):
    """An ISO 8601 date or time (UTC unless it says otherwise) or epoch milliseconds, as the
    API's form: ISO 8601 UTC, with milliseconds only where there are some."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        # Eight digits are an ISO date (20240131); ten are the classic mistake, seconds.
        if re.fullmatch(r"\d{9,20}(\.\d*)?", text, re.ASCII):
            unit, moment = _measured(float(text))
            if unit == "milliseconds" and "." not in text:
                return _as_iso(moment)
            self.fail(
                f"{text!r} is in {unit}; did you mean {_as_iso(moment)}? Give a date or "
                "epoch milliseconds.",
                param,
                ctx,
            )
        try:
            moment = datetime.fromisoformat(text)
            return _as_iso(moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC))
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is neither a date like 2024-01-31 or 2024-01-31T12:00 "
                "nor epoch milliseconds.",
                param,
                ctx,
            )


def _measured(number: float) -> tuple[str, datetime]:
    """The unit that an epoch time's size shows, by the API's rule, and the time."""
    unit, a_second = next(
        (each for each in _UNITS.items() if number < 10**11 * each[1]), ("nanoseconds", 10**9)
    )
    return unit, EPOCH + timedelta(milliseconds=int(number * 1000 / a_second))


def _as_iso(moment: datetime) -> str:
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


class Duration(click.ParamType):
    """A whole number of seconds, minutes, hours or days (90s, 30m, 2h, 1d), in seconds."""

    name = "duration"
    _UNITS: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value).strip(), re.ASCII)
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is not like 90s, 30m, 2h or 1d.", param, ctx)
        return int(found[1]) * int(self._UNITS[found[2]])


class HeaderText(click.ParamType):
    """Text that fits into an HTTP header: visible ASCII characters."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"[\x21-\x7e]+", text):
            self.fail("use visible ASCII characters, without spaces.", param, ctx)
        return text


class WebSocketUrl(click.ParamType):
    """Where a WebSocket is: ws(s)://host, without a query, in which the ticket goes."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, a broken IPv6 address
            usable = False
        if not usable or "?" in text or "#" in text:
            self.fail(f"{text!r} is not a URL like wss://host/api, without a query.", param, ctx)
        return text


def listed(values: Iterable[str], what: str) -> list[str]:
    """`A,B` and `C` as A, B, C, each once, in the order given.

    Raises click.UsageError when values were given and none is left: an unset shell variable must
    not turn "these symbols" into "all symbols".
    """
    given = list(values)
    names = [name.strip() for value in given for name in value.split(",")]
    found = list(dict.fromkeys(name for name in names if name))
    if given and not found:
        raise click.UsageError(f"The list of {what} is empty; leave it out to mean all of them.")
    return found


def selected(values: Iterable[str]) -> list[str]:
    """Symbols and selectors as `listed` reads them, in the exchange's spelling: `btcusdt` as
    BTCUSDT, `Quote=usdt` as quote=USDT. Raises click.UsageError."""
    entries = (entry.rpartition("=") for entry in listed(values, "symbols"))
    spelt = (f"{key.lower()}{equals}{value.upper()}" for key, equals, value in entries)
    return list(dict.fromkeys(spelt))
