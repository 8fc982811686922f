"""What every request to the exchange passes right before it leaves.

The task must still want it, the fleet must not be paused, its weight must be paid, and there must
be time left to store what it brings. Requests that come to the gate within some milliseconds are
checked together: one read lets all of them pass, and each still leaves after the check that let it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from chalicelib.core.errors import CollectorError
from chalicelib.core.together import together
from chalicelib.exchange.budget import Budget

#: Stop taking on work when what is begun might no longer end in time.
RESERVE_MS = 15_000
#: So long does a check wait for others that it could hold for: the answers to those that left
#: together come together. An exchange takes ten times as long, and it halves the checks.
_GATHER_SECONDS = 0.005


class Withheld(CollectorError):
    """A request that was not sent.

    `stopped`: the task does not want it any more. `out_of_time`: this invocation has no time left.
    `until_ms`: epoch ms before which nobody may ask, 0 where that is not why.
    """

    reason = "REQUEST_WITHHELD"

    def __init__(
        self, detail: str, *, stopped: bool = False, out_of_time: bool = False, until_ms: int = 0
    ) -> None:
        super().__init__(detail)
        self.stopped = stopped
        self.out_of_time = out_of_time
        self.until_ms = until_ms

    def again(self) -> Withheld:
        return Withheld(
            self.detail,
            stopped=self.stopped,
            out_of_time=self.out_of_time,
            until_ms=self.until_ms,
        )


class Gate:
    """One for each group of units; once it has withheld a request it lets none pass any more.

    `authorised`: whether the task still wants its units; `remaining_ms`: of this invocation;
    `high`: whether its requests may use the weight that is kept for priority high.
    """

    def __init__(
        self,
        budget: Budget,
        authorised: Callable[[], Coroutine[Any, Any, bool]],
        remaining_ms: Callable[[], int],
        high: bool = False,
    ) -> None:
        self._budget = budget
        self._high = high
        self._authorised = authorised
        self._remaining_ms = remaining_ms
        self._checking = asyncio.Lock()
        #: Requests that have come to the gate, and up to which of them the last check holds.
        self._arrived = 0
        self._checked = 0
        #: Weight of those behind the last check.
        self._unpaid = 0
        self.withheld: Withheld | None = None

    def close(self, why: Withheld) -> None:
        """Let nothing pass from now on: the exchange has throttled a request that did."""
        self.withheld = self.withheld or why

    async def permit(self, weight: int) -> None:
        """Let one request of this weight pass. Raises Withheld, or CallFailed."""
        self._arrived += 1
        self._unpaid += weight
        mine = self._arrived
        async with self._checking:
            if self._must_check(mine):
                await asyncio.sleep(_GATHER_SECONDS)
            if self._must_check(mine):
                # Holds for all who are here by now; who comes later is checked later.
                here, unpaid = self._arrived, self._unpaid
                await self._check(unpaid)
                self._checked = here
                self._unpaid -= unpaid
            if self.withheld is not None:
                # Another one each time: an error knows the frames that it has passed through.
                raise self.withheld.again()

    def _must_check(self, arrived: int) -> bool:
        return self.withheld is None and arrived > self._checked

    async def _check(self, weight: int) -> None:
        if self._remaining_ms() < RESERVE_MS:
            self.close(Withheld("no time is left", out_of_time=True))
            return
        await self._budget.wait()
        # Both at once: what they read goes in one call.
        until_ms, is_wanted = await together(
            self._budget.take(weight, self._high), self._authorised()
        )
        if until_ms:
            self.close(Withheld("waiting for the exchange", until_ms=until_ms))
        elif not is_wanted:
            self.close(Withheld("the task does not want it any more", stopped=True))
