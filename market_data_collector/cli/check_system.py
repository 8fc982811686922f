"""Steps of `data-collector check` about the collector itself, keys and the exchange."""

from collections.abc import Mapping
from typing import Any

from market_data_collector.cli.check_run import STATES, CheckRun, Untried, answered, need
from market_data_collector.cli.check_step import step
from market_data_collector.cli.values import amount, count, number, plain, record, span, texts
from market_data_collector.errors import Rejected


@step("health", "GET /status", look_at="API errors", reads_only=True)
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


@step("metrics", "GET /metrics", look_at="API errors", reads_only=True)
def metrics(run: CheckRun) -> str:
    """Metrics in Prometheus's text format."""
    text = run.client.metrics()
    samples = [line for line in text.splitlines() if line.startswith("data_collector_")]
    built = any(line.startswith("data_collector_build_info") for line in samples)
    need(built, "lines of metrics, data_collector_build_info among them", text[:100])
    return f"{len(samples)} samples"


@step(
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


@step("refusal", "GET /task/{task_id}", look_at="API errors", reads_only=True)
def refusal(run: CheckRun) -> str:
    """A task that does not exist is refused with a problem document."""
    try:
        answer: Any = run.client.task(run.name.replace(" ", "-"))
    except Rejected as error:
        answer = error.problem
    reason = answer.get("reason")
    need(reason == "TASK_NOT_FOUND", "404 with the reason TASK_NOT_FOUND", answer)
    return f"404 {reason}"


@step("refresh", "POST /refresh-symbols", "GET /task/{task_id}", look_at="Catalogue refused")
def refresh(run: CheckRun) -> str:
    """The exchange's list of symbols is read again."""
    task = run.ended(run.keep("refresh", run.client.refresh_symbols().answer))
    return plain(task.get("message"))


@step("stats", "GET /tasks/stats", look_at="API errors", reads_only=True)
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


@step("prices", "GET /latest-prices", look_at="Exchange paused for long", reads_only=True)
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
