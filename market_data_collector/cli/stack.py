"""A stack, reached with AWS credentials: what CloudFormation says of it, and clients of AWS."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from market_data_collector.locate import Unusable, endpoints

STACK_VARIABLE = "DATA_COLLECTOR_STACK"


def stack_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--stack",
        envvar=STACK_VARIABLE,
        metavar="NAME",
        help=f"The stack, as ${STACK_VARIABLE} says it, too, with the AWS command line's "
        "credentials. Else the stack of .local/endpoints.json here or above.",
    )(command)


@contextmanager
def aws_errors() -> Iterator[None]:
    """What AWS, or the way to it, refuses ends the command with one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise click.ClickException(f"AWS: {error}") from error


class Stack:
    """Clients and outputs raise botocore's errors."""

    def __init__(self, name: str, local: dict[str, str] | None = None) -> None:
        """`local`: what .local/endpoints.json says, of a stack of `make run`."""
        from botocore.session import get_session  # most commands can do without it

        self.name = name
        self._session = get_session()
        self._options = {"region_name": os.environ.get("AWS_REGION")}
        if local and "aws_endpoint_url" in local:  # it takes any credentials
            self._session.set_credentials("test", "test")
            self._options = {
                "region_name": local.get("region"),
                "endpoint_url": local["aws_endpoint_url"],
            }

    @classmethod
    def named(cls, name: str | None) -> "Stack":
        """The stack of this name; without one, of `make run`. Raises click.UsageError."""
        if name:
            return cls(name)
        try:
            local = endpoints(Path.cwd())
        except Unusable as error:
            raise click.UsageError(str(error)) from error
        if not local.get("stack_name"):
            raise click.UsageError(f"Name the stack with --stack, or with ${STACK_VARIABLE}.")
        return cls(local["stack_name"], local)

    def client(self, service: str) -> Any:
        return self._session.create_client(service, **self._options)

    @cached_property
    def outputs(self) -> dict[str, str]:
        described = self.client("cloudformation").describe_stacks(StackName=self.name)
        found = described["Stacks"][0].get("Outputs", [])
        return {each["OutputKey"]: each["OutputValue"] for each in found}
