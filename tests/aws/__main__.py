"""`python -m tests.aws URL`: these tests on an AWS endpoint, as far as it has what they need.

It prints how many ran, and which did not and why. `--record NAME` writes that into
docs/COMPATIBILITY.md, too. localstack-client comes from .venv-endpoint (make test-endpoint).
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
from pathlib import Path

import pytest

from infra.configuration import ROOT
from tests.aws import record
from tests.aws.conftest import VARIABLES
from tests.aws.endpoint import lacking
from tests.aws.run import Run

HERE = Path(__file__).parent


def main() -> int:
    given, for_pytest = _parser().parse_known_args()
    os.environ.update({**VARIABLES, "AWS_ENDPOINT_URL": given.url})
    # Behind our own packages: it has boto3, too.
    base = str(ROOT / ".venv-endpoint")
    sys.path.append(sysconfig.get_path("purelib", vars={"base": base, "platbase": base}))
    from localstack_client.session import Session

    session = Session(
        aws_access_key_id=VARIABLES["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=VARIABLES["AWS_SECRET_ACCESS_KEY"],
        region_name=VARIABLES["AWS_REGION"],
    )
    foreseen = None if given.lacking is None else frozenset(given.lacking)
    run = Run(given.url, session, lacking(session), foreseen)
    code = pytest.main([str(HERE), "-p", "no:cacheprovider", *for_pytest], plugins=[run])
    if code == 0 and given.record:
        record.write(given.record, run)
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.aws",
        description="These tests on an AWS endpoint, as far as it has what they need.",
        epilog="Other options go to pytest.",
    )
    parser.add_argument("url", help="where the endpoint listens, as http://127.0.0.1:4566")
    parser.add_argument("--lacking", nargs="*", help="all that it may lack; more is an error")
    parser.add_argument("--record", metavar="NAME", help="what answers there, with its version")
    return parser


if __name__ == "__main__":
    sys.exit(main())
