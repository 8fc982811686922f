"""The steps of `data-collector check`, in order: each uses routes of the API, and says what came.

A step returns what it found, in a few words. It raises Failed, Untried where something before it
is missing, or ApiError.
"""

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from market_data_collector.audit_chain import verify
from market_data_collector.cli.check_run import (
    HOURS,
    TIMEFRAME,
    CheckRun,
    Failed,
    Untried,
    answered,
    need,
)
from market_data_collector.cli.values import (
    amount,
    count,
    moment,
    number,
    plain,
    record,
    records,
    span,
    texts,
)
from market_data_collector.effects import Unheard
from market_data_collector.errors import Rejected, parse
from market_data_collector.jobs import ENDED

#: Routes that no step uses, and why.
EXCUSED = {
    "POST /pause": "it would hold up everybody's collections",
    "POST /resume": "it would end somebody's pause",
}
STATES = ("pending", "running", *sorted(ENDED))


class Step(NamedTuple):
    """`routes`: of the API, as docs/openapi.json names them. `look_at`: a heading of
    docs/RUNBOOK.md. `expects`: what the step needs to come, where the API answers with an error."""

    name: str
    routes: tuple[str, ...]
    look_at: str
    reads_only: bool
    expects: str
    work: Callable[[CheckRun], str]


STEPS: list[Step] = []


def _step(
    name: str, *routes: str, look_at: str, reads_only: bool = False
) -> Callable[[Callable[[CheckRun], str]], Callable[[CheckRun], str]]:
    def register(work: Callable[[CheckRun], str]) -> Callable[[CheckRun], str]:
        expects = (work.__doc__ or "").strip().removesuffix(".")
        STEPS.append(Step(name, routes, look_at, reads_only, expects, work))
        return work

    return register


@_step("health", "GET /status", look_at="API errors", reads_only=True)
def health(run: CheckRun) -> str:
    """The collector says what it does."""
    status = run.client.status()
    state = status.get("status")
    # Only admins see the queues.
    queues = status.get("queues", "")
    need(
        isinstance(state, str) and (queues is None or record(queues)), "a state and queues", status
    )
    breaker = record(status.get("breaker"))
    need(isinstance(breaker.get("open"), bool), "a breaker that is open or not", breaker)
    exchange = status.get("exchange")
    need(isinstance(exchange, str), "the exchange's name", exchange)
    run.exchange = str(exchange)
    waits = f", waits until {plain(breaker.get('until'))}" if breaker["open"] else ""
    pause = record(status.get("pause"))
    # What is collected would wait for nothing.
    usable = run.read_only or not pause
    need(usable, "a collector that nobody has paused (data-collector resume)", pause)
    waits += f", paused by {plain(pause.get('by'))}" if pause else ""
    return f"{plain(state)}, exchange {plain(exchange)}{waits}"


@_step("metrics", "GET /metrics", look_at="API errors", reads_only=True)
def metrics(run: CheckRun) -> str:
    """Metrics in Prometheus's text format."""
    text = run.client.metrics()
    samples = [line for line in text.splitlines() if line.startswith("data_collector_")]
    built = any(line.startswith("data_collector_build_info") for line in samples)
    need(built, "lines of metrics, data_collector_build_info among them", text[:100])
    return f"{len(samples)} samples"


@_step(
    "keys",
    "POST /keys",
    "GET /keys",
    "POST /keys/{key_id}/rotate",
    "DELETE /keys/{key_id}",
    look_at="API errors",
)
def keys(run: CheckRun) -> str:
    """A key is made, listed, rotated and revoked."""
    try:
        made = run.client.create_key(run.owner, ["observe"], run.soon())
    except Rejected as error:
        if error.problem.get("reason") in ("KEYS_NOT_IN_USE", "SCOPE_MISSING"):
            raise Untried(answered(error)) from error
        raise
    key_id = made.get("key_id")
    need(isinstance(key_id, str) and key_id, "an answer with a key_id", made.keys())
    run.key_id = str(key_id)
    listed = [each.get("key_id") for each in (*run.client.keys(),)]
    need(key_id in listed, "the new key in the list", f"{len(listed)} others")
    rotated = run.client.rotate_key(run.key_id)
    texts = [made.get("key"), rotated.get("key")]
    changed = all(isinstance(each, str) for each in texts) and texts[0] != texts[1]
    need(changed, "another key after rotating", "the same, or none")
    revoked = run.client.revoke_key(run.key_id)
    need(revoked.get("status") == "revoked", "a revoked key", revoked)
    run.key_id = None
    return f"{len(listed)} keys"


@_step("refusal", "GET /task/{task_id}", look_at="API errors", reads_only=True)
def refusal(run: CheckRun) -> str:
    """A task that does not exist is refused with a problem document."""
    try:
        answer: Any = run.client.task(run.name.replace(" ", "-"))
    except Rejected as error:
        answer = error.problem
    reason = answer.get("reason")
    need(reason == "TASK_NOT_FOUND", "404 with the reason TASK_NOT_FOUND", answer)
    return f"404 {reason}"


@_step("refresh", "POST /refresh-symbols", "GET /task/{task_id}", look_at="Catalogue refused")
def refresh(run: CheckRun) -> str:
    """The exchange's list of symbols is read again."""
    task = run.ended(run.keep("refresh", run.client.refresh_symbols().answer))
    return plain(task.get("message"))


@_step("stats", "GET /tasks/stats", look_at="API errors", reads_only=True)
def stats(run: CheckRun) -> str:
    """Counts of tasks by state, and the symbols."""
    found = run.client.stats()
    counts, known = record(found.get("task_counts")), record(found.get("data_collector_status"))
    need(all(count(counts, state) is not None for state in STATES), "a count of each state", counts)
    symbols = texts(known.get("available_symbols"))
    if run.symbol is None and symbols and run.chosen_symbol not in symbols:
        run.symbol = symbols[0]
    need(len(symbols) == count(known, "symbols_count"), "as many symbols as it counts", known)
    tasks = sum(count(counts, state) or 0 for state in STATES)
    return f"{amount(tasks)} tasks, {amount(len(symbols))} symbols"


@_step(
    "schedule",
    "POST /schedules",
    "GET /schedules/{schedule_id}",
    look_at="Schedule failures",
)
def schedule(run: CheckRun) -> str:
    """A schedule of one minute is made, and read back."""
    body: Any = {"name": run.name, "expression": "rate(1 minute)", "request": run.request()}
    made = run.client.create_schedule(**body, idempotency_key=run.key("schedule"))
    schedule_id = made.get("schedule_id")
    need(isinstance(schedule_id, str) and schedule_id, "an answer with a schedule_id", made)
    run.schedule_id = str(schedule_id)
    shown = run.until(
        lambda: run.client.schedule(run.made_schedule()),
        lambda shown: shown.get("in_sync") is True,
        "a schedule that EventBridge Scheduler has taken over",
        lambda shown: shown.get("sync_error") or "not in_sync",
    )
    need(shown.get("name") == run.name, f"the schedule named {run.name}", shown)
    return f"next run {plain(shown.get('next_run_at'))}"


@_step("schedules", "GET /schedules", look_at="API errors", reads_only=True)
def schedules(run: CheckRun) -> str:
    """The list of schedules."""
    found = [*run.client.schedules()]
    need(all(isinstance(each.get("schedule_id"), str) for each in found), "ids", found)
    if run.schedule_id is not None:
        ids = [each["schedule_id"] for each in found]
        need(run.schedule_id in ids, "the new schedule in the list", ids)
    return f"{len(found)} listed"


@_step("start", "POST /start", "GET /task/{task_id}", look_at="API errors")
def start(run: CheckRun) -> str:
    """A collection is accepted, and its task can be read."""
    task_id = run.start("start")
    shown = run.client.task(task_id)
    need(shown.get("task_id") == task_id and shown["status"] in STATES, f"task {task_id}", shown)
    return f"{run.chosen_symbol} {TIMEFRAME}, {HOURS} h: task {plain(task_id)}"


@_step("idempotency", "POST /start", look_at="API errors")
def idempotency(run: CheckRun) -> str:
    """A repeated Idempotency-Key gives the first task, and refuses another request."""
    first = run.task_of("start")
    again = run.started("start").answer
    need(again.get("task_id") == first, f"task {first} again", again)
    try:
        other: Any = run.started("start", priority="high").answer
        run.keep("idempotency", other)
    except Rejected as error:
        other = error.problem
    need(other.get("status") == 422, "422 for another request under the same key", other)
    return "the same task; another request is refused"


@_step("progress", "GET /task/{task_id}", look_at="Oldest message age")
def progress(run: CheckRun) -> str:
    """The task completes, and its progress never goes back."""
    task = run.ended(run.task_of("start"))
    candles = count(task, "candles")
    need(candles, "a task that has collected candles", task.get("message"))
    return plain(task.get("message"))


@_step("active", "GET /tasks/active", look_at="API errors", reads_only=True)
def active(run: CheckRun) -> str:
    """The tasks that have not ended."""
    found = [*run.client.active()]
    states = [each.get("status") for each in found]
    need(set(states) <= {"pending", "running"}, "only tasks that are pending or running", states)
    return f"{len(found)} tasks"


@_step("list", "GET /tasks", look_at="API errors", reads_only=True)
def listed(run: CheckRun) -> str:
    """The list of tasks, newest first."""
    wanted = run.tasks.get("start")

    def look() -> list[Any]:
        found = records(run.client.tasks_page(page_size=100).get("tasks"))
        times = [moment(each.get("created_at")) for each in found]
        need(None not in times, "tasks with the time of their making", found)
        need(times == sorted(times, reverse=True), "the newest first", times)  # type: ignore[type-var]
        return [each.get("task_id") for each in found]

    ids = run.until(
        look,
        lambda ids: wanted is None or wanted in ids,
        f"task {wanted} in the list",
        lambda ids: f"{len(ids)} others",
    )
    return f"{len(ids)} on the first page"


@_step("prices", "GET /latest-prices", look_at="Exchange paused for long", reads_only=True)
def prices(run: CheckRun) -> str:
    """Latest prices of less than three minutes."""

    def fresh(answer: Mapping[str, Any]) -> list[str]:
        found = record(answer.get("prices"))
        return [
            name
            for name, price in found.items()
            if (number(record(price).get("price")) or 0) > 0 and record(price).get("stale") is False
        ]

    answer = run.until(
        lambda: run.client.latest_prices([run.chosen_symbol]),
        fresh,
        f"a price of {run.chosen_symbol} that is not stale",
        lambda answer: f"{len(record(answer.get('prices')))} prices, as of {answer.get('as_of')}",
    )
    name = fresh(answer)[0]
    price = record(answer["prices"][name])
    return (
        f"{plain(name)} {plain(price['price'])}, {span(number(price.get('age_seconds')) or 0)} old"
    )


@_step("update", "POST /ws-ticket", "POST /start", look_at="Iterator age")
def update(run: CheckRun) -> str:
    """A change of a task is pushed over the WebSocket."""
    began = run.session.now()
    messages = run.client.watch("tasks", clock=run.session.now)
    expected = f"an update of the new task within {run.limit:.0f} s"
    task_id = None
    try:
        with contextlib.closing(messages):
            for message in messages:
                task_id = task_id or run.start("update")
                changed = [each.get("task_id") for each in records(message.get("tasks"))]
                if message.get("type") == "update" and task_id in changed:
                    return f"sequence {plain(message.get('sequence'))}"
                if run.session.now() - began > run.limit:
                    raise Failed(expected, f"the last message was: {json.dumps(message)[:200]}")
    except Unheard as error:
        raise Failed(expected, plain(error)) from error
    raise Failed(expected, "the connection has ended")


@_step(
    "cancel",
    "POST /task/{task_id}/cancel",
    "POST /start",
    "GET /task/{task_id}",
    look_at="Oldest message age",
)
def cancel(run: CheckRun) -> str:
    """A new task is cancelled, and cancelling it again gives the same receipt."""
    for attempt in range(3):  # a quick stack may be done before it is told to stop
        task_id = run.start(f"cancel{attempt or ''}")
        try:
            receipt = run.client.cancel(task_id)
            break
        except Rejected as error:
            if error.problem["status"] != 409:
                raise
            came = plain(error)
    else:
        raise Failed("one of three new tasks to be cancelled before it is done", came)
    run.tasks["cancelled"] = task_id
    again, task = run.client.cancel(task_id), run.client.task(task_id)
    need(task["status"] == "cancelled", "a cancelled task", task)
    need(
        moment(receipt.get("stopped_at")) and receipt["stopped_at"] == again.get("stopped_at"),
        "the same stopped_at twice",
        (receipt, again),
    )
    return f"stopped at {plain(receipt['stopped_at'])}"


@_step("retry", "POST /task/{task_id}/retry", "GET /task/{task_id}", look_at="Dead letters")
def retry(run: CheckRun) -> str:
    """The cancelled task runs again, and completes."""
    task_id = run.task_of("cancelled")
    run.until(
        lambda: run.client.task(task_id),
        lambda task: task.get("result") is not None,
        "a cancelled task whose counts are closed",
        lambda task: "its counts are still open",
    )
    answer = run.client.retry(task_id).answer
    need(answer.get("attempt") == 2, "attempt 2", answer)
    task = run.ended(task_id)
    need(task.get("attempt") == 2, "a task of attempt 2", task)
    return plain(task.get("message"))


@_step("audit", "GET /audit", look_at="Stream records failed", reads_only=True)
def audit(run: CheckRun) -> str:
    """The audit trail; of the first task it is complete, and its chain verified."""
    task_id = run.tasks.get("start")
    if task_id is None:
        events = [*run.client.audit()]
        need(all("hash" in event for event in events), "sealed events", events)
        return f"{len(events)} events of the last day"
    wanted = {"task.submitted", "task.completed"}
    events = run.until(
        lambda: [*run.client.audit(task_id=task_id)],
        lambda events: wanted <= {event.get("action") for event in events},
        f"{' and '.join(sorted(wanted))} in the trail",
        lambda events: ", ".join(plain(event.get("action")) for event in events) or "no event",
    )
    faults = verify(f"task:{task_id}", events)  # type: ignore[arg-type]
    need(not faults, "a chain without a fault", [fault.detail for fault in faults])
    return f"{len(events)} events, chain verified"


@_step("history", "GET /history", look_at="Stream records failed", reads_only=True)
def history(run: CheckRun) -> str:
    """How tasks ended; the first task among them."""
    task_id = run.tasks.get("start")
    if task_id is None:
        ended = records(run.client.history_page().get("tasks"))
        need(all(task.get("status") in ENDED for task in ended), "ended tasks", ended)
        return f"{len(ended)} ended"
    ended = run.until(
        lambda: records(run.client.history_page(page_size=100).get("tasks")),
        lambda tasks: task_id in {task.get("task_id") for task in tasks},
        "the first task in the history",
        lambda tasks: f"{len(tasks)} others",
    )
    return next(plain(task.get("status")) for task in ended if task.get("task_id") == task_id)


@_step("data", "GET /task/{task_id}", look_at="A function fails")
def data(run: CheckRun) -> str:
    """The candles can be read back."""
    from botocore.exceptions import BotoCoreError, ClientError  # most commands can do without it

    task = run.ended(run.task_of("start"))
    counted = count(task, "candles") or 0
    need(counted, "candles counted by the task", task.get("message"))
    try:
        stack, bucket = run.bucket()
        rows = _stored(run, stack.client("s3"), bucket)
    except Untried as why:
        return f"{counted} candles counted by the task; the bucket was not read: {why}"
    except (BotoCoreError, ClientError) as error:
        missing = isinstance(error, ClientError) and error.response["Error"]["Code"].startswith(
            "NoSuch"
        )
        need(not missing, f"candles of the stack {stack.name}", error)
        return (
            f"{counted} candles counted by the task; AWS does not let the bucket be read: {error}"
        )
    need(len(rows) >= counted, f"{counted} candles in s3://{bucket}", f"{len(rows)} of the window")
    need(rows == sorted(set(rows)), "each candle once, in order", rows)
    return f"{len(rows)} candles in s3://{bucket}"


@_step(
    "candles",
    "GET /candles",
    "GET /candles/files",
    "GET /task/{task_id}",
    look_at="API errors",
)
def candles(run: CheckRun) -> str:
    """The API shows the candles of the window, each once, and the files that hold them."""
    task = run.ended(run.task_of("start"))
    asked = {"symbol": run.chosen_symbol, "timeframe": TIMEFRAME}
    asked |= {name: run.collection()[name] for name in ("start", "end")}
    opens = [
        str(row.get("open_time"))
        for answer in run.client.candle_answers("json", asked)
        for row in records(record(parse(answer.content)).get("candles"))
    ]
    least = max(1, count(task, "candles") or 0)
    need(len(opens) >= least, f"{least} candles", f"{len(opens)} candles")
    need(opens == sorted(set(opens)), "each candle once, in order", opens)
    files = [*run.client.candle_files(asked["symbol"], TIMEFRAME, *_window(run))]
    held = sum(count(file, "rows") or 0 for file in files)
    need(held >= len(opens), f"files with {len(opens)} candles", f"files with {held}")
    urls = [str(file.get("url")) for file in files]
    need(all("X-Amz-Signature=" in url for url in urls), "signed URLs", urls)
    return f"{len(opens)} candles, in {len(files)} files"


@_step(
    "coverage",
    "GET /coverage",
    "GET /coverage/gaps",
    "POST /coverage/fill",
    "POST /coverage/verify",
    "GET /task/{task_id}",
    look_at="API errors",
)
def coverage(run: CheckRun) -> str:
    """What was collected is said to be held, what is missing is filled, and the files are whole."""
    run.ended(run.task_of("start"))
    body = {name: run.collection()[name] for name in ("symbols", "timeframes", "start", "end")}
    window = _window(run)
    rows = run.client.coverage(run.chosen_symbol, TIMEFRAME, *window)["coverage"]
    need(len(rows) == 1, f"one row, of {run.chosen_symbol} {TIMEFRAME}", rows)
    expected, held = (count(rows[0], name) for name in ("expected", "held"))
    need(expected == HOURS and held, f"{HOURS} candles, some of them held", rows[0])
    listed = run.client.gaps(run.chosen_symbol, TIMEFRAME, *window)["gaps"]
    in_gaps = sum(count(gap, "candles") or 0 for gap in listed)
    need(held == HOURS - in_gaps, f"gaps of {HOURS - (held or 0)} candles", listed)
    for name, job in (("fill", run.client.fill(**body)), ("verify", run.client.verify(**body))):
        task = run.ended(run.keep(name, job.answer), may_be_empty=name == "fill")
        failed = records(task.get("failures"))
        need(task.get("status") == "completed" and not failed, f"{name} without a failure", task)
    return f"{held} of {expected} candles held, files verified"


def _window(run: CheckRun) -> tuple[str, str]:
    body = run.collection()
    return body["start"], body["end"]


def _stored(run: CheckRun, s3: Any, bucket: str) -> list[int]:
    """Open times (epoch ms) in the window of the check, as the bucket's objects hold them."""
    from arro3.io import read_parquet  # only here is Parquet needed

    start, end = (at.timestamp() * 1000 for at in run.window)
    folder = f"candles/exchange={run.exchange}/timeframe={TIMEFRAME}/symbol={run.chosen_symbol}/"
    rows: list[int] = []
    found = s3.list_objects_v2(Bucket=bucket, Prefix=folder).get("Contents", [])
    for key in sorted(each["Key"] for each in found):
        content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        # The reader's panic at anything else is no exception that could be caught.
        whole = content[:4] == content[-4:] == b"PAR1"
        need(whole, "a whole Parquet file", f"{len(content)} bytes in s3://{bucket}/{key}")
        column = read_parquet(io.BytesIO(content), batch_size=1 << 20).read_all()["open_time"]
        rows += [round(at.timestamp() * 1000) for at in column.to_pylist()]
    return [at for at in rows if start <= at < end]


@_step(
    "run-schedule",
    "POST /schedules/{schedule_id}/run",
    "GET /task/{task_id}",
    look_at="Schedule failures",
)
def run_schedule(run: CheckRun) -> str:
    """The schedule is run by hand, and its task completes."""
    answer = run.client.run_schedule(run.made_schedule()).answer
    return plain(run.ended(run.keep("run-schedule", answer)).get("message"))


@_step(
    "fires",
    "GET /schedules/{schedule_id}",
    "GET /task/{task_id}",
    look_at="Schedule failures",
)
def fires(run: CheckRun) -> str:
    """The schedule fires by itself within a minute or two, and its task completes."""
    schedule_id = run.made_schedule()
    shown = run.until(
        lambda: record(run.client.schedule(schedule_id).get("last_run")),
        lambda last: last.get("by") == "schedule",
        "a run by the schedule itself",
        lambda last: f"the last run was by {plain(last.get('by'))}",
    )
    run.ended(run.keep("fires", shown))
    return f"at {plain(shown.get('at'))}"


@_step("change-schedule", "PATCH /schedules/{schedule_id}", look_at="Schedule failures")
def change_schedule(run: CheckRun) -> str:
    """The schedule is disabled."""
    changed = run.client.change_schedule(run.made_schedule(), enabled=False)
    off = changed.get("enabled") is False and changed.get("next_run_at", "") is None
    need(off, "a schedule that is disabled and has no next run", changed)
    return "disabled"


@_step(
    "delete-schedule",
    "DELETE /schedules/{schedule_id}",
    "GET /schedules/{schedule_id}",
    look_at="Schedule failures",
)
def delete_schedule(run: CheckRun) -> str:
    """The schedule is deleted, and then unknown."""
    schedule_id = run.made_schedule()
    run.client.delete_schedule(schedule_id)
    try:
        answer: Any = run.client.schedule(schedule_id)
    except Rejected as error:
        answer = error.problem
    need(answer.get("status") == 404, "404 for a schedule that was deleted", answer)
    run.schedule_id = None
    return "gone"
