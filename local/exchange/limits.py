"""Request weights: who used how much of the current minute, and who is banned.

Weight is counted per address in fixed minutes of the exchange's clock. Over the limit a
request is refused with 429 and the seconds to the next minute. An address that goes on after
`patience` refusals within the minute is banned with 418: for two minutes, twice as long each
further time, three days at most; refused requests count, too
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits).
"""

from dataclasses import dataclass

from local.exchange.errors import ApiError
from local.exchange.timeframes import DAY, MINUTE

_SHORTEST_BAN = 2 * MINUTE
_LONGEST_BAN = 3 * DAY


@dataclass
class _Account:
    minute: int = 0
    used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until: int = 0


class WeightLimiter:
    """Accounts of all addresses; `limit` is the weight of a minute."""

    def __init__(self, limit: int, patience: int = 10) -> None:
        self.limit = limit
        self.patience = patience
        self.total = 0
        self._accounts: dict[str, _Account] = {}

    def charge(self, address: str, weight: int, now: int) -> ApiError | None:
        """Count a request of `weight` at `now` (epoch ms); the refusal if it is refused."""
        account = self._account(address, now)
        account.used += weight
        self.total += weight
        if now < account.banned_until:
            return _banned(account, now)
        if account.used <= self.limit:
            return None
        account.refused += 1
        if account.refused > self.patience:
            account.banned_until = now + min(_LONGEST_BAN, _SHORTEST_BAN << min(account.bans, 12))
            account.bans += 1
            account.refused = 0
            return _banned(account, now)
        wait = MINUTE - now % MINUTE
        msg = (
            f"Too much request weight used; current limit is {self.limit} request weight per "
            "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."
        )
        return ApiError(-1003, msg, 429, _seconds(wait))

    def used(self, address: str, now: int) -> int:
        """The weight that an address used in the minute of `now` (epoch ms)."""
        return self._account(address, now).used

    def reset(self) -> None:
        """Forget all accounts and bans."""
        self._accounts.clear()
        self.total = 0

    def _account(self, address: str, now: int) -> _Account:
        account = self._accounts.setdefault(address, _Account())
        minute = now // MINUTE
        if account.minute != minute:
            account.minute, account.used, account.refused = minute, 0, 0
        return account


def _banned(account: _Account, now: int) -> ApiError:
    msg = (
        f"Way too much request weight used; IP banned until {account.banned_until}. "
        "Please use WebSocket Streams for live updates to avoid bans."
    )
    return ApiError(-1003, msg, 418, _seconds(account.banned_until - now))


def _seconds(milliseconds: int) -> int:
    return max(1, -(-milliseconds // 1000))
