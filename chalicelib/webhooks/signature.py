"""What is sent to a receiver, and how it is signed (Standard Webhooks)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

USER_AGENT = "market-data-collector-webhook/1"


#: A secret that begins so holds its key in base64 (Standard Webhooks); any other is the key.
IN_BASE64 = "whsec_"


def payload(event: dict[str, Any]) -> bytes:
    """The body of a delivery: the event's type, its time, and the event."""
    body = {"type": event["action"], "timestamp": event["at"], "data": event}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def headers(secret: str, event_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of a delivery; `at_s` is when it is tried, epoch seconds."""
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature(secret, event_id, at_s, body),
    }


def signature(secret: str, event_id: str, at_s: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over id.timestamp.body.

    Source: Standard Webhooks, "Signature scheme".
    """
    signed = f"{event_id}.{at_s}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def key_of(secret: str) -> bytes:
    if secret.startswith(IN_BASE64):
        return base64.b64decode(secret.removeprefix(IN_BASE64), validate=True)
    return secret.encode()
