"""`make destroy STAGE=prod`: remove a stack, after saying what goes and what stays.

Asks for the stage's name; YES=1 (or --yes) answers for a script. What is kept for good stays: the
next deploy takes it over (kept.py).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from infra.names import APP, stack_name
from infra.region import RegionUnknown
from local import artifacts
from local.aws import Account, account
from local.deploy import Report, described
from local.stack_events import failures

#: Type -> what a person calls it, and how it is removed by hand.
_BY_HAND = {
    "AWS::S3::Bucket": "aws s3 rb s3://{name} --force --region {region}",
    "AWS::DynamoDB::Table": "aws dynamodb update-table --no-deletion-protection-enabled "
    "--table-name {name} --region {region} && "
    "aws dynamodb delete-table --table-name {name} --region {region}",
}


class DestroyFailed(Exception):
    """The message says why, a line for each reason."""


class Plan(NamedTuple):
    """`goes`: type -> how many; `stays`: name -> type; `artifacts`: how many objects."""

    goes: dict[str, int]
    stays: dict[str, str]
    artifacts: int


def plan(to: Account, stack: str) -> Plan:
    """What removing the stack would do: with nothing to remove, what is left of an earlier try.

    Raises DestroyFailed where AWS would refuse to delete what goes.
    """
    formation = to.client("cloudformation")
    stays: dict[str, str] = {}
    goes: Counter[str] = Counter()
    if described(formation, stack) is not None:
        template = formation.get_template(StackName=stack)["TemplateBody"]
        protected = [
            logical
            for logical, resource in template.get("Resources", {}).items()
            if resource.get("Properties", {}).get("DeletionProtectionEnabled") is True
            and resource.get("DeletionPolicy") != "Retain"
        ]
        if protected:
            raise DestroyFailed(
                f"AWS refuses to delete {', '.join(protected)} of {stack}: they are protected. "
                "Deploy once with DELETION_PROTECTION=false, then run the same command again."
            )
        kept = {
            logical
            for logical, resource in template.get("Resources", {}).items()
            if resource.get("DeletionPolicy") == "Retain"
        }
        pages = formation.get_paginator("list_stack_resources").paginate(StackName=stack)
        for each in (each for page in pages for each in page["StackResourceSummaries"]):
            if each["ResourceStatus"] == "DELETE_COMPLETE":
                continue
            if each["LogicalResourceId"] in kept:
                stays[each["PhysicalResourceId"]] = each["ResourceType"]
            else:
                goes[each["ResourceType"]] += 1
    return Plan(goes, stays, artifacts.count(to, artifacts.bucket_name(to), f"{stack}/"))


def destroy(to: Account, stack: str, report: Report = print) -> None:
    """Remove the stack and its artifacts. Raises DestroyFailed."""
    formation = to.client("cloudformation")
    report(f"removing {stack}")
    formation.delete_stack(StackName=stack)
    delay = 1 if to.embedded else 5
    try:
        formation.get_waiter("stack_delete_complete").wait(
            StackName=stack, WaiterConfig={"Delay": delay, "MaxAttempts": 1800 // delay}
        )
    except WaiterError as error:
        found = failures(formation, stack) or [str(error)]
        raise DestroyFailed(
            "\n".join([f"{stack} was not removed whole:", *found, "Run the same command again."])
        ) from error
    # Other stages' artifacts are under their own names. Those of older releases have no name before
    # them, and go with the last stage.
    prefix = f"{stack}/" if _others(formation) else ""
    bucket = artifacts.bucket_name(to)
    removed = artifacts.remove(to, bucket, prefix)
    report(f"removed {removed} objects from s3://{bucket}/{prefix}")


def _others(formation: Any) -> list[str]:
    pages = formation.get_paginator("describe_stacks").paginate()
    return [
        stack["StackName"]
        for page in pages
        for stack in page["Stacks"]
        if stack["StackName"].startswith(f"{APP}-") and stack["StackStatus"] != "DELETE_COMPLETE"
    ]


def _by_hand(to: Account, stays: dict[str, str]) -> list[str]:
    return [
        "  " + _BY_HAND[kind].format(name=name, region=to.region_name)
        for name, kind in stays.items()
        if kind in _BY_HAND
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Remove the stack of a stage.")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    given = parser.parse_args()
    stack = stack_name(given.stage)
    try:
        to = account(os.environ)
        found = plan(to, stack)
        if not any(found):
            raise DestroyFailed(f"There is no stack {stack} in {to.region_name}.")
        print(*_said(to, stack, found), sep="\n")
        if not given.yes and not _agreed(given.stage):
            print("Nothing was removed.")
            return 1
        destroy(to, stack)
    except (DestroyFailed, RegionUnknown, BotoCoreError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{stack} is removed.")
    if found.stays:
        print("To remove what it kept, too, for good:", *_by_hand(to, found.stays), sep="\n")
    return 0


def _said(to: Account, stack: str, found: Plan) -> list[str]:
    lines = [
        f"This removes {stack} in {to.region_name}, with all tasks, schedules, webhooks and",
        "messages, and what was uploaded to deploy it:",
        *(f"  {count} x {kind}" for kind, count in sorted(found.goes.items())),
        f"  {found.artifacts} x code or template",
    ]
    if found.stays:
        lines.append("This stays, and the next deploy of the stage takes it over:")
        lines += [f"  {kind} {name}" for name, kind in found.stays.items()]
    return lines


def _agreed(stage: str) -> bool:
    try:
        return input(f"Type the stage's name, {stage}, to remove it: ").strip() == stage
    except EOFError:
        print("\nNobody can be asked here: YES=1 answers.")
        return False


if __name__ == "__main__":
    sys.exit(main())
