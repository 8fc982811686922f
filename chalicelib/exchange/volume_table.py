"""How much of each symbol was traded in 24 hours, in the Market table.

pk                  sk       holds
VOLUMES#<exchange>  VOLUMES  volumes: zlib JSON {symbol: quote volume of 24 h}, asked_at:
                             when the exchange was asked (epoch ms), claimed_at: when somebody
                             last set out to ask it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import to_wire
from chalicelib.core.backend import Backend
from chalicelib.exchange.catalogue_table import packed, unpacked

#: Whoever claims it has asked within this time, or has died.
CLAIM_MS = 60_000


class StoredVolumes(NamedTuple):
    """`volumes`: symbol -> quote volume of 24 hours; `asked_at`: when they were asked for."""

    volumes: Mapping[str, float] = {}
    asked_at: int = 0


class VolumeTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.market_table)
        name = f"VOLUMES#{backend.settings.exchange}"
        self._key: dict[str, Any] = {"pk": {"S": name}, "sk": {"S": "VOLUMES"}}

    async def read(self) -> StoredVolumes:
        """Without volumes where nobody ever asked for them."""
        item = await self._get(self._key)
        if item is None or "volumes" not in item:
            return StoredVolumes()
        return StoredVolumes(unpacked(item["volumes"]), item["asked_at"])

    async def claim(self, now_ms: int) -> bool:
        """Whether the caller is to ask the exchange: nobody else has set out to in this minute."""
        return await self._claim(self._key, now_ms, CLAIM_MS)

    async def write(self, volumes: Mapping[str, float], asked_ms: int) -> None:
        await self._update(
            self._key,
            UpdateExpression="SET volumes = :volumes, asked_at = :asked",
            ExpressionAttributeValues={
                ":volumes": to_wire(packed(volumes)),
                ":asked": to_wire(asked_ms),
            },
        )
