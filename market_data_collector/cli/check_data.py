"""Steps of `data-collector check` that look for what was collected."""

import io
from typing import Any

from market_data_collector.cli.check_run import HOURS, TIMEFRAME, CheckRun, Untried, need
from market_data_collector.cli.check_step import step
from market_data_collector.cli.values import count, record, records
from market_data_collector.errors import parse


@step("data", "GET /task/{task_id}", look_at="A function fails")
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


@step(
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


@step(
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
