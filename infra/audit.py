"""Known weaknesses in the built template and in the code: `make audit-template`.

checkov and cfn-lint read the template, bandit the code. Each finding is mended or explained, here
and nowhere else. It ends with 1 where a finding is neither, and where an explanation explains
nothing any more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from infra.configuration import ROOT

#: Where checkov and bandit are: local/environment.sh makes it.
TOOLS = ROOT / ".venv-audit" / "bin"
CODE = ("app.py", "chalicelib", "infra", "local", "market_data_collector")


class Finding(NamedTuple):
    """`where`: a resource as Type.Name, or a file."""

    tool: str
    check: str
    where: str
    about: str


class Skip(NamedTuple):
    """`where`: a pattern, with `*`, of what a finding names."""

    tool: str
    check: str
    where: str
    why: str


_SUBPROCESS = "runs a list of arguments of our own, never a shell"

SKIPS = (
    Skip(
        *("checkov", "CKV_AWS_18", "AWS::S3::Bucket.CandlesBucket"),
        "a second bucket for logs of who read public prices; CloudTrail's data events do it where "
        "somebody must know",
    ),
    Skip(
        *("checkov", "CKV_AWS_21", "AWS::S3::Bucket.CandlesBucket"),
        "a setting, bucket_versioning: off, because the exchange can be asked again (docs/AWS.md)",
    ),
    Skip(
        *("checkov", "CKV_AWS_27", "AWS::SQS::Queue.*"),
        "encrypted with SQS's own key, which this check does not know (tests/unit/infra)",
    ),
    Skip(
        *("checkov", "CKV_AWS_115", "AWS::Serverless::Function.*"),
        "`collect` has its reserve, because the exchange has limits; one for the others would "
        "be taken from the whole account",
    ),
    Skip(
        *("checkov", "CKV_AWS_116", "AWS::Serverless::Function.*"),
        "for asynchronous invocations only: queues and streams have dead letters of their own, and "
        "what a clock starts runs again with its next tick",
    ),
    Skip(
        *("checkov", "CKV_AWS_117", "AWS::Serverless::Function.*"),
        "everything they reach is public: the exchange, webhooks and AWS; a VPC would need NAT",
    ),
    Skip(
        *("checkov", "CKV_AWS_119", "AWS::DynamoDB::Table.*"),
        "encrypted with DynamoDB's own key; another key keeps out nobody whom IAM lets in",
    ),
    Skip(
        *("checkov", "CKV_AWS_120", "AWS::Serverless::Api.RestAPI"),
        "a cached progress would be a wrong one",
    ),
    Skip(
        *("checkov", "CKV_AWS_158", "AWS::Logs::LogGroup.*"),
        "encrypted with CloudWatch's own key; no line holds a secret",
    ),
    Skip(
        *("checkov", "CKV_AWS_173", "AWS::Serverless::Function.*"),
        "encrypted with Lambda's own key; names and settings, none of them secret",
    ),
    Skip(
        *("cfn-lint", "I3011", "*"),
        "what is kept says so (Retain); everything else goes with the stack, by default and on "
        "purpose",
    ),
    Skip(
        *("bandit", "B101", "*.py"),
        "tells the type checker what holds by then; no input is checked by an assert",
    ),
    Skip(*("bandit", "B105", "local/aws.py"), "what every embedded cloud takes: `test`"),
    Skip(
        *("bandit", "B105", "market_data_collector/*.py"),
        "the name of a variable, and page tokens: no password",
    ),
    Skip(*("bandit", "B311", "chalicelib/*.py"), "spreads retries in time, which is no secret"),
    Skip(*("bandit", "B311", "local/exchange/*.py"), "spoils answers as a seed says, for tests"),
    Skip("bandit", "B404", "infra/*.py", _SUBPROCESS),
    Skip("bandit", "B404", "local/*.py", _SUBPROCESS),
    Skip("bandit", "B603", "infra/*.py", _SUBPROCESS),
    Skip("bandit", "B603", "local/*.py", _SUBPROCESS),
    Skip(*("bandit", "B108", "local/processes.py"), "a folder in .local, recognised and not used"),
    Skip(*("bandit", "B608", "local/run.py"), "a command to read the candles, printed and not run"),
)


def unexplained(findings: Iterable[Finding], skips: Iterable[Skip] = SKIPS) -> list[Finding]:
    skips = list(skips)
    return [one for one in findings if not any(_explains(skip, one) for skip in skips)]


def stale(findings: Iterable[Finding], skips: Iterable[Skip] = SKIPS) -> list[Skip]:
    """Explanations of nothing that was found."""
    findings = list(findings)
    return [skip for skip in skips if not any(_explains(skip, one) for one in findings)]


def _explains(skip: Skip, finding: Finding) -> bool:
    same = (skip.tool, skip.check) == (finding.tool, finding.check)
    return same and fnmatchcase(finding.where, skip.where)


def findings(template: Path, tools: Path = TOOLS) -> Iterator[Finding]:
    """Everything that the tools find."""
    checkov = [str(tools / "checkov"), "--file", str(template), "--framework", "cloudformation"]
    for one in _output([*checkov, "--skip-download", "--output", "json"])["results"][
        "failed_checks"
    ]:
        yield Finding("checkov", one["check_id"], one["resource"], one["check_name"])
    lint = [str(Path(sys.executable).parent / "cfn-lint"), "--format", "json", "-c", "I"]
    for one in _output([*lint, "--regions", "us-east-1", "--", str(template)]):
        path = ".".join(map(str, one["Location"]["Path"] or ()))
        yield Finding("cfn-lint", one["Rule"]["Id"], path, one["Message"])
    bandit = [str(tools / "bandit"), "--quiet", "--format", "json", "--recursive", *CODE]
    for one in _output(bandit)["results"]:
        yield Finding("bandit", one["test_id"], one["filename"], one["issue_text"])


def _output(command: list[str]) -> Any:
    """What a tool says as JSON. They end with other than 0 where they find something."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        sys.exit(f"{Path(command[0]).name} said no JSON:\n{(done.stderr or done.stdout)[-2000:]}")


def main(template: Path) -> int:
    found = list(findings(template.resolve()))
    left, idle = unexplained(found), stale(found)
    bad = Counter(one.tool for one in left)
    for tool, count in sorted(Counter(one.tool for one in found).items()):
        print(f"{tool}: {count} findings, {count - bad[tool]} explained, {bad[tool]} not")
    for one in left:
        print(f"  {one.tool} {one.check} {one.where}: {one.about}")
    for skip in idle:
        print(f"  explains nothing any more: {skip.tool} {skip.check} {skip.where}")
    return 1 if left or idle else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
