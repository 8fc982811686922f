"""What a stream's record is set aside as, whatever its size."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.aws.set_aside import LARGEST_BODY, SetAsideQueue
from chalicelib.events.replay import replay
from infra.storage import MOST_BYTES

#: An item's limit, and what base64 makes of it.
ITEM = 400 * 1024
TEXTS = st.sampled_from(("x", '"', "\n", "ü", "€", "\U0001f600"))
VALUES = st.one_of(
    st.builds(lambda size: {"B": base64.b64encode(bytes(size)).decode()}, st.integers(0, ITEM)),
    st.builds(
        lambda sign, size: {"S": sign * (size // len(sign.encode()))}, TEXTS, st.integers(0, ITEM)
    ),
)
#: What the queues of messages take (infra/storage.py).
SIZES = st.integers(0, MOST_BYTES)
IMAGES = st.dictionaries(st.sampled_from(("OldImage", "NewImage")), VALUES, max_size=2)


def record_with(images: dict[str, Any]) -> dict[str, Any]:
    key = {"pk": {"S": "TASK#1"}, "sk": {"S": "META"}}
    return {
        "eventID": "1",
        "eventName": "MODIFY",
        "dynamodb": {
            "Keys": key,
            "SequenceNumber": "17",
            "ApproximateCreationDateTime": 1.0,
            **{name: {**key, "content": value} for name, value in images.items()},
        },
    }


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(images=IMAGES)
@example(images={name: {"B": "A" * (ITEM * 4 // 3)} for name in ("OldImage", "NewImage")})
@example(images={"NewImage": {"S": "ü" * (ITEM // 2)}})
def test_a_record_of_any_size_is_set_aside_and_whole_where_it_fits(
    run, backend, aws, settings, images
) -> None:
    queue = SetAsideQueue(backend.call, settings.stream_failure_queue_url)
    record = record_with(images)
    aws.sqs.queues[settings.stream_failure_queue_url].messages.clear()
    run(queue.put("tasks", record, "'broken'"))
    [body] = aws.sqs.bodies(settings.stream_failure_queue_url)
    assert len(body.encode()) <= LARGEST_BODY
    kept = json.loads(body)
    whole = {**kept, "record": record}
    whole.pop("cut", None)
    fits = len(json.dumps(whole, separators=(",", ":"))) <= LARGEST_BODY
    assert ("cut" in kept) is not fits
    if fits:
        assert kept["record"] == record
    assert kept["record"]["dynamodb"]["Keys"] == record["dynamodb"]["Keys"]
    assert kept["record"]["dynamodb"]["SequenceNumber"] == "17"
    [taken] = run(queue.take())
    assert taken.record == (record if fits else None)


def test_a_record_that_was_cut_waits_for_a_person_and_makes_no_event(run, backend, aws, settings):
    image = {"B": "A" * (ITEM * 4 // 3)}
    queue = SetAsideQueue(backend.call, settings.stream_failure_queue_url)
    run(queue.put("tasks", record_with({"OldImage": image, "NewImage": image}), ""))
    assert run(replay(backend, lambda: 60_000)) == {"replayed": 0, "events": 0, "left": 1}
    assert len(aws.sqs.bodies(settings.stream_failure_queue_url)) == 1
    assert aws.items(settings.audit_table) == []


@given(body=st.builds(lambda sign, size: sign * (size // len(sign.encode())), TEXTS, SIZES))
@settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_message_that_its_queue_took_is_set_aside_whole(
    run, backend, aws, settings, body: str
) -> None:
    queue = SetAsideQueue(backend.call, settings.unreadable_queue_url)
    aws.sqs.queues[settings.unreadable_queue_url].messages.clear()
    run(queue.put("work", {"messageId": "1", "body": body}, "unreadable"))
    [kept] = aws.sqs.bodies(settings.unreadable_queue_url)
    assert len(kept.encode()) <= LARGEST_BODY
    assert json.loads(kept)["record"]["body"] == body
