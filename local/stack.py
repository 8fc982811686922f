"""The parts of the local stack, each brought up when it is not running or not current."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import urllib.request
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.settings import user_settings
from infra.layer import LayerFailed
from infra.names import stack_name
from infra.package import Package, PackagingFailed, Report, package
from local import cloud, ports
from local.aws import Account
from local.deploy import DeployFailed, deploy, embedded_urls, outputs_of, variables_of
from local.failures import StartFailed
from local.first_key import first_admin_key
from local.layout import (
    CLOUD,
    ENDPOINTS,
    EXCHANGE,
    GATEWAY,
    HOME,
    METRICS,
    METRICS_STATE,
    PACKAGE,
    PORTS,
    PROCESSES,
    ROOT,
)
from local.options import Options
from local.processes import Process, Registry, start, stop
from market_data_collector.cli.locate import endpoints

STAGE = "local"
LEAST_FREE_BYTES = 1_000_000_000
#: What a package is made of; a change in any of it makes a new one.
_SOURCES = ("app.py", "settings.toml", "requirements.txt", "chalicelib", "infra", ".chalice")
_UP_WITHIN_S = 30


class Stack:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._registry = Registry(PROCESSES)

    def check_machine(self) -> None:
        """Refuse what cannot work, before anything is started."""
        if not (3, 11) <= sys.version_info[:2] <= (3, 13):
            raise StartFailed(
                "Python 3.11, 3.12 or 3.13 is needed; `make run PYTHON=...` names one."
            )
        free = shutil.disk_usage(ROOT).free
        if free < LEAST_FREE_BYTES:
            raise StartFailed(f"Only {free / 1e9:.1f} GB of disk are free here; 1 GB is needed.")
        port = self._options.port
        if self._registry.get(GATEWAY) is None and not ports.is_free(port):
            raise StartFailed(
                f"Port {port} is taken by another program: end that, "
                f"or choose another port with `make run PORT={port + 1}`."
            )

    def bring_up_cloud(self, report: Report) -> Account:
        if self._options.localstack_url is not None:
            if not cloud.is_localstack(self._options.localstack_url):
                raise StartFailed(
                    f"No LocalStack answers at {self._options.localstack_url}: start it, "
                    "or set AWS_ENDPOINT_URL to where it listens."
                )
            return Account(self._options.localstack_url)
        python = cloud.ensure_environment(report)
        running = self._registry.get(CLOUD)
        port = ports.remembered(PORTS, CLOUD, running is not None)
        if running is None or not cloud.is_ready(cloud.endpoint_url(port)):
            self._end(CLOUD)
            port = ports.remembered(PORTS, CLOUD)
            self._registry.put(CLOUD, cloud.launch(HOME, port, python, self._options.environ))
        return Account(cloud.endpoint_url(port))

    def bring_up_exchange(self) -> str:
        """URL of the exchange; the local one is started only where no other was named."""
        if self._options.exchange_url is not None:
            self._end(EXCHANGE)
            return self._options.exchange_url
        running = self._registry.get(EXCHANGE) is not None
        port = ports.remembered(PORTS, EXCHANGE, running)
        url = f"http://127.0.0.1:{port}"
        if not running or not _answers(f"{url}/api/v3/ping"):
            self._end(EXCHANGE)
            port = ports.remembered(PORTS, EXCHANGE)
            url = f"http://127.0.0.1:{port}"
            self._start(EXCHANGE, ["-m", "local.exchange", "--port", str(port)])
            self._wait(EXCHANGE, f"{url}/api/v3/ping")
        return url

    def bring_up_package(self, exchange_url: str, report: Report) -> tuple[Package, str]:
        """The package and the hash of what it was made from."""
        environ = {
            **self._options.environ,
            "EXCHANGE_URL": exchange_url,
            "EXCHANGE": self._options.exchange,
        }
        built = Package(PACKAGE)
        made_from, stamp = _hash_of_sources(environ), PACKAGE.with_suffix(".made-from")
        current = stamp.exists() and stamp.read_text(encoding="utf-8") == made_from
        if current and built.archive.exists() and built.template.exists():
            return built, made_from
        stamp.unlink(missing_ok=True)
        native = self._options.localstack_url is None
        try:
            built = package(STAGE, PACKAGE, environ, report, for_this_machine=native)
        except (SettingsInvalid, PackagingFailed, LayerFailed) as error:
            raise StartFailed(f"Packaging failed: {error}") from error
        stamp.write_text(made_from, encoding="utf-8")
        return built, made_from

    def bring_up_deployment(
        self, to: Account, built: Package, made_from: str, report: Report
    ) -> dict[str, str]:
        """The outputs of the stack, which is current afterwards."""
        # The endpoint is part of the deployed environment. The stack itself says what it was made
        # from: after a crash the embedded cloud comes back with what it last saved, not the newest.
        wanted = f"{made_from[:40]}@{to.endpoint_url}"
        try:
            outputs = outputs_of(to, stack_name(STAGE)) or {}
            if outputs.get("MadeFrom") == wanted:
                return outputs
            return deploy(to, built.folder, stack_name(STAGE), report, wanted)
        except (DeployFailed, BotoCoreError, ClientError) as error:
            raise StartFailed(str(error)) from error

    def bring_up_gateway(self, to: Account) -> tuple[str, str]:
        """The stable (HTTP, WebSocket) addresses."""
        api, sockets = embedded_urls(str(to.endpoint_url), to, stack_name(STAGE))
        port = self._options.port
        arguments = ["-m", "local.gateway", "--port", str(port), "--api", api, "--sockets", sockets]
        running = self._registry.get(GATEWAY)
        if running is None or running.command[1:] != arguments:
            self._end(GATEWAY)
            if not ports.is_free(port):
                raise StartFailed(
                    f"Port {port} is taken by another program: end that, "
                    f"or choose another port with `make run PORT={port + 1}`."
                )
            self._start(GATEWAY, arguments)
            self._wait(GATEWAY, f"http://127.0.0.1:{port}/")
        return f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws"

    def bring_up_metrics(self, to: Account) -> None:
        """What CloudWatch does beside the functions, for the embedded cloud, which does not."""
        if self._options.localstack_url is not None:
            return
        arguments = ["-m", "local.metrics", "--endpoint", str(to.endpoint_url)]
        arguments += ["--stack", stack_name(STAGE), "--state", str(METRICS_STATE)]
        running = self._registry.get(METRICS)
        if running is None or running.command[1:] != arguments:
            self._end(METRICS)
            self._start(METRICS, arguments)

    def bring_up_key(self, to: Account, built: Package, outputs: dict[str, str]) -> str | None:
        """An admin's key; None where the stack does not ask for one, or has one that is not known
        here."""
        template = json.loads(built.template.read_text(encoding="utf-8"))
        authentication = variables_of(template)["AUTHENTICATION"]
        if authentication != "keys":
            return None
        made = first_admin_key(to, authentication, outputs)
        return made or endpoints(ROOT).get("api_key")

    def write_endpoints(
        self,
        to: Account,
        outputs: dict[str, str],
        exchange_url: str,
        urls: tuple[str, str],
        key: str | None = None,
    ) -> Path | None:
        """Write .local/endpoints.json; the folder in which the candles lie as files, if they do."""
        bucket = outputs["CandlesBucket"]
        native = self._options.localstack_url is None
        candles = cloud.candles_dir(HOME, bucket) if native else None
        found = {
            "api_url": urls[0],
            "ws_url": urls[1],
            "exchange": outputs["Exchange"],
            "exchange_url": exchange_url,
            "aws_endpoint_url": to.endpoint_url,
            "region": to.region_name,
            "candles_bucket": bucket,
            "stack_name": stack_name(STAGE),
        }
        if candles is not None:
            found["candles_dir"] = str(candles)
        if key is not None:
            found["api_key"] = key
        _write_json(ENDPOINTS, found)
        ENDPOINTS.chmod(0o600)  # it may hold a key
        return candles

    def _start(self, name: str, arguments: list[str]) -> None:
        environ = {**self._options.environ, "PYTHONUNBUFFERED": "1"}
        log = HOME / f"{name}.log"
        self._registry.put(name, start([sys.executable, *arguments], environ, ROOT, log))

    def _wait(self, name: str, url: str) -> None:
        deadline = time.monotonic() + _UP_WITHIN_S
        while not _answers(url):
            if self._registry.get(name) is None or time.monotonic() > deadline:
                log = cloud.tail(HOME / f"{name}.log")
                raise StartFailed(f"The {name} did not start; its log ends:\n{log}")
            time.sleep(0.05)

    def _end(self, name: str) -> None:
        running: Process | None = self._registry.get(name)
        if running is not None:
            stop(running)
        self._registry.remove(name)


def _answers(url: str) -> bool:
    """Whether an HTTP server answers there, whatever its answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _hash_of_sources(environ: dict[str, str]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for name, _, _ in user_settings():
        digest.update(f"{name}={environ.get(name)}\0".encode())
    for source in _SOURCES:
        path = ROOT / source
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(os.fsencode(file.relative_to(ROOT)) + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
