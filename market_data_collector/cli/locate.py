"""Finding the API: an explicit URL, the environment, the local stack's file, a default."""

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

PREFIX = "/api/v1/data-collector"
DEFAULT_URL = "http://127.0.0.1:8000"
VARIABLE = "DATA_COLLECTOR_URL"
ENDPOINTS = Path(".local", "endpoints.json")


class UnusableUrl(ValueError):
    """The URL, or the file it should come from, cannot be used; the message names it."""


def find_url(given: str | None, environ: Mapping[str, str], cwd: Path) -> str:
    """The API's URL: `given`, else $DATA_COLLECTOR_URL, else `api_url` of the nearest
    `.local/endpoints.json` in `cwd` or above it, else http://127.0.0.1:8000.

    An empty value counts as absent. Raises UnusableUrl when an endpoints file is not JSON.
    """
    return given or environ.get(VARIABLE) or endpoints(cwd).get("api_url") or DEFAULT_URL


def with_prefix(url: str) -> str:
    """`url` up to the API's prefix, which is added where it is missing.

    So any address of the API will do, as a deploy prints it or as a browser shows it.

    A URL without a scheme is taken as http. Raises UnusableUrl for anything but http(s)://host.
    """
    text = url.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        usable = False
    if not usable:
        raise UnusableUrl(f"{url!r} is not an http(s) URL.")
    before, prefix, after = parts.path.partition(PREFIX)
    if not prefix or after[:1] not in ("", "/"):
        before = parts.path.rstrip("/").removesuffix(
            "/api"
        )  # API Gateway's own ends with its stage
    return urlunsplit((parts.scheme, parts.netloc, before + PREFIX, "", ""))


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
    that names an `api_url`. Raises UnusableUrl when the file is not JSON."""
    for folder in (cwd, *cwd.parents):
        file = folder / ENDPOINTS
        try:
            found = json.loads(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except ValueError as error:
            raise UnusableUrl(f"{file} is not valid JSON ({error}).") from error
        if isinstance(found, dict) and isinstance(found.get("api_url"), str):
            return {name: text for name, text in found.items() if isinstance(text, str)}
    return {}
