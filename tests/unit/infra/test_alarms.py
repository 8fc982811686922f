"""Alarms: complete, told apart from silence, and each with its paragraph in the runbook."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.metrics import METRICS, NAMESPACE
from chalicelib.core.settings import Settings
from chalicelib.webhooks import retry
from infra import alarms, storage
from infra.functions import FUNCTIONS, events, timeouts
from infra.package import ROOT
from local.alarming import judge

SETTINGS = Settings()
QUEUES = storage.queues(timeouts(SETTINGS))
ALARMS = alarms.alarms(SETTINGS)
RUNBOOK = (ROOT / "docs" / "RUNBOOK.md").read_text(encoding="utf-8")
PARAGRAPHS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", RUNBOOK, flags=re.S | re.M))
each_alarm = pytest.mark.parametrize("name", sorted(ALARMS))


def test_every_alarm_has_its_paragraph_and_every_paragraph_its_alarm() -> None:
    assert {alarm.paragraph for alarm in ALARMS.values()} == set(PARAGRAPHS)


@pytest.mark.parametrize("paragraph", sorted(PARAGRAPHS))
def test_a_paragraph_says_what_it_means_how_to_look_what_to_do_and_when_it_is_over(
    paragraph: str,
) -> None:
    text = PARAGRAPHS[paragraph]
    for part in ("**Means.**", "**Look.**", "**Do.**", "**Over.**"):
        assert part in text, part
    look = text.partition("**Look.**")[2].partition("**Do.**")[0]
    assert "`" in look, "a query or a command"


@each_alarm
def test_an_alarms_description_links_to_its_paragraph(name: str) -> None:
    made = alarms.resources(SETTINGS)[name]["Properties"]
    file, anchor = made["AlarmDescription"].rpartition(" ")[2].split("#")
    assert (ROOT / file).exists()
    assert anchor in {title.lower().replace(" ", "-") for title in PARAGRAPHS}
    assert len(made["AlarmDescription"]) <= 1024
    assert made["AlarmActions"] == made["OKActions"] == [{"Ref": "AlarmTopic"}]


@each_alarm
def test_an_alarm_on_a_metric_of_ours_names_one_that_is_published(name: str) -> None:
    alarm = ALARMS[name]
    if alarm.namespace != NAMESPACE:
        assert alarm.namespace in ("AWS/SQS", "AWS/Lambda")
        return
    metric = METRICS[alarm.metric]
    own = set(alarm.dimensions) - {"Stack"}
    assert own == set(metric.dimensions) or (not own and (metric.total or not metric.dimensions))


@each_alarm
def test_a_period_is_one_that_cloudwatch_takes_and_a_day_is_not_exceeded(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm.seconds % 60 == 0
    assert alarm.seconds * alarm.periods <= 86_400


def test_silence_is_bad_news_of_a_sweep_and_of_nothing_else() -> None:
    breaching = {name for name, alarm in ALARMS.items() if alarm.missing == alarms.BAD}
    assert breaching == {"SweepSilentAlarm"}
    assert {alarm.missing for alarm in ALARMS.values()} == {alarms.BAD, alarms.QUIET}


def test_every_function_every_stream_and_every_queue_that_wakes_one_is_watched() -> None:
    watched = {(alarm.metric, *alarm.dimensions.values()) for alarm in ALARMS.values()}
    for resource in FUNCTIONS.values():
        assert ("Errors", f"${{{resource}}}") in watched
    for name, sources in events(SETTINGS).items():
        for source in sources.values():
            if source["Type"] == "DynamoDB":
                assert ("IteratorAge", f"${{{FUNCTIONS[name]}}}") in watched
            if source["Type"] == "SQS" and name != "bury":
                queue = source["Properties"]["Queue"]["Fn::GetAtt"][0]
                assert ("ApproximateAgeOfOldestMessage", f"${{{queue}.QueueName}}") in watched


def test_a_queue_rings_before_it_forgets_its_oldest_message() -> None:
    aged = [one for one in ALARMS.values() if one.metric == "ApproximateAgeOfOldestMessage"]
    assert len(aged) >= 5
    for found in aged:
        queue = found.dimensions["QueueName"].removeprefix("${").removesuffix(".QueueName}")
        rings_s = found.threshold + found.seconds * found.periods
        assert rings_s <= QUEUES[queue]["Properties"]["MessageRetentionPeriod"], queue


def test_a_receiver_that_asks_for_patience_is_no_reason_to_ring() -> None:
    # SQS leaves a message that was received more than three times out of the age.
    assert ALARMS["WebhookQueueAgeAlarm"].threshold > 2 * retry.LONGEST_WAIT


def test_one_failure_rings_of_a_function_whose_tries_are_too_far_apart_for_three_of_them() -> None:
    """Lambda tries a scheduled invocation again after one minute and after two."""
    seconds = timeouts(SETTINGS)
    for name, sources in events(SETTINGS).items():
        for source in sources.values():
            if source["Type"] != "Schedule":
                continue
            rule = ALARMS[f"{FUNCTIONS[name]}ErrorsAlarm"]
            often = source["Properties"]["Schedule"] == "rate(1 minute)"
            third_s = 120 + seconds[name] if often else 180 + 2 * seconds[name]
            assert rule.threshold == 1 or third_s < rule.seconds, name


def test_every_queue_of_given_up_messages_is_watched() -> None:
    given_up = ("DeadLetterQueue", "FailureQueue", "UnreadableQueue")
    dead = {name for name in QUEUES if name.endswith(given_up)}
    assert len(dead) >= 4
    watched = {
        alarm.dimensions.get("QueueName")
        for alarm in ALARMS.values()
        if alarm.metric == "ApproximateNumberOfMessagesVisible"
    }
    assert watched == {f"${{{name}.QueueName}}" for name in dead}


@pytest.mark.parametrize(("email", "expected"), [("", 0), ("me@example.com", 1)])
def test_who_is_mailed_is_a_setting_and_nobody_without(email: str, expected: int) -> None:
    made = alarms.resources(Settings(alarm_email=email))
    mailed = [found for found in made.values() if found["Type"] == "AWS::SNS::Subscription"]
    assert len(mailed) == expected
    assert all(found["Properties"]["Endpoint"] == email for found in mailed)


# --- how the embedded cloud's are judged ------------------------------------------------------

NOW_S = 1_800_000_030.0
MINUTE = NOW_S // 60 * 60


def alarm(**more: object) -> dict[str, object]:
    return {
        "StateValue": "OK",
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 0,
        "Period": 60,
        "EvaluationPeriods": 1,
        "TreatMissingData": "notBreaching",
        **more,
    }


def test_one_period_over_the_threshold_is_enough_where_one_is_asked_for() -> None:
    assert judge(alarm(), {MINUTE: 1.0}, NOW_S)[0] == "ALARM"
    assert judge(alarm(), {MINUTE: 0.0, MINUTE - 60: 5.0}, NOW_S)[0] == "OK"


def test_the_last_whole_period_counts_while_the_running_one_is_empty() -> None:
    assert judge(alarm(), {MINUTE - 60: 1.0}, NOW_S)[0] == "ALARM"
    assert judge(alarm(), {MINUTE - 120: 1.0}, NOW_S)[0] == "OK"


@pytest.mark.parametrize(
    ("treated", "state"),
    [
        ("breaching", "ALARM"),
        ("notBreaching", "OK"),
        ("missing", "INSUFFICIENT_DATA"),
        ("ignore", "OK"),
    ],
)
def test_no_data_mean_what_the_alarm_says_they_mean(treated: str, state: str) -> None:
    assert judge(alarm(TreatMissingData=treated), {}, NOW_S)[0] == state


@given(values=st.lists(st.one_of(st.none(), st.floats(0, 2)), min_size=3, max_size=3))
def test_all_periods_asked_for_must_breach(values: list[float | None]) -> None:
    asked = alarm(EvaluationPeriods=3, Threshold=1)
    found = {MINUTE - 60 * (2 - at): v for at, v in enumerate(values) if v is not None}
    if MINUTE not in found:  # then the running period is left out, and one before is looked at
        return
    state = judge(asked, found, NOW_S)[0]
    assert (state == "ALARM") == all(value is not None and value > 1 for value in values)
