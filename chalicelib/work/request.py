"""What people may ask for: parsing and checking request bodies and queries. Pure.

Every problem is found, not only the first, and named by its JSON pointer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chalicelib.core import timeframes
from chalicelib.core.errors import InvalidRequest, ItemUnreadable, PlanTooLarge
from chalicelib.core.problems import Errors, invalid, problem, unknown_fields, whole
from chalicelib.core.settings import SYMBOL_PATTERN, Settings
from chalicelib.core.symbols import trading
from chalicelib.core.times import parse_time
from chalicelib.webhooks.webhook import Webhook
from chalicelib.webhooks.webhook import parse as parse_webhook
from chalicelib.work import priorities, selector
from chalicelib.work.messages import ALL, FILLS, NEW
from chalicelib.work.selector import SEPARATORS, may_be_new
from chalicelib.work.units import bounds, unit_count

_FIELDS = (
    "symbols",
    "timeframes",
    "start",
    "end",
    "priority",
    "tolerated_failure_percentage",
    "timeout_seconds",
    "webhook",
    "fill",
    "force",
    "retries",
    "retry_backoff_seconds",
)
#: The field of a POST /refresh-symbols body.
_ACCEPT = "accept_refused"
#: Bounds of `timeout_seconds` (a minute, and a week), `retries` and `retry_backoff_seconds`.
_TIMEOUTS, _RETRIES, _BACKOFFS = (60, 604_800), (0, 5), (1, 3_600)


@dataclass(frozen=True)
class CollectionRequest:
    """`symbols`: names, and other entries of work/selector.py, as given; None: every symbol that
    trades. `start_ms` None: from the last stored candle.
    `only`: symbol -> its timeframes, where not every symbol is wanted in all of them.
    `fill`: what of it is asked for (work/messages.py). `accept_refused`: of a symbol refresh, that
    the list which was refused last is right. `force`: start it although the same request runs
    already, and ask for everything once more. `retries`: how many attempts open by themselves, the
    first of them `retry_backoff_seconds` after the end, each other twice as late as the one
    before."""

    symbols: tuple[str, ...] | None
    timeframes: tuple[str, ...]
    start_ms: int | None = None
    end_ms: int | None = None
    priority: str = priorities.NORMAL
    tolerated_failure_percentage: float = 100
    timeout_seconds: int | None = None
    webhook: Webhook | None = None
    only: dict[str, list[str]] | None = None
    accept_refused: bool = False
    fill: str = NEW
    force: bool = False
    retries: int = 0
    retry_backoff_seconds: int = 60

    def timeframes_of(self, symbol: str) -> Sequence[str]:
        return self.timeframes if self.only is None else self.only.get(symbol, ())

    def pack(self) -> bytes:
        """Compressed, because 3,000 symbols would make every write of the task cost more."""
        return zlib.compress(json.dumps(asdict(self), ensure_ascii=False).encode(), 6)

    @classmethod
    def unpack(cls, packed: bytes) -> CollectionRequest:
        """Raises ItemUnreadable where no code of ours, or newer code, packed it."""
        try:
            fields = json.loads(zlib.decompress(packed))
            symbols, webhook = fields.pop("symbols"), fields.pop("webhook", None)
            return cls(
                symbols=None if symbols is None else tuple(symbols),
                timeframes=tuple(fields.pop("timeframes")),
                webhook=None if webhook is None else Webhook.of(webhook),
                **fields,
            )
        except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ItemUnreadable(f"a request cannot be unpacked: {error!r}") from error


def parse_start(
    body: object,
    known: Mapping[str, str] | None,
    settings: Settings,
    now_ms: int,
    *,
    is_sized: bool = True,
) -> CollectionRequest:
    """The request of a POST /start body.

    `is_sized`: whether its windows say how many units it needs.

    `known`: symbol -> status of the catalogue, delisted ones too, None where it was never loaded
    (symbols are then only checked for their form; unknown ones fail as units). Raises
    InvalidRequest with one entry per problem, or PlanTooLarge.
    """
    if not isinstance(body, dict):
        raise InvalidRequest(
            "the body must be a JSON object", [problem("must be a JSON object", "")]
        )
    errors = unknown_fields(body, _FIELDS)
    symbols = _symbols(body, known, settings, errors)
    frames = _timeframes(body, settings, errors)
    start, end = _range(body, now_ms, errors)
    priority = body.get("priority", priorities.NORMAL)
    if priority not in priorities.PRIORITIES:
        errors.append(problem(f"must be one of {', '.join(priorities.PRIORITIES)}", "/priority"))
    tolerated = body.get("tolerated_failure_percentage", 100)
    if (
        isinstance(tolerated, bool)
        or not isinstance(tolerated, (int, float))
        or not 0 <= tolerated <= 100
    ):
        errors.append(problem("must be a number from 0 to 100", "/tolerated_failure_percentage"))
    timeout = whole(
        body, "timeout_seconds", settings.task_timeout_seconds, _TIMEOUTS, errors, " (seconds)"
    )
    backoff = whole(body, "retry_backoff_seconds", 60, _BACKOFFS, errors, " (seconds)")
    retries = whole(body, "retries", 0, _RETRIES, errors)
    webhook = None
    if "webhook" in body:
        webhook, problems = parse_webhook(body["webhook"], settings.webhook_allowed_hosts)
        errors += [problem(detail, f"/webhook{pointer}") for detail, pointer in problems]
    force = body.get("force", False)
    if not isinstance(force, bool):
        errors.append(problem("must be true or false", "/force"))
    fill = body.get("fill", ALL if force is True else NEW)
    if fill not in FILLS:
        errors.append(problem(f"must be one of {', '.join(FILLS)}", "/fill"))
    if errors:
        raise invalid(errors)
    request = CollectionRequest(
        symbols,
        frames,
        start,
        end,
        priority,
        tolerated,
        timeout,
        webhook,
        fill=fill,
        force=force,
        retries=retries,
        retry_backoff_seconds=backoff,
    )
    if is_sized:
        _check_size(request, known, settings, now_ms)
    return request


def parse_refresh(body: object) -> CollectionRequest:
    """The request of a POST /refresh-symbols body. Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise invalid([problem("must be a JSON object", "")])
    errors = unknown_fields(body, (_ACCEPT,))
    accept = body.get(_ACCEPT, False)
    if not isinstance(accept, bool):
        errors.append(problem("must be true or false", f"/{_ACCEPT}"))
    if errors:
        raise invalid(errors)
    return CollectionRequest(symbols=None, timeframes=(), accept_refused=accept)


def unknown_in(body: object, known: Mapping[str, str] | None) -> list[str]:
    """The symbols that a POST /start body names and that may be new on the exchange, each once."""
    named = body.get("symbols") if isinstance(body, dict) else None
    if known is None or not isinstance(named, list):
        return []
    names = (name.removeprefix("!") for name in named if isinstance(name, str))
    return [
        *dict.fromkeys(
            name for name in names if SYMBOL_PATTERN.fullmatch(name) and may_be_new(name, known)
        )
    ]


def _symbols(
    body: dict[str, Any], known: Mapping[str, str] | None, settings: Settings, errors: Errors
) -> tuple[str, ...] | None:
    if "symbols" not in body:
        return settings.default_symbols or None
    given = _strings(body["symbols"], "/symbols", settings.max_symbols, errors)
    return selector.parse(((f"/symbols/{at}", entry) for at, entry in given), known, errors)


def _timeframes(body: dict[str, Any], settings: Settings, errors: Errors) -> tuple[str, ...]:
    if "timeframes" not in body:
        return settings.default_timeframes
    given = _strings(body["timeframes"], "/timeframes", 100, errors)
    for at, timeframe in given:
        if timeframe not in timeframes.LENGTH_MS:
            near = SEPARATORS.sub("", timeframe)
            # As it is first: 1M is a month, and 1m a minute.
            hints = [each for each in (near, near.lower()) if each in timeframes.LENGTH_MS]
            hint = f"; did you mean {hints[0]}?" if hints else ""
            detail = f"must be one of {', '.join(timeframes.LENGTH_MS)}{hint}"
            errors.append(problem(detail, f"/timeframes/{at}"))
    return tuple(dict.fromkeys(timeframe for _, timeframe in given))


def _strings(value: object, pointer: str, most: int, errors: Errors) -> list[tuple[int, str]]:
    """(index, text) of a JSON list of texts; anything else is noted in `errors`."""
    if not isinstance(value, list):
        errors.append(problem("must be a list of texts", pointer))
        return []
    if not value:
        errors.append(problem("must not be empty; leave the field out for all", pointer))
    if len(value) > most:
        errors.append(problem(f"has {len(value)} entries; at most {most} are allowed", pointer))
        return []
    texts = []
    for at, entry in enumerate(value):
        if isinstance(entry, str):
            texts.append((at, entry))
        else:
            errors.append(problem("must be a text", f"{pointer}/{at}"))
    return texts


def _range(body: dict[str, Any], now_ms: int, errors: Errors) -> tuple[int | None, int | None]:
    times: dict[str, int | None] = {"start": None, "end": None}
    for name in times:
        if name not in body:
            continue
        try:
            times[name] = parse_time(body[name])
        except ValueError as error:
            errors.append(problem(str(error), f"/{name}"))
    start, end = times["start"], times["end"]
    if start is not None and start >= now_ms:
        errors.append(problem("must lie in the past", "/start"))
    elif start is not None and end is not None and start >= end:
        errors.append(problem("must be before end", "/start"))
    return start, end


def _check_size(
    request: CollectionRequest,
    known: Mapping[str, str] | None,
    settings: Settings,
    now_ms: int,
) -> None:
    """Raise PlanTooLarge where the windows already say so; needs no look at what is stored.

    What a selector selects is known when it is planned, and counted then.
    """
    if request.symbols is None:
        symbols = max(1, len(trading(known or {})))
    else:
        symbols = len(request.symbols) if selector.is_plain(request.symbols) else 1
    units = 0
    for timeframe in request.timeframes:
        start, end = bounds(
            timeframe, now_ms, request.start_ms, request.end_ms, None, settings.backfill_candles
        )
        units += symbols * unit_count(timeframe, start, end)
    if units > settings.max_units:
        raise too_large(units, settings)


def too_large(units: int, settings: Settings) -> PlanTooLarge:
    return PlanTooLarge(
        f"the request needs at least {units} units (symbol x timeframe x window); a task may have "
        f"{settings.max_units}: ask for fewer symbols or timeframes, or a shorter range"
    )
