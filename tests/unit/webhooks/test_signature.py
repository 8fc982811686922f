"""The signature of what is sent to a webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.webhooks import signature


def test_the_signature_is_the_conventions_own_example() -> None:
    """Standard Webhooks, specification, "Verifying webhook authenticity": its published example."""
    body = b'{"test": 2432232314}'
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text("abcXYZ0-9 !#", min_size=24, max_size=256), st.text(max_size=50), st.binary())
def test_a_plain_secret_is_itself_the_key(secret: str, event_id: str, body: bytes) -> None:
    signed = event_id.encode() + b"." + b"1700000000." + body
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    made = signature.signature(secret, event_id, 1_700_000_000, body)
    assert made == "v1," + expected.decode()
