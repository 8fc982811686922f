"""Evaluating alarms as CloudWatch does: by their own metric's dimensions, period by period.

Source: Amazon CloudWatch User Guide, "Alarm evaluation" and "Configuring how CloudWatch alarms
treat missing data".
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

State = tuple[str, str]

_COMPARE = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def evaluate(
    cloudwatch: Any, alarms: Sequence[Mapping[str, Any]], now_s: float
) -> dict[str, State]:
    """Alarm name -> (state, why)."""
    if not alarms:
        return {}
    queries, oldest_s = [], now_s
    for at, alarm in enumerate(alarms):
        oldest_s = min(oldest_s, _slots(alarm, now_s)[0])
        metric = {key: alarm[key] for key in ("Namespace", "MetricName", "Dimensions")}
        stat = {"Metric": metric, "Period": alarm["Period"], "Stat": alarm["Statistic"]}
        queries.append({"Id": f"a{at}", "MetricStat": stat})
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=queries,
        StartTime=datetime.fromtimestamp(oldest_s, UTC),
        EndTime=datetime.fromtimestamp(now_s + 1, UTC),
    )
    found = {
        result["Id"]: dict(
            zip((at.timestamp() for at in result["Timestamps"]), result["Values"], strict=True)
        )
        for result in answer["MetricDataResults"]
    }
    return {
        alarm["AlarmName"]: judge(alarm, found.get(f"a{at}", {}), now_s)
        for at, alarm in enumerate(alarms)
    }


def judge(alarm: Mapping[str, Any], values: Mapping[float, float], now_s: float) -> State:
    """The state of one alarm; `values`: epoch seconds at which a period began -> statistic.

    The running period counts where it has data already; else the last whole ones are looked at.
    """
    slots = _slots(alarm, now_s)
    slots = slots[1:] if slots[-1] in values else slots[:-1]
    compare, threshold = _COMPARE[alarm["ComparisonOperator"]], alarm["Threshold"]
    treated = alarm.get("TreatMissingData", "missing")
    breaching = [at for at in slots if at in values and compare(values[at], threshold)]
    missing = [at for at in slots if at not in values]
    wanted = alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    bad = len(breaching) + (len(missing) if treated == "breaching" else 0)
    if bad >= wanted:
        shown = [values[at] for at in breaching] or "no data"
        return "ALARM", f"{bad} of {len(slots)} periods: {shown}, threshold {threshold}"
    if len(missing) == len(slots) and treated == "missing":
        return "INSUFFICIENT_DATA", "no data"
    if len(missing) == len(slots) and treated == "ignore":
        return alarm["StateValue"], "no data: as before"
    return "OK", f"{bad} of {len(slots)} periods are over the threshold {threshold}"


def _slots(alarm: Mapping[str, Any], now_s: float) -> list[float]:
    """Beginnings of the evaluated periods and of the running one, ascending."""
    period = alarm["Period"]
    running = now_s // period * period
    return [running - back * period for back in range(alarm["EvaluationPeriods"], -1, -1)]
