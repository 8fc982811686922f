"""The parts of the local stack, each brought up when it is not running or not current."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from infra.names import stack_name
from infra.package import Package, Report
from local import cloud, ports
from local.aws import Account
from local.deploy import (
    DeployFailed,
    deploy,
    embedded_urls,
    finish_embedded,
    outputs_of,
    variables_of,
)
from local.failures import StartFailed
from local.first_key import admin_key
from local.layout import (
    CLOUD,
    ENDPOINTS,
    EXCHANGE,
    GATEWAY,
    HOME,
    METRICS,
    METRICS_JOURNAL,
    METRICS_STATE,
    PORTS,
    ROOT,
    read_object,
    write_whole,
)
from local.options import Options
from local.packaged import STAGE
from local.processes import Process, marked, parts, start, stop, stop_strays

LEAST_FREE_BYTES = 1_000_000_000
#: Long, for a machine that is busy with something else.
_UP_WITHIN_S = 60
_ANSWERS_WITHIN_S = 60
#: What people call the parts.
_SAID = {CLOUD: "embedded cloud", EXCHANGE: "exchange", GATEWAY: "gateway", METRICS: "metrics"}


class Stack:
    def __init__(self, options: Options) -> None:
        self._options = options
        #: The parts that this run has found fit, or started.
        self._up: dict[str, Process] = {}

    def check_machine(self) -> None:
        """Refuse what cannot work, before anything is started."""
        free = shutil.disk_usage(ROOT).free
        if free < LEAST_FREE_BYTES:
            raise StartFailed(f"Only {free / 1e9:.1f} GB of disk are free here; 1 GB is needed.")
        self._require_port()

    def bring_up_cloud(self, report: Report) -> Account:
        if self._options.localstack_url is not None:
            if not cloud.is_localstack(self._options.localstack_url):
                raise StartFailed(
                    f"No LocalStack answers at {self._options.localstack_url}: start it, "
                    "or set AWS_ENDPOINT_URL to where it listens."
                )
            return Account(self._options.localstack_url)
        python = cloud.ensure_environment(report)
        running = self._fit(CLOUD, cloud.FILES)
        if running is None or not self._answers(CLOUD, running, report):
            self._end(CLOUD)
            stop_strays(HOME)
            self._tell_losses(report)
            port = ports.remembered(PORTS, CLOUD, report)
            cloud.readdress(HOME, port)
            cloud.rewind_streams(HOME)
            running = cloud.launch(HOME, port, python, self._options.environ)
        self._up[CLOUD] = running
        return Account(cloud.endpoint_url(running.port or 0))

    def _tell_losses(self, report: Report) -> None:
        """What is lost of a cloud that did not end in order."""
        aside, left = cloud.put_damaged_aside(HOME), cloud.saved(HOME)
        if aside is not None:
            what = f"the embedded cloud's state was damaged; it is in {_shown(aside)} now"
        elif left is not None and not left.in_order:
            what = "the embedded cloud did not end in order (killed, or copied while it ran)"
        else:
            return
        if aside is None and left is not None and left.at:
            report(f"{what}: its tasks, schedules and coverage are as saved at {left.at}.")
            report("candles stay; collecting again enters them into the coverage")
        else:
            report(f"{what}: its tasks, schedules and coverage begin anew, in a new bucket.")
            report(f"the candles of before stay as files below {_shown(HOME / 's3')}")

    def save_cloud(self) -> None:
        """Let the embedded cloud save what it has now, whatever happens to it later."""
        if running := self._fit(CLOUD):
            cloud.save(running)

    def bring_up_exchange(self, report: Report) -> str:
        """URL of the exchange; the local one is started only where no other was named."""
        if self._options.exchange_url is not None:
            self._end(EXCHANGE)
            return self._options.exchange_url
        running = self._fit(EXCHANGE)
        if running is None or not self._answers(EXCHANGE, running, report):
            self._end(EXCHANGE)
            port = ports.remembered(PORTS, EXCHANGE, report)
            arguments = ["-m", "local.exchange", "--port", str(port)]
            running = self._start(EXCHANGE, arguments)
            self._wait(EXCHANGE, running, f"{_url(running)}/api/v3/ping")
        self._up[EXCHANGE] = running
        return _url(running)

    def bring_up_deployment(
        self, to: Account, built: Package, made_from: str, report: Report
    ) -> dict[str, str]:
        """The outputs of the stack, which is current afterwards."""
        # The endpoint and the folder are part of what is deployed. The stack itself says what it
        # was made from: after a crash the embedded cloud comes back with what it last saved.
        wanted = f"{made_from[:40]}@{to.endpoint_url}@{HOME}"
        name = stack_name(STAGE)
        try:
            if self._options.localstack_url is None:
                built = cloud.unpacked(built, HOME)
            outputs = outputs_of(to, name) or {}
            if outputs.get("MadeFrom") != wanted:
                return deploy(to, built.folder, name, report, wanted)
            # Whoever deployed it may have been ended before this.
            finish_embedded(to, name, json.loads(built.template.read_text(encoding="utf-8")))
            return outputs
        except (DeployFailed, BotoCoreError, ClientError) as error:
            raise StartFailed(str(error)) from error

    def bring_up_gateway(self, to: Account, report: Report) -> tuple[str, str]:
        """The stable (HTTP, WebSocket) addresses."""
        api, sockets = embedded_urls(str(to.endpoint_url), to, stack_name(STAGE))
        port = self._options.port
        arguments = ["-m", "local.gateway", "--port", str(port), "--api", api, "--sockets", sockets]
        running = self._fit(GATEWAY, arguments)
        if running is None or not self._answers(GATEWAY, running, report):
            self._require_port()
            self._end(GATEWAY)
            running = self._start(GATEWAY, arguments)
            self._wait(GATEWAY, running, f"{_url(running)}/")
        self._up[GATEWAY] = running
        return _url(running), f"ws://127.0.0.1:{port}/ws"

    def bring_up_metrics(self, to: Account) -> None:
        """What CloudWatch does beside the functions, for the embedded cloud, which does not."""
        if self._options.localstack_url is not None:
            return
        arguments = ["-m", "local.metrics", "--endpoint", str(to.endpoint_url)]
        arguments += ["--stack", stack_name(STAGE), "--state", str(METRICS_STATE)]
        arguments += ["--journal", str(METRICS_JOURNAL)]
        if self._fit(METRICS, arguments) is None:
            self._end(METRICS)
            self._start(METRICS, arguments)

    def bring_up_key(self, to: Account, built: Package, outputs: dict[str, str]) -> str | None:
        """An admin's key that works: the one that is known here, or else a new one, as the cloud is
        one's own. None where the stack does not ask for keys."""
        template = json.loads(built.template.read_text(encoding="utf-8"))
        authentication = variables_of(template)["AUTHENTICATION"]
        return admin_key(to, authentication, outputs, read_object(ENDPOINTS).get("api_key"))

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
        write_whole(ENDPOINTS, json.dumps(found, indent=2) + "\n")
        return candles

    def silent(self) -> list[str]:
        """Which parts that were brought up have ended or do not answer, each in a sentence."""
        found = []
        for name, process in dict(self._up).items():
            if not process.is_running():
                what = "has ended"
            elif not _PROBES[name](_url(process)):
                what = f"(process {process.pid}) does not answer at {_url(process)}"
            else:
                continue
            log = _shown(HOME / f"{name}.log")
            found.append(
                f"the {_SAID[name]} {what}; its log is {log}. "
                "If it stays so: Ctrl-C, `make down`, `make run`."
            )
        return found

    def _require_port(self) -> None:
        """Raises StartFailed where somebody else has the API's port."""
        port = self._options.port
        own = any(part.name == GATEWAY and part.process.port == port for part in parts(HOME))
        trouble = None if own else ports.trouble(port)
        if trouble:
            raise StartFailed(trouble)

    def _fit(self, name: str, arguments: Sequence[str] = ()) -> Process | None:
        """The part `name` if it runs as it would be started now."""
        found = [part for part in parts(HOME) if part.name == name]
        fit = [part.process for part in found if part.is_at_home(HOME)]
        fit = [process for process in fit if process.ends_with(arguments)]
        return fit[0] if len(found) == len(fit) == 1 else None

    def _answers(self, name: str, running: Process, report: Report) -> bool:
        """Whether the part answers; it may have been started a moment ago, and be busy."""
        deadline, said = time.monotonic() + _ANSWERS_WITHIN_S, False
        while not _PROBES[name](_url(running)):
            if not running.is_running() or time.monotonic() > deadline:
                report(f"the {_SAID[name]} does not answer; it is started again")
                return False
            if not said:
                report(f"the {_SAID[name]} runs, and does not answer yet")
                said = True
            time.sleep(0.2)
        return True

    def _start(self, name: str, arguments: list[str]) -> Process:
        environ = {**self._options.environ, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, *marked(name, HOME), *arguments]
        return start(command, environ, ROOT, HOME / f"{name}.log")

    def _wait(self, name: str, running: Process, url: str) -> None:
        deadline = time.monotonic() + _UP_WITHIN_S
        while not _answers_http(url):
            if not running.is_running() or time.monotonic() > deadline:
                log = cloud.tail(HOME / f"{name}.log")
                raise StartFailed(f"The {_SAID[name]} did not start; its log ends:\n{log}")
            time.sleep(0.05)

    def _end(self, name: str) -> None:
        stop(*(part.process for part in parts(HOME) if part.name == name))


def _url(process: Process) -> str:
    return f"http://127.0.0.1:{process.port}"


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _answers_ping(url: str) -> bool:
    return _answers_http(f"{url}/api/v3/ping")


def _answers_http(url: str) -> bool:
    """Whether an HTTP server answers there, whatever its answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, HTTPException):
        return False
    return True


_PROBES: dict[str, Callable[[str], bool]] = {
    CLOUD: cloud.is_ready,
    EXCHANGE: _answers_ping,
    GATEWAY: _answers_http,
}
