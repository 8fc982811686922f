"""`python -m local.release --stage prod`: deploy build/package to the account of the environment
(AWS_ENDPOINT_URL names an embedded cloud), say where it is, hand out the first key, and check it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from infra.names import stack_name
from infra.region import RegionUnknown
from local.aws import account
from local.deploy import ROOT, DeployFailed, deploy, variables_of
from local.first_key import first_admin_key
from market_data_collector.locate import KEY_VARIABLE

#: Runs a command with an environment; its exit code.
Run = Callable[[list[str], Mapping[str, str]], int]


def said(stack: str, region: str, outputs: dict[str, str]) -> list[str]:
    """What a person is told of a deployed stack: every address answers as it is."""
    return [
        f"Console    {outputs['ConsoleURL']}",
        f"API        {outputs['EndpointURL']}",
        f"WebSocket  {outputs['WebSocketURL']}",
        f"Client     .venv/bin/data-collector --api-url {outputs['EndpointURL']} status",
        f"Candles    s3://{outputs['CandlesBucket']}/candles/",
        f"Dashboard  {outputs['Dashboard']} (CloudWatch)",
        f"Alarms     {outputs['AlarmTopic']}",
        f"All else   aws cloudformation describe-stacks --stack-name {stack} --region {region}",
    ]


def check(
    stack: str, authentication: str, key: str | None, environ: Mapping[str, str], run: Run
) -> int:
    """Use the deployed stack step by step; the exit code of `data-collector check`.

    `key`: the one that was made just now; None: one of `environ`, without which nothing is checked
    where keys are asked for.
    """
    keys = {KEY_VARIABLE: key} if key else {}
    if authentication == "keys" and not (key or environ.get(KEY_VARIABLE)):
        print(
            f"\nNot checked, because no key is given: {KEY_VARIABLE}=<an admin's key> "
            f"make check-stack STAGE={stack.rpartition('-')[2]}"
        )
        return 0
    signed = ["--sign"] if authentication == "iam" else []
    command = [sys.executable, "-m", "market_data_collector.cli", "check", "--stack", stack]
    return run([*command, *signed, *shlex.split(environ.get("CHECK", ""))], {**environ, **keys})


def _run(command: list[str], environ: Mapping[str, str]) -> int:
    sys.stdout.flush()
    return subprocess.run(command, env=environ, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploy build/package with CloudFormation.")
    parser.add_argument("--stage", default="dev")
    parser.add_argument("--package", type=Path, default=ROOT / "build" / "package")
    given = parser.parse_args()
    template = json.loads((given.package / "sam.json").read_text(encoding="utf-8"))
    stack, authentication = stack_name(given.stage), variables_of(template)["AUTHENTICATION"]
    try:
        to = account(os.environ)
        outputs = deploy(to, given.package, stack, print)
    except (DeployFailed, RegionUnknown) as error:
        print(error, file=sys.stderr)
        return 1
    print(*said(stack, to.region_name, outputs), sep="\n")
    try:
        key = first_admin_key(to, authentication, outputs)
    except (BotoCoreError, ClientError) as error:
        print(f"The stack is there, but has no admin's key: {error}", file=sys.stderr)
        print("Deploy it again to get one.", file=sys.stderr)
        return 1
    if key is not None:
        print(f"\nThe first admin's key, shown this once:\n  export {KEY_VARIABLE}={key}")
    return check(stack, authentication, key, os.environ, _run)


if __name__ == "__main__":
    sys.exit(main())
