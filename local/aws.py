"""One way to AWS clients, for the embedded cloud, LocalStack and AWS itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config

from infra.region import RegionUnknown, region

REGION = "us-east-1"
#: An embedded cloud takes any credentials. These are given explicitly, so that nobody's real
#: profile is ever sent to it, or used in its place.
DUMMY_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass(frozen=True)
class Account:
    """Where clients go: `endpoint_url` None is AWS, with the credentials of the environment."""

    endpoint_url: str | None = None
    region: str | None = None

    @property
    def embedded(self) -> bool:
        return self.endpoint_url is not None

    @property
    def region_name(self) -> str:
        return self.region or REGION

    def client(self, service: str) -> Any:
        if self.endpoint_url is None:
            return boto3.Session(region_name=self.region).client(service)
        return _embedded(service, self.endpoint_url, self.region_name)


@lru_cache(maxsize=64)
def _embedded(service: str, endpoint_url: str, region_name: str) -> Any:
    """To make a client takes longer than many calls."""
    session = boto3.Session(
        aws_access_key_id=DUMMY_CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=DUMMY_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=region_name,
    )
    return session.client(
        service,
        endpoint_url=endpoint_url,
        # No proxy of the environment is asked for this machine, and buckets are in the path,
        # because bucket names do not resolve as host names here.
        config=Config(s3={"addressing_style": "path"}, proxies={}, read_timeout=120),
    )


def account(environ: Mapping[str, str]) -> Account:
    """The account of `environ`: AWS_ENDPOINT_URL names an embedded cloud, which needs no region.

    Raises RegionUnknown.
    """
    endpoint = environ.get("AWS_ENDPOINT_URL") or None
    if endpoint:
        return Account(endpoint, environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"))
    chosen = region(environ)
    if chosen is None:
        raise RegionUnknown(
            "No AWS region is chosen: set AWS_REGION, for example eu-west-1, or give your profile "
            "one (`aws configure set region eu-west-1`)."
        )
    return Account(None, chosen)
