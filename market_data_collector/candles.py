"""Candles as an Arrow table, which any library takes through the Arrow PyCapsule interface.

Columns: `open_time` and `close_time` (UTC, milliseconds), `open`, `high`, `low`, `close`,
`volume`, `quote_volume`, `taker_buy_volume`, `taker_buy_quote_volume` (doubles), `trades` (whole
numbers), and `filled` where missing candles were asked for.
"""

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

import httpx

from market_data_collector import errors
from market_data_collector.calls import Site, answered, given
from market_data_collector.effects import Plan

if TYPE_CHECKING:
    import pandas
    import polars
    from arro3.core import Table

#: Format of an answer -> its content type, and the most rows of a page.
FORMATS = {
    "json": ("application/json", 10_000),
    "csv": ("text/csv", 10_000),
    "arrow": ("application/vnd.apache.arrow.stream", 30_000),
    "parquet": ("application/vnd.apache.parquet", 30_000),
}


class Candles:
    """An Arrow table of candles, oldest first unless they were asked for otherwise.

    >>> candles = Client().candles("BTCUSDT", "1h", "2026-11-22", "2026-11-23")
    >>> candles
    <Candles: 24 rows, 2026-11-22T00:00:00Z to 2026-11-22T23:00:00Z>
    >>> candles.table.schema.field("open_time").type
    arro3.core.DataType<Timestamp(ms, "UTC")>

    Whatever takes Arrow takes it as it is: `polars.DataFrame(candles)`, `pyarrow.table(candles)`,
    and DuckDB by its name: `duckdb.sql("select max(high) from candles")`.
    """

    def __init__(self, table: "Table") -> None:
        self.table = table

    @classmethod
    def joined(cls, pages: Iterable["Candles"]) -> Self:
        """The rows of all pages, of which there is one at least."""
        from arro3.core import Table

        tables = [page.table for page in pages]
        batches = [batch for table in tables for batch in table.to_batches()]
        return cls(Table.from_batches(batches, schema=tables[0].schema))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> Any:
        """A column, as an Arrow array in chunks."""
        return self.table[column]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self.table.schema.__arrow_c_schema__()

    def __repr__(self) -> str:
        if not len(self):
            return "<Candles: 0 rows>"
        times = (self["open_time"][at].as_py() for at in (0, len(self) - 1))
        first, last = (time.isoformat().replace("+00:00", "Z") for time in times)
        return f"<Candles: {len(self):,} rows, {first} to {last}>"

    def to_pandas(self) -> "pandas.DataFrame":
        """A DataFrame with `open_time` as its index; needs pandas, and not pyarrow.

        >>> frame = Client().candles("BTCUSDT", "1h", "2026-11-22", "2026-11-23").to_pandas()
        >>> frame[["close", "trades"]].head(2)
                                     close  trades
        open_time
        2026-11-22 00:00:00+00:00  62000.0     100
        2026-11-22 01:00:00+00:00  62018.5     101
        """
        import pandas
        from arro3.core import DataType

        columns = {}
        for name in self.table.schema.names:
            array = self.table[name]
            if not DataType.is_timestamp(array.type):
                columns[name] = array.to_numpy()
                continue
            milliseconds = array.cast(DataType.int64()).to_numpy().astype("datetime64[ms]")
            columns[name] = pandas.DatetimeIndex(milliseconds, tz="UTC")
        return pandas.DataFrame(columns).set_index("open_time")

    def to_polars(self) -> "polars.DataFrame":
        """A DataFrame; needs Polars.

        >>> day = Client().candles("BTCUSDT", "1h", "2026-11-22", "2026-11-23").to_polars()
        >>> day.height, day["volume"].sum() > 0
        (24, True)
        """
        import polars

        return polars.DataFrame(self)


class CandlePages:
    """The pages of GET /candles in one format, a `next()` each while there are `more`."""

    def __init__(self, site: Site, form: str, asked: Mapping[str, object]) -> None:
        self._site = site
        self._content_type, most = FORMATS[form]
        self._asked = {"limit": str(most), **given(asked), "format": form}
        self._followed: set[str] = set()
        self.more = True

    def next(self) -> Plan[httpx.Response]:
        """Raises NotThisApi for what is no such page."""
        headers = {"Accept": "*/*"}
        response = yield from answered(
            self._site, "GET", "/candles", params=self._asked, headers=headers
        )
        if not response.headers.get("content-type", "").startswith(self._content_type):
            raise errors.not_this_api(self._site.url, f"it answered no {self._content_type}")
        reference = response.links.get("next", {}).get("url", "")
        token = dict(parse_qsl(reference.partition("?")[2])).get("page_token", "")
        self.more = token not in self._followed | {""}
        self._followed.add(token)
        self._asked = {**self._asked, "page_token": token}
        return response


def page(response: httpx.Response) -> Candles:
    """A page that came as an Arrow stream."""
    from arro3.io import read_ipc_stream  # most commands can do without it

    return Candles(read_ipc_stream(io.BytesIO(response.content)).read_all())
