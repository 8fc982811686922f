"""Signing requests with AWS credentials, for an API that asks for it (AUTHENTICATION=iam)."""

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from market_data_collector.locate import Unusable

_SERVICE = "execute-api"


@contextmanager
def _usable() -> Iterator[None]:
    """What botocore finds no use of, in its own words."""
    try:
        yield
    except (BotoCoreError, ClientError, RuntimeError) as error:
        raise Unusable(f"{error}.".replace("..", ".")) from error


class Signed(httpx.Auth):
    """Signature Version 4 with the credentials and region that the AWS command line would use.

    Raises Unusable where there are no credentials, or no region.
    """

    requires_request_body = True

    def __init__(self) -> None:
        session = get_session()
        with _usable():
            self._credentials = session.get_credentials()
            self._region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if self._credentials is None:
            raise Unusable("There are no AWS credentials to sign with.")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # Signed is what the API must see as it was sent; httpx adds headers that proxies change.
        signed = AWSRequest(
            method=request.method,
            url=str(request.url),
            data=request.content,
            headers={
                name: request.headers[name]
                for name in ("Host", "Content-Type")
                if name in request.headers
            },
        )
        signer = SigV4Auth(self._credentials, _SERVICE, self._of(request.url.host))
        with _usable():  # credentials are renewed where they end
            signer.add_auth(signed)
        for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token"):
            if name in signed.headers:
                request.headers[name] = signed.headers[name]
        yield request

    def _of(self, host: str) -> str:
        """The region in the API's own name; else the configured one."""
        # Partitions differ in what follows the region.
        named = re.fullmatch(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.[a-z0-9.-]+", host)
        region = named[1] if named else self._region
        if not region:
            raise Unusable("Set AWS_REGION: the API's name does not tell its region.")
        return str(region)
