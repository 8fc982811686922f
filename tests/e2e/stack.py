"""A whole stack on this machine, for as long as a `with` block lasts: embedded cloud, exchange,
packaged and deployed application."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.core.roots import LOCAL
from infra.names import stack_name
from infra.package import ROOT, Package, package
from local.aws import Account
from local.cloud import candles_dir, endpoint_url, ensure_environment, launch, tail, tidy, unpacked
from local.deploy import deploy, embedded_urls
from local.failures import StartFailed
from local.ports import free_port
from local.processes import Process, start, stop

UP_WITHIN_S = 30
#: Changes the package before it is deployed to the endpoint.
Prepare = Callable[[Package, str], None]


@dataclass(frozen=True)
class Cloud:
    """Where the deployed stack is, and clients to look behind it."""

    #: Without the API's own path: tests call `{api_url}/api/v1/data-collector/...`.
    api_url: str
    ws_url: str
    exchange_url: str
    endpoint_url: str
    #: The stack's outputs: TasksTable, MarketTable, ConnectionsTable, AuditTable, CandlesBucket and
    #: the URLs of PlanQueue, UrgentQueue, WorkQueue, DeadLetterQueue, StreamFailureQueue.
    outputs: dict[str, str]
    #: Where the bucket's objects lie as plain files.
    candles_dir: Path
    cloud_process: Process
    exchange_process: Process
    log: Path

    @property
    def bucket(self) -> str:
        return self.outputs["CandlesBucket"]

    @property
    def account(self) -> Account:
        return Account(self.endpoint_url)

    def client(self, service: str) -> Any:
        return self.account.client(service)

    def function(self, resource: str) -> str:
        """Name of a deployed function by its resource: Plan, Collect, Bury, Sweep, ..."""
        found = self.client("cloudformation").describe_stack_resource(
            StackName=stack_name("local"), LogicalResourceId=resource
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    @contextmanager
    def configured(self, resource: str, **variables: str) -> Iterator[None]:
        """A function with other settings, for a while."""
        functions, name = self.client("lambda"), self.function(resource)
        found = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        other = {"Variables": {**found, **variables}}
        functions.update_function_configuration(FunctionName=name, Environment=other)
        try:
            yield
        finally:
            functions.update_function_configuration(
                FunctionName=name, Environment={"Variables": found}
            )

    def invoke(self, resource: str, event: dict[str, Any]) -> Any:
        """What a function answers to an event. Fails where the function does."""
        invoked = self.client("lambda").invoke(
            FunctionName=self.function(resource), Payload=json.dumps(event).encode()
        )
        answer = json.loads(invoked["Payload"].read())
        assert "FunctionError" not in invoked, answer
        return answer


@contextmanager
def running_cloud(
    home: Path,
    settings: dict[str, str],
    exchange_arguments: Sequence[str] = (),
    prepare: Prepare = lambda built, endpoint: None,
    exchange_module: str = "local.exchange",
) -> Iterator[Cloud]:
    """Everything it starts keeps state and logs under `home`, and is ended with the block.

    `settings`: of the functions, besides the exchange's URL; `exchange_module`: what is run as the
    exchange. Raises StartFailed, DeployFailed or PackagingFailed.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    started: list[Process] = []
    try:
        command = ["-m", exchange_module, *exchange_arguments]
        exchange_url, exchange = _exchange(home, environ, command)
        started.append(exchange)
        port = free_port()
        emulator = launch(home, port, ensure_environment(), environ)
        started.append(emulator)
        chosen = {**environ, "EXCHANGE": LOCAL, **settings, "EXCHANGE_URL": exchange_url}
        built = package("local", home / "package", chosen, for_this_machine=True)
        prepare(built, endpoint_url(port))
        to = Account(endpoint_url(port))
        outputs = deploy(to, unpacked(built, home).folder, stack_name("local"))
        api_url, ws_url = embedded_urls(endpoint_url(port), to, stack_name("local"))
        yield Cloud(
            api_url=api_url,
            ws_url=ws_url,
            exchange_url=exchange_url,
            endpoint_url=endpoint_url(port),
            outputs=outputs,
            candles_dir=candles_dir(home, outputs["CandlesBucket"]),
            cloud_process=emulator,
            exchange_process=exchange,
            log=home / "cloud.log",
        )
    finally:
        for process in reversed(started):
            stop(process)
        tidy(home)


def _exchange(home: Path, environ: dict[str, str], arguments: Sequence[str]) -> tuple[str, Process]:
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", home / "exchange.log"
    process = start([sys.executable, *arguments, "--port", str(port)], environ, ROOT, log)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            opener.open(f"{url}/api/v3/ping", timeout=2).close()
            return url, process
        except OSError:
            if not process.is_running() or time.monotonic() > deadline:
                stop(process)
                raise StartFailed(f"the local exchange did not start:\n{tail(log)}") from None
            time.sleep(0.05)
