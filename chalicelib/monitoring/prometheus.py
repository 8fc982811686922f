"""GET /metrics: the state of the collector in Prometheus's text format.

The number of AWS calls and of series is fixed: no label holds a task or a symbol. Gauges are read
on each request. Counters hold only what is counted exactly once (events/totals.py): events of tasks
and webhooks. Units and candles are not counted once over all tasks, so they are CloudWatch metrics
(core/metrics.py) and not here.

Source: Prometheus documentation, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

import sys

from chalicelib.core.backend import Backend
from chalicelib.core.symbols import trading
from chalicelib.core.version import VERSION
from chalicelib.events.totals import COUNTED, Totals
from chalicelib.exchange.catalogue_table import Catalogue, CatalogueTable, Prices
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import MINUTE_MS, LedgerState
from chalicelib.exchange.share import Allowance, weight_limits
from chalicelib.schedules.schedule import MeasuredLag
from chalicelib.schedules.table import LAGS_READ, ScheduleTable
from chalicelib.tasks import states as task_states
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import count_tasks
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.work.queue import WorkQueue

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "data_collector_"
#: Messages of a queue that can be worked on, are being worked on, or wait for their time.
_QUEUE_STATES = ("visible", "in_flight", "delayed")

#: Lags are measured every minute. An older one belongs to a promise that was taken back, or the
#: watch does not run. The series is left out then: an alert sees a missing series, not a stale one.
_MEASURED_WITHIN_MS = 3 * MINUTE_MS
#: Labels, as (name, value) pairs, and a value.
Sample = tuple[dict[str, str], float]


async def metrics_text(backend: Backend, owner: str | None = None) -> str:
    """The whole answer; with `owner`, only what there is of their own tasks.

    Raises CallFailed: a part of it would look like all of it.
    """
    if owner is not None:
        counts = await count_tasks(backend, [owner])
        return "".join([*_build(backend), *_active(counts)])
    now_ms = backend.now_ms()
    rows, all_of_them = await TaskTable(backend).first_active()
    queues = {**await WorkQueue(backend).depths(), **await WebhookQueue(backend).depths()}
    ledger = await Ledger(backend).read()
    market = CatalogueTable(backend)
    catalogue, prices = await market.read_catalogue(), await market.read_prices()
    limits = weight_limits(catalogue, backend.settings)
    totals = await Totals(backend).read()
    schedules, lags = await ScheduleTable(backend).first_lags()
    states = [row.state for row in rows if not row.is_expired(now_ms)]
    return "".join(
        [
            *_build(backend),
            *_tasks(states, all_of_them, totals),
            *_queues(queues),
            *_exchange(ledger, Allowance(ledger.spent_at(now_ms, limits), limits), now_ms),
            *_market(catalogue, prices, now_ms),
            *_freshness(schedules, lags, now_ms),
            *_webhooks(totals),
        ]
    )


def _build(backend: Backend) -> list[str]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    labels = {"version": VERSION, "exchange": backend.settings.exchange, "python": python}
    return _metric("build_info", "gauge", "What answers; always 1.", [(labels, 1)])


def _tasks(states: list[str], all_of_them: bool, totals: dict[str, int]) -> list[str]:
    """`states`: of the active tasks that were found; `all_of_them`: whether there are no more."""
    happened = sorted(name for name in COUNTED if name.startswith("task."))
    return [
        *_active({state: states.count(state) for state in task_states.ACTIVE}),
        *_metric(
            "active_tasks_complete",
            "gauge",
            "0 where there are more active tasks than one read finds, and the two above are less.",
            [({}, int(all_of_them))],
        ),
        *_metric(
            "task_events_total",
            "counter",
            "What happened to tasks, each event counted once.",
            [({"event": name.removeprefix("task.")}, totals.get(name, 0)) for name in happened],
        ),
    ]


def _active(counts: dict[str, int]) -> list[str]:
    of_states: list[Sample] = [({"state": state}, counts[state]) for state in task_states.ACTIVE]
    total = sum(count for _, count in of_states)
    return [
        *_metric("tasks", "gauge", "Tasks that have not ended, by state.", of_states),
        *_gauge("active_tasks", "Tasks that have not ended.", total),
    ]


def _queues(queues: dict[str, dict[str, int]]) -> list[str]:
    samples: list[Sample] = [
        ({"queue": queue, "state": state}, depth[state])
        for queue, depth in queues.items()
        for state in _QUEUE_STATES
    ]
    return _metric("queue_messages", "gauge", "Messages in the queues, approximately.", samples)


def _exchange(ledger: LedgerState, weight: Allowance, now_ms: int) -> list[str]:
    waits_ms = max(0, ledger.paused_until - now_ms)
    values = (
        (
            "exchange_weight_limit",
            "Request weight that all workers may use in a minute.",
            weight.limit,
        ),
        ("exchange_weight_used", "Request weight used in the running minute.", weight.spent.used),
        ("exchange_weight_left", "Request weight left in the running minute.", weight.left),
        (
            "paused",
            "1 while a person has paused all requests to the exchange.",
            int(ledger.hold_at(now_ms) is not None),
        ),
        ("breaker_open", "1 while all workers wait for the exchange.", int(waits_ms > 0)),
        (
            "breaker_open_seconds",
            "For how long they will wait, 0 where they do not.",
            waits_ms / 1000,
        ),
    )
    return [line for name, about, value in values for line in _gauge(name, about, value)]


def _market(catalogue: Catalogue | None, prices: Prices | None, now_ms: int) -> list[str]:
    symbols = catalogue.symbols if catalogue else {}
    lines = [
        *_gauge("catalogue_symbols", "Symbols that the exchange lists.", len(symbols)),
        *_gauge("catalogue_symbols_trading", "Symbols that trade.", len(trading(symbols))),
    ]
    # What was never fetched has no age: a missing series, not a zero.
    if catalogue is not None:
        age_ms = max(0, now_ms - catalogue.refreshed_at)
        lines += _gauge("catalogue_age_seconds", "Age of the list of symbols.", age_ms / 1000)
    if prices is not None:
        age_ms = max(0, now_ms - prices.priced_at)
        lines += _gauge("prices_age_seconds", "Age of the stored prices.", age_ms / 1000)
        lines += _gauge("prices", "Symbols with a stored price.", len(prices.prices))
    return lines


def _freshness(schedules: int, lags: list[MeasuredLag], now_ms: int) -> list[str]:
    worst: dict[str, int] = {}
    for lag in lags:
        if now_ms - lag.measured_at > _MEASURED_WITHIN_MS:
            continue
        for timeframe, seconds in lag.timeframes.items():
            worst[timeframe] = max(seconds, worst.get(timeframe, 0))
    samples: list[Sample] = [({"timeframe": name}, worst[name]) for name in sorted(worst)]
    about = "How late candles are, the worst of what the hundred oldest schedules promise."
    return [
        *_gauge("schedules", "Schedules that are looked after.", schedules),
        *_gauge(
            "freshness_complete",
            "0 where there are more than a hundred schedules, and the lags leave the newer out.",
            int(schedules <= LAGS_READ),
        ),
        *(_metric("freshness_lag_seconds", "gauge", about, samples) if samples else []),
    ]


def _webhooks(totals: dict[str, int]) -> list[str]:
    return _metric(
        "webhook_deliveries_total",
        "counter",
        "Events that reached a webhook, or were given up, each counted once.",
        [
            ({"outcome": outcome}, totals.get(f"webhook.{outcome}", 0))
            for outcome in ("delivered", "failed")
        ],
    )


def _gauge(name: str, about: str, value: float) -> list[str]:
    return _metric(name, "gauge", about, [({}, value)])


def _metric(name: str, kind: str, about: str, samples: list[Sample]) -> list[str]:
    name = PREFIX + name
    lines = [f"# HELP {name} {_escaped(about)}\n", f"# TYPE {name} {kind}\n"]
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_quoted(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value}\n" if pairs else f"{name} {value}\n")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
