"""What one unit (symbol, timeframe, window) costs in requests (DynamoDB, S3, SQS) and in dollars.

One task of 300 symbols in 6 timeframes, planned and collected on the AWS in memory: first with
nothing stored, then for what an hour has added, then a day. Receives and deletes are computed,
because the functions do not make them: one of each per batch of the event source. A test holds the
same counts for fewer symbols (tests/unit/spending).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.report import Report, verdict
from chalicelib.aws import prices
from chalicelib.core import times
from chalicelib.core.times import DAY, HOUR
from chalicelib.work.units import BATCH_MESSAGES
from tests.doubles.spending import (
    GETS,
    PUTS,
    SQS,
    WRITE_UNITS,
    Following,
    hours_of,
    objects_of_first_run,
    objects_of_next_run,
)

SYMBOLS = 300
YEAR = 2026
#: What is written at any hour: the budget of a first run is for the mean, because how many objects
#: it writes depends on the date.
_ALWAYS = {WRITE_UNITS: 0.8, SQS: 0.5}
#: Of the price of a GB-second (aws.amazon.com/lambda/pricing).
ARM64_LESS = 0.2
DOLLARS = "dollars for 1,000,000 units"
RUNS: tuple[tuple[str, int, Mapping[str, float]], ...] = (
    ("first", 0, {**_ALWAYS, GETS: 0.1}),
    ("an hour later", HOUR, {**_ALWAYS, PUTS: 0.67, GETS: 0.67, DOLLARS: 3.9}),
    ("a day later", DAY, _ALWAYS),
)
FIRST_PUTS, FIRST_DOLLARS = 1.1, 6.5


def measure() -> Report:
    following = Following(SYMBOLS)
    started = times.iso(following.clock())
    report = Report("", ("run", "what", "a unit", "in all", "budget", "verdict"))
    remarks: list[str] = []
    first: dict[str, float] = {}
    for name, pause_ms, budgets in RUNS:
        spent = following.run(pause_ms)
        report.title = f"writes_per_unit: a task of {spent.units:,} units"
        for what, count in spent.requests.items():
            figure, budget = spent.a_unit(what), budgets.get(what)
            judged = ("", "") if budget is None else (f"<= {budget}", verdict(figure, budget))
            report.add(name, what, f"{figure:.2f}", f"{count:,}", *judged)
        billed = {what: amount * 1e6 / spent.units for what, amount in spent.billed.items()}
        first = first or billed
        dollars, budget = prices.dollars(billed), budgets.get(DOLLARS)
        judged = ("", "") if budget is None else (f"<= {budget}", verdict(dollars, budget))
        report.add(name, DOLLARS, f"{dollars:.2f}", "", *judged)
        report.add(name, f"{DOLLARS}, arm64", f"{dollars - _spared(billed):.2f}", "", "", "")
        remarks.append(
            f"{name}: of the dollars for 1,000,000 units: "
            + ", ".join(
                f"{what.replace('_', ' ')} {prices.OF[what] * amount:.2f}"
                for what, amount in billed.items()
            )
        )
        counted = spent.counted
        remarks.append(
            f"{name}: write units in writes: "
            + ", ".join(
                f"{kind} {units} in {counted.writes[kind]}"
                for kind, units in counted.items.most_common()
            )
            + f"; indexes {sum(counted.indexes.values())}"
        )
    following.close()
    low, mean, high = _over_a_year(objects_of_first_run)
    judged = (f"<= {FIRST_PUTS}", verdict(mean, FIRST_PUTS))
    report.add("first, at any hour", f"{PUTS}, mean of {YEAR}", f"{mean:.2f}", "", *judged)
    dollars = prices.dollars({**first, "s3_puts": mean * 1e6})
    judged = (f"<= {FIRST_DOLLARS}", verdict(dollars, FIRST_DOLLARS))
    report.add("first, at any hour", f"{DOLLARS}, mean of {YEAR}", f"{dollars:.2f}", "", *judged)
    next_low, next_mean, next_high = _over_a_year(objects_of_next_run)
    report.remarks += [
        f"dollars: AWS's price list of {prices.AS_OF}; requests are counted, invocations and their "
        "seconds are the quote's, which takes 150 ms for a request to the exchange; arm64 costs a "
        "fifth less a second, and needs other wheels; how long it takes was not measured",
        f"the first run starts at {started}; one at any hour of {YEAR} writes {low:.2f} to "
        f"{high:.2f} objects a unit: 1,000 candles back may cross the end of an object (a month of "
        "1m and 5m, a year of 15m and 1h), which makes two",
        f"a run an hour after another one writes {next_low:.2f} to {next_high:.2f} objects a unit, "
        f"{next_mean:.2f} on average, and reads as many: one for each timeframe of which a candle "
        "has closed",
        f"SQS: sends, and a receive and a delete per {BATCH_MESSAGES} messages (full batches; "
        "polls that find nothing are not counted); DynamoDB: indexes and the audit trail included; "
        "S3 GETs: whatever is asked of the bucket and is no PUT",
        *remarks,
    ]
    return report


def _spared(billed: Mapping[str, float]) -> float:
    """Dollars that arm64 takes less, if its processors take as long."""
    return ARM64_LESS * prices.LAMBDA_GB_SECOND * billed["lambda_gb_seconds"]


def _over_a_year(objects: Callable[[int], float]) -> tuple[float, float, float]:
    """Fewest, mean, most, over the hours of YEAR."""
    figures = [objects(now_ms) for now_ms in hours_of(YEAR)]
    return min(figures), sum(figures) / len(figures), max(figures)
