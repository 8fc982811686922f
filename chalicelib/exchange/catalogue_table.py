""""""

from __future__ import annotations

import json
import zlib
from typing import Any


def prices_in(item: dict[str, Any]) -> tuple[dict[str, str], int]:
    """{symbol: price as the exchange sent it} of a PRICES item, and their time in epoch ms."""
    return json.loads(zlib.decompress(item["prices"])), item["priced_at"]


def packed(value: dict[str, str]) -> bytes:
    """A mapping as the items hold it; `prices_in` reads it back."""
    return zlib.compress(json.dumps(value, ensure_ascii=False, sort_keys=True).encode(), 6)
