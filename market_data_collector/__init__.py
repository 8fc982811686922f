"""A client of the market data collector: `Client`, and `AsyncClient` for event loops.

docs/PYTHON.md has examples. The command line (`data-collector`) is in the package `cli`.
"""

from market_data_collector.candles import Candles
from market_data_collector.client import AsyncClient, Client
from market_data_collector.effects import Unheard
from market_data_collector.errors import ApiError, Expired, NotThisApi, Rejected, Unreachable
from market_data_collector.jobs import AsyncJob, Job
from market_data_collector.locate import Unusable
from market_data_collector.version import VERSION as __version__

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJob",
    "Candles",
    "Client",
    "Expired",
    "Job",
    "NotThisApi",
    "Rejected",
    "Unheard",
    "Unreachable",
    "Unusable",
    "__version__",
]
