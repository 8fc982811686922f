"""The bulk archive: names, checksums, microseconds, the same candles as the API, and faults."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile

import pytest

from local.exchange.archive import Archive
from local.exchange.timeframes import DAY, utc_ms

from .conftest import NOW, Server


def path(span: str, symbol: str, interval: str, stamp: str) -> str:
    name = f"{symbol}-{interval}-{stamp}.zip"
    return f"/data/spot/{span}/klines/{symbol}/{interval}/{name}"


def read(content: bytes) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        assert name.endswith(".csv")
        return [line.split(",") for line in archive.read(name).decode().splitlines()]


def as_text(rows, factor: int = 1) -> list[list[str]]:
    def column(i, value):
        if i == 0:
            return str(value * factor)
        return str((value + 1) * factor - 1) if i == 6 else str(value)

    return [[column(i, value) for i, value in enumerate(row)] for row in rows]


@pytest.mark.parametrize("interval", ["1m", "15m", "1h", "1d"])
def test_a_daily_file_holds_what_the_api_answers(server: Server, interval):
    start = utc_ms("2024-12-31")
    rows = read(server.get(path("daily", "ADAUSDT", interval, "2024-12-31")).body)
    query = {"startTime": start, "endTime": start + DAY - 1, "limit": 1000}
    answered = server.klines("ADAUSDT", interval, **query)
    assert rows[: len(answered)] == as_text(answered)
    assert len(rows) == {"1m": 1440, "15m": 96, "1h": 24, "1d": 1}[interval]


def test_times_are_in_microseconds_from_2025_on(server: Server):
    start = utc_ms("2025-01-01")
    rows = read(server.get(path("daily", "ADAUSDT", "1h", "2025-01-01")).body)
    answered = server.klines("ADAUSDT", "1h", startTime=start, endTime=start + DAY - 1)
    assert rows == as_text(answered, 1000)
    assert rows[0][0] == "1735689600000000"
    assert rows[0][6] == "1735693199999999"


@pytest.mark.parametrize(("named", "interval"), [("4h", "4h"), ("1w", "1w"), ("1mo", "1M")])
def test_a_monthly_file_holds_the_candles_that_open_in_it(server: Server, named, interval):
    rows = read(server.get(path("monthly", "BTCUSDT", named, "2024-02")).body)
    query = {"startTime": utc_ms("2024-02-01"), "endTime": utc_ms("2024-03-01") - 1}
    assert rows == as_text(server.klines("BTCUSDT", interval, **query))


def test_the_checksum_is_sha256sums(server: Server):
    where = path("daily", "BTCUSDT", "1m", "2025-06-01")
    content = server.get(where).body
    name = where.rsplit("/", 1)[1]
    expected = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    assert server.get(where + ".CHECKSUM").body.decode() == expected
    other = Archive(1, server.exchange.symbols)
    assert other.file(where, NOW).path.read_bytes() == content


def test_a_daily_file_appears_on_the_next_day(server: Server):
    where = path("daily", "BTCUSDT", "1h", "2026-03-03")
    assert server.get(where).status == 200
    assert server.get(path("daily", "BTCUSDT", "1h", "2026-03-04")).status == 404
    server.send("PUT", "/_local/clock", {"now": "2026-03-03T23:59:59"})
    assert server.get(where).status == 404


def test_a_monthly_file_appears_on_the_first_monday(server: Server):
    where = path("monthly", "BTCUSDT", "1d", "2026-01")
    server.send("PUT", "/_local/clock", {"now": "2026-02-01T23:59:59"})
    assert server.get(where).status == 404
    server.send("PUT", "/_local/clock", {"now": "2026-02-02"})
    assert server.get(where).status == 200


@pytest.mark.parametrize(
    "where",
    [
        path("daily", "NOSUCH", "1h", "2024-01-01"),
        path("daily", "BTCUSDT", "7h", "2024-01-01"),
        path("daily", "BTCUSDT", "1w", "2024-01-01"),
        path("daily", "BTCUSDT", "1h", "2024-02-30"),
        path("daily", "BTCUSDT", "1h", "2024-02"),
        path("monthly", "BTCUSDT", "1M", "2024-02"),
        path("daily", "BTCUSDT", "1h", "2017-08-16"),
        path("daily", "BTCUSDT", "1h", "2018-02-08"),
        path("hourly", "BTCUSDT", "1h", "2024-01-01"),
    ],
)
def test_a_file_that_does_not_exist_is_not_found(server: Server, where):
    assert server.get(where).status == 404
    assert server.get(where + ".CHECKSUM").status == 404


def test_archive_requests_cost_no_weight_and_can_fail(server: Server):
    where = path("daily", "BTCUSDT", "1h", "2024-01-01")
    server.fault(kind="status", status=503, match={"path": "/data/*"}, remaining=1)
    assert server.get(where).status == 503
    assert server.get(where).status == 200
    assert json.loads(server.get("/_local/stats").body)["weight_used"] == 0


DAY_FILE = path("daily", "BTCUSDT", "1m", "2025-06-01")


def test_a_file_says_when_it_was_published_and_can_be_asked_for_its_head(server: Server):
    whole = server.get(DAY_FILE)
    assert whole.headers["Last-Modified"] == "Mon, 02 Jun 2025 00:00:00 GMT"
    head = server.send("HEAD", DAY_FILE)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "Last-Modified", "Content-Type"):
        assert head.headers[name] == whole.headers[name]
    known = {"If-None-Match": whole.headers["ETag"]}
    assert server.get(DAY_FILE, headers=known).status == 304
    checksum = server.get(DAY_FILE + ".CHECKSUM")
    assert checksum.headers["Last-Modified"] == whole.headers["Last-Modified"]


def test_old_files_make_room_and_are_made_again_the_same(server: Server):
    archive = Archive(1, server.exchange.symbols, kept_bytes=1)
    first = archive.file(DAY_FILE, NOW)
    content = first.path.read_bytes()
    archive.file(path("daily", "BTCUSDT", "1m", "2025-06-02"), NOW)
    assert not first.path.exists()
    assert archive.file(DAY_FILE, NOW).path.read_bytes() == content


@pytest.mark.parametrize("mode", ["missing", "checksum", "truncated"])
def test_a_spoiled_answer_leaves_the_file_as_it_is(server: Server, mode):
    content, checksum = server.get(DAY_FILE).body, server.get(DAY_FILE + ".CHECKSUM").body
    server.fault(kind="archive", mode=mode, match={"symbol": "BTCUSDT"}, remaining=1)
    asked = DAY_FILE + (".CHECKSUM" if mode == "checksum" else "")
    reply = server.get(asked)
    if mode == "missing":
        assert (reply.status, b"NoSuchKey" in reply.body) == (404, True)
    elif mode == "checksum":
        assert (reply.status, len(reply.body)) == (200, len(checksum))
        assert reply.body != checksum
    else:
        assert reply.body == content[: len(content) // 2]
    assert server.get(DAY_FILE).body == content
    assert server.get(DAY_FILE + ".CHECKSUM").body == checksum


@pytest.mark.parametrize(
    "mode", ["short", "revised", "header", "other_unit", "other_name", "garbage"]
)
def test_a_spoiled_file_has_a_checksum_of_its_own(server: Server, mode):
    sound = read(server.get(DAY_FILE).body)
    server.fault(kind="archive", mode=mode)
    content = server.get(DAY_FILE).body
    digest = hashlib.sha256(content).hexdigest()
    assert server.get(DAY_FILE + ".CHECKSUM").body.decode().startswith(digest)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        rows = [line.split(",") for line in archive.read(name).decode("latin-1").splitlines()]
    assert (name == "BTCUSDT-1m-2025-06-01.csv") == (mode != "other_name")
    assert len(rows) - len(sound) == {"short": -360, "header": 1, "garbage": 2}.get(mode, 0)
    differing = sum(row not in sound for row in rows)
    assert differing == {"revised": 15, "header": 1, "other_unit": 1440, "garbage": 2}.get(mode, 0)


def test_a_bomb_is_small_until_it_is_unpacked(server: Server):
    server.fault(kind="archive", mode="bomb")
    content = server.get(DAY_FILE).body
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.infolist()[0].file_size > 300 * len(content)


def test_a_rule_for_the_archive_names_a_mode(server: Server):
    assert server.send("POST", "/_local/faults", {"kind": "archive"}).status == 400
    assert server.send("POST", "/_local/faults", {"kind": "archive", "mode": "odd"}).status == 400


def test_what_a_killed_exchange_left_is_removed_by_the_next(server: Server, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, other = (
        tmp_path / f"local-exchange-archive-{pid}-abc" for pid in (ended.pid, os.getppid())
    )
    for folder in (left, other):
        folder.mkdir()
        (folder / "some.zip").write_bytes(b"PK")
    made = Archive(1, server.exchange.symbols).file(DAY_FILE, NOW)
    assert made.path.is_relative_to(tmp_path)
    assert (left.exists(), other.exists()) == (False, True)
