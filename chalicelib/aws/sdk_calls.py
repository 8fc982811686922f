"""AWS calls over aiobotocore."""

from __future__ import annotations

import os
from typing import Any

from chalicelib.aws.tracing import incoming, outgoing
from chalicelib.core.errors import CallFailed, ConditionFailed

#: Short timeouts and few retries: a queue repeats the whole message, and an API caller waits.
_TIMEOUTS: dict[str, Any] = {
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"mode": "standard", "max_attempts": 4},
    "parameter_validation": False,
    "user_agent_extra": "market-data-collector",
}


class SdkCalls:
    """`call(service, operation, **parameters)` as aws/calls.py describes it.

    Clients are made when first used, and kept for the container.

    All calls must run on one event loop, because a client belongs to the loop it was made on.
    """

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self._making: Any = None
        self._session: Any = None

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        client = self._clients.get(service) or await self._client(service)
        sent = outgoing(service, operation, parameters)
        try:
            answer: dict[str, Any] = await getattr(client, method_name(operation))(**sent)
            if service == "s3" and operation == "GetObject":
                async with answer["Body"] as stream:
                    answer["Body"] = await stream.read()
        except ClientError as error:
            raise failure(service, operation, error) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise CallFailed(service, operation, "ConnectionError", str(error)) from error
        incoming(service, operation, answer)
        return answer

    async def _client(self, service: str) -> Any:
        import asyncio

        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        if self._making is None:
            self._making, self._session = asyncio.Lock(), get_session()
        async with self._making:
            if service not in self._clients:
                config = AioConfig(
                    **_TIMEOUTS,
                    max_pool_connections=32,
                    # Our objects carry their own: what S3 holds of a damaged file is still read.
                    response_checksum_validation="when_required",
                )
                context = self._session.create_client(service, config=config, **_region())
                self._clients[service] = await context.__aenter__()
        return self._clients[service]

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.__aexit__(None, None, None)
        self._clients.clear()


def method_name(operation: str) -> str:
    """The name of botocore's method for an operation: PutItem -> put_item."""
    return "".join(
        f"_{letter.lower()}" if letter.isupper() and at else letter.lower()
        for at, letter in enumerate(operation)
    )


def failure(service: str, operation: str, error: Any) -> CallFailed:
    """The CallFailed of a botocore ClientError."""
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", "Unknown"))
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(operation, answer.get("Item"))
    return CallFailed(service, operation, code, answer.get("Error", {}).get("Message", ""))


def _region() -> dict[str, str]:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {"region_name": region} if region else {}
