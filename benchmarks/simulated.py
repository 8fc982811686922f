"""The AWS in memory under the settings that the tests use."""

from __future__ import annotations

from chalicelib.core.settings import Settings
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.settings import doubled_settings


def settings() -> Settings:
    return doubled_settings()


def new_aws(clock: Clock) -> Aws:
    aws = Aws.for_settings(clock, settings())
    # Our gateways change neither what they send nor what they get.
    aws.dynamodb.careful = False
    return aws
