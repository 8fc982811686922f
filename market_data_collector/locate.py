"""Finding the API and the key for it: an option, the environment, a file, a default.

    .local/endpoints.json here or in a folder above       of the local stack
    ~/.config/data-collector/config.json                  one's own ($XDG_CONFIG_HOME is respected)

Both hold `api_url` and, where keys are asked for, `api_key`.
"""

import ipaddress
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

PREFIX = "/api/v1/data-collector"
#: API Gateway's stage, at which the console is.
STAGE = "/api/"
DEFAULT_URL = "http://127.0.0.1:8000"
VARIABLE = "DATA_COLLECTOR_URL"
KEY_VARIABLE = "DATA_COLLECTOR_KEY"
ENDPOINTS = Path(".local", "endpoints.json")
CONFIG = Path("data-collector", "config.json")


class Unusable(ValueError):
    """What a client is made of cannot be used; the message says what, and never holds a key."""


def find_url(given: str | None, environ: Mapping[str, str], cwd: Path) -> str:
    """The API's URL: `given`, else $DATA_COLLECTOR_URL, else `api_url` of the nearest
    `.local/endpoints.json` in `cwd` or above it, else of one's own file, else
    http://127.0.0.1:8000.

    An empty value counts as absent. Raises Unusable when a file is not JSON.
    """
    if chosen := given or environ.get(VARIABLE):
        return chosen
    return next((file["api_url"] for file in _files(environ, cwd)), DEFAULT_URL)


def find_key(given: str | None, environ: Mapping[str, str], cwd: Path, url: str) -> str | None:
    """The key to send to the API at `url`: `given`, else $DATA_COLLECTOR_KEY, else `api_key` of a
    file that names this very URL: its key is for no other API. None where there is none.

    An empty value counts as absent. Raises Unusable when a file is not JSON.
    """
    if chosen := given or environ.get(KEY_VARIABLE):
        return chosen
    for file in _files(environ, cwd):
        if file.get("api_key") and with_prefix(file["api_url"]) == with_prefix(url):
            return file["api_key"]
    return None


def with_prefix(url: str) -> str:
    """`url` up to the API's prefix, which is added where it is missing.

    So any address of the API will do, as a deploy prints it or as a browser shows it.

    A URL without a scheme is taken as http. Raises Unusable for anything but http(s)://host.
    """
    text = url.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        usable = False
    if not usable:
        raise Unusable(f"{url!r} is not an http(s) URL.")
    before, prefix, after = parts.path.partition(PREFIX)
    if not prefix or after[:1] not in ("", "/"):
        before = parts.path.rstrip("/").removesuffix(
            "/api"
        )  # API Gateway's own ends with its stage
    return urlunsplit((parts.scheme, parts.netloc, before + PREFIX, "", ""))


def console_url(api_url: str) -> str:
    """Where the web console of the API at `api_url` (with its prefix) is."""
    return api_url.removesuffix(PREFIX) + STAGE


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, where a proxy from the environment must not be asked."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def endpoints(cwd: Path) -> dict[str, str]:
    """What the nearest `.local/endpoints.json` in `cwd` or above it names; {} where there is none
    that names an `api_url`. Raises Unusable when the file is not JSON."""
    for folder in (cwd, *cwd.parents):
        if found := _read(folder / ENDPOINTS):
            return found
    return {}


def _files(environ: Mapping[str, str], cwd: Path) -> Iterator[dict[str, str]]:
    """What the files hold that name an `api_url`, the nearest first."""
    if found := endpoints(cwd):
        yield found
    home = environ.get("XDG_CONFIG_HOME") or (environ.get("HOME") and f"{environ['HOME']}/.config")
    if home and (found := _read(Path(home) / CONFIG)):
        yield found


def _read(file: Path) -> dict[str, str]:
    """A file's texts; {} where it is not there or names no `api_url`. Raises Unusable."""
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except ValueError as error:
        raise Unusable(f"{file} is not valid JSON ({error}).") from error
    if isinstance(found, dict) and isinstance(found.get("api_url"), str) and found["api_url"]:
        return {name: text for name, text in found.items() if isinstance(text, str)}
    return {}
