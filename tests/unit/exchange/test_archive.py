"""The archive's client: a file is what its checksum says, or is not used, and says why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.candles.candles import Candles
from chalicelib.core.errors import CollectorError
from chalicelib.core.times import DAY
from chalicelib.exchange import archive
from chalicelib.exchange.archive import MISSING, UNAVAILABLE, Archive
from chalicelib.exchange.archive_file import ArchiveFile, daily_file
from chalicelib.exchange.archive_rows import DAMAGED, FileUnusable
from chalicelib.exchange.binance import Permit
from tests.doubles.http import ScriptedHttp
from tests.unit.exchange.archive_files import DAY_FILE, PUBLISHED, T0, checksum, file_bytes, zipped

CONTENT = file_bytes(DAY_FILE)
HEADERS = {
    "last-modified": formatdate(PUBLISHED / 1000, usegmt=True),
    "date": formatdate((PUBLISHED + 30 * DAY) / 1000, usegmt=True),
}
FORBIDDEN = httpx.Response(403, content=b"<Error><Code>NoSuchKey</Code></Error>")


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_BACKOFF_SECONDS", 0)


class Site:
    """Answers with a file and its checksum, or, per request, with something else first."""

    def __init__(self, content: bytes = CONTENT, headers: dict[str, str] = HEADERS) -> None:
        self.content, self.headers = content, headers
        self.sum = checksum(content)
        self.asked: Counter[str] = Counter()
        self.instead: dict[str, list[httpx.Response | Exception]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        kind = "sum" if path.endswith(".CHECKSUM") else "zip"
        assert path.removesuffix(".CHECKSUM") == f"/a/{DAY_FILE.path}"
        self.asked[kind] += 1
        if self.instead.get(kind):
            answer = self.instead[kind].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return httpx.Response(
            200, headers=self.headers, content=self.sum if kind == "sum" else self.content
        )


async def free(weight: int) -> None:
    assert weight == 0


def asking(
    site: Callable[[httpx.Request], httpx.Response],
    *files: ArchiveFile,
    permit: Permit = free,
) -> list[Candles | FileUnusable]:
    """What came of each file, one after the other, from one client."""

    async def work() -> list[Candles | FileUnusable]:
        client = Archive("http://archive.test/a/", ScriptedHttp(site))
        found: list[Candles | FileUnusable] = []
        for file in files or [DAY_FILE]:
            try:
                whole = Candles()
                async with client.candles(file, permit) as parts:
                    for part in parts:
                        whole.extend(part)
                found.append(whole)
            except FileUnusable as error:
                found.append(error)
        await client.aclose()
        return found

    return asyncio.run(work())


def reason(found: Candles | FileUnusable) -> str:
    assert isinstance(found, FileUnusable), "it was used"
    return found.reason


def ages(found: Candles | FileUnusable) -> set[int]:
    assert isinstance(found, Candles), found
    assert len(found) == 24
    return set(found.columns["answered_at"])


def test_candles_are_dated_when_the_file_was_published() -> None:
    site = Site()
    assert ages(*asking(site)) == {PUBLISHED}
    assert site.asked == {"sum": 1, "zip": 1}


@pytest.mark.parametrize("missing", ["last-modified", "date"])
def test_a_file_without_a_date_is_as_old_as_can_be(missing: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    assert ages(*asking(Site(headers=headers))) == {DAY_FILE.closed_ms}


def test_a_file_of_tomorrow_is_of_now() -> None:
    headers = HEADERS | {"last-modified": formatdate((PUBLISHED + 90 * DAY) / 1000, usegmt=True)}
    assert ages(*asking(Site(headers=headers))) == {PUBLISHED + 30 * DAY}


@pytest.mark.parametrize(
    "answer", [httpx.Response(404), FORBIDDEN, httpx.Response(404, content=b"x" * 100_000)]
)
@pytest.mark.parametrize("kind", ["sum", "zip"])
def test_what_is_not_there_is_missing_and_asked_for_once(kind: str, answer: httpx.Response) -> None:
    site = Site()
    site.instead[kind] = [httpx.Response(answer.status_code, content=answer.content)]
    assert reason(*asking(site)) == MISSING
    assert site.asked[kind] == 1


@pytest.mark.parametrize(
    "spoiled", [CONTENT[: len(CONTENT) // 2], b"<html>back soon</html>", file_bytes(DAY_FILE)[1:]]
)
def test_a_file_that_is_another_one_is_fetched_once_more(spoiled: bytes) -> None:
    site = Site()
    site.instead["zip"] = [httpx.Response(200, content=spoiled)]
    assert ages(*asking(site)) == {PUBLISHED}
    assert site.asked == {"sum": 2, "zip": 2}
    site.instead["zip"] = [httpx.Response(200, content=spoiled) for _ in range(2)]
    assert reason(*asking(site)) == DAMAGED
    assert site.asked == {"sum": 4, "zip": 4}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff" * 64,
        checksum(CONTENT).replace(b"AUSDT", b"BUSDT"),
        checksum(CONTENT)[1:],
        b"<html></html>",
    ],
    ids=["empty", "no text", "another file's", "cut off", "a page"],
)
def test_a_checksum_that_is_none_or_of_another_file_proves_nothing(text: bytes) -> None:
    site = Site()
    site.sum = text
    assert reason(*asking(site)) == DAMAGED
    assert site.asked["zip"] == 0


@pytest.mark.parametrize("form", ["{} *{}", "{}  {}\r\n", "{}\t{}\n\n"])
def test_a_checksum_is_read_in_every_form_of_sha256sum(form: str) -> None:
    site = Site()
    digest, name = site.sum.decode().split()
    site.sum = form.format(digest.upper(), name).encode()
    assert ages(*asking(site)) == {PUBLISHED}


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(503),
        httpx.ReadTimeout("slow"),
        httpx.ConnectError("gone"),
        httpx.Response(429),
    ],
)
def test_a_short_trouble_costs_a_request(trouble: httpx.Response | Exception) -> None:
    site = Site()
    site.instead["zip"] = [trouble]
    assert ages(*asking(site)) == {PUBLISHED}


@pytest.mark.parametrize(
    ("status", "content"),
    [(301, b""), (403, b"AccessDenied"), (429, b""), (500, b""), (503, FORBIDDEN.content)],
)
def test_an_archive_that_does_not_answer_is_left_alone(status: int, content: bytes) -> None:
    site = Site()
    site.instead["sum"] = [httpx.Response(status, content=content) for _ in range(20)]
    first, second = asking(site, DAY_FILE, DAY_FILE)
    assert (reason(first), reason(second)) == (UNAVAILABLE, UNAVAILABLE)
    assert site.asked == {"sum": 3}


def test_a_slow_file_is_given_up_and_the_archive_left_alone() -> None:
    site = Site()
    site.instead["sum"] = [httpx.ReadTimeout("slow") for _ in range(20)]
    first, second = asking(site, DAY_FILE, DAY_FILE)
    assert (reason(first), reason(second)) == (UNAVAILABLE, UNAVAILABLE)
    assert site.asked == {"sum": 3}


def test_an_answer_of_the_most_bytes_that_it_may_have_is_read() -> None:
    site = Site()
    site.sum = site.sum.ljust(archive._SHORT_BYTES, b"\n")
    assert ages(*asking(site)) == {PUBLISHED}
    site.sum += b"\n"
    assert reason(*asking(site)) == DAMAGED
    missing = FORBIDDEN.content.rjust(archive._SHORT_BYTES)
    site.instead["sum"] = [httpx.Response(403, content=missing)]
    assert reason(*asking(site)) == MISSING


def test_a_file_that_is_far_too_large_is_not_fetched_to_its_end() -> None:
    sent = Counter[str]()

    async def endless():
        while True:
            sent["bytes"] += 1000
            assert sent["bytes"] < 100_000
            yield b"0" * 1000

    site = Site()
    site.instead["zip"] = [httpx.Response(200, content=endless())]
    assert reason(*asking(site)) == DAMAGED


@given(st.binary(max_size=300), st.binary(max_size=200))
@settings(deadline=None, max_examples=100)
def test_any_answers_are_a_file_that_cannot_be_used(text: bytes, content: bytes) -> None:
    site = Site(content)
    site.sum = text
    assert reason(*asking(site)) == DAMAGED
    site.sum = checksum(content)
    assert reason(*asking(site)) == DAMAGED


@pytest.mark.parametrize(
    ("file", "path"),
    [
        (DAY_FILE, "data/spot/daily/klines/AUSDT/1h/AUSDT-1h-2025-01-01.zip"),
        (
            ArchiveFile("AUSDT", "1M", T0, T0 + 31 * DAY),
            "data/spot/monthly/klines/AUSDT/1mo/AUSDT-1mo-2025-01.zip",
        ),
        (
            ArchiveFile("币USDT", "1m", T0, T0 + 31 * DAY),
            "data/spot/monthly/klines/%E5%B8%81USDT/1m/%E5%B8%81USDT-1m-2025-01.zip",
        ),
    ],
)
def test_files_are_named_as_the_archive_names_them(file: ArchiveFile, path: str) -> None:
    assert file.path == path


@pytest.mark.parametrize("timeframe", ["3d", "1w", "1M"])
def test_a_timeframe_that_is_longer_than_a_day_has_no_daily_file(timeframe: str) -> None:
    assert daily_file("AUSDT", timeframe, T0) is None
    assert daily_file("AUSDT", "1d", T0) == ArchiveFile("AUSDT", "1d", T0, T0 + DAY)


def test_a_checksum_of_the_right_name_and_a_zip_without_candles() -> None:
    assert reason(*asking(Site(zipped("")))) == DAMAGED


@pytest.mark.parametrize("passed", [0, 1, 2, 3])
def test_no_request_leaves_without_a_permit(passed: int) -> None:
    site, permits = Site(), iter(range(passed))
    site.instead["zip"] = [httpx.Response(503)]

    async def permit(weight: int) -> None:
        if next(permits, None) is None:
            raise CollectorError("no more")

    if passed < 3:
        with pytest.raises(CollectorError, match="no more"):
            asking(site, permit=permit)
    else:
        asking(site, permit=permit)
    assert site.asked.total() == passed
