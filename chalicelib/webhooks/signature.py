"""What is sent to a receiver, and how it is signed. Pure.

Source: Standard Webhooks specification (headers, signature scheme, payload).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from chalicelib.webhooks.message import OutgoingEvent

USER_AGENT = "market-data-collector-webhook/1"
#: A secret with this prefix holds its key in base64. Any other secret is the key itself.
IN_BASE64 = "whsec_"


def payload(event: OutgoingEvent) -> bytes:
    """The body of a delivery: the event's type, its time, and the event."""
    body = {"type": event["action"], "timestamp": event["at"], "data": event}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def headers(secret: str, event_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers of a delivery. `at_s`: when this try is made, epoch seconds."""
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature(secret, event_id, at_s, body),
    }


def signature(secret: str, event_id: str, at_s: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over id.timestamp.body."""
    signed = f"{event_id}.{at_s}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for. Raises ValueError where its base64 is broken."""
    if secret.startswith(IN_BASE64):
        return base64.b64decode(secret.removeprefix(IN_BASE64), validate=True)
    return secret.encode()
