"""The proxies that the environment names, as curl and most clients read it: HTTP_PROXY,
HTTPS_PROXY, NO_PROXY. People have them on laptops; on Lambda there are none."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass


class Proxy(NamedTuple):
    """`place`: host and port; `headers`: what it wants to be told of who asks."""

    place: tuple[str, int]
    headers: dict[str, str]


class Proxies:
    """As the environment names them now: to look for them takes longer than half a request."""

    def __init__(self) -> None:
        self._found = getproxies_environment()
        self._any = bool(self._found.keys() & {"http", "https"})

    def of(self, scheme: str, host: str) -> Proxy | None:
        """Which one to ask for that host, with a port or without. Raises ValueError for what is no
        proxy of HTTP."""
        url = self._found.get(scheme) if self._any else None
        if not url or proxy_bypass(host):
            return None
        return _proxy(url)


@lru_cache(maxsize=2)
def _proxy(url: str) -> Proxy:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{parts.scheme}://{parts.hostname}: only proxies of http:// can be asked")
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {"proxy-authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return Proxy((parts.hostname, parts.port or 80), headers)
