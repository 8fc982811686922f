"""The routes of /keys, by which an admin makes, lists, rotates and revokes keys."""

from __future__ import annotations

import re

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access import keys
from chalicelib.access.scopes import ADMIN
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.core.problems import invalid

_ID = re.compile(r"[0-9a-f]{16}")
#: A key is shown once, so nothing on the way may keep it. For the same reason no repetition under
#: an Idempotency-Key gets the same answer.
_NOT_KEPT = {"Cache-Control": "no-store"}


@web.route("POST", "/keys", scope=ADMIN)
def create_key() -> Response:
    backend, body = wiring.backend(), web.json_body()
    made = run(keys.create_key(backend, body, web.owner(), web.request_id()))
    return web.answer(201, made, _NOT_KEPT)


@web.route("GET", "/keys", scope=ADMIN)
def get_keys() -> Response:
    backend, query = wiring.backend(), web.query("page_size", "page_token")
    page_size, after = web.page_size(query, backend.settings), query.get("page_token")
    if errors := web.page_token_errors(query, _ID):
        raise invalid(errors)
    found, following = run(keys.list_keys(backend, page_size, after))
    return web.answer(200, {"keys": found, "next_page_token": following})


@web.route("POST", "/keys/{key_id}/rotate", scope=ADMIN)
def rotate_key(key_id: str) -> Response:
    web.no_fields()
    backend, known = wiring.backend(), web.path_id("key", key_id)
    rotated = run(keys.rotate_key(backend, known, web.owner(), web.request_id()))
    return web.answer(200, rotated, _NOT_KEPT)


@web.route("DELETE", "/keys/{key_id}", scope=ADMIN)
def revoke_key(key_id: str) -> Response:
    web.no_fields()
    backend, known = wiring.backend(), web.path_id("key", key_id)
    revoked = run(keys.revoke_key(backend, known, web.owner(), web.request_id()))
    return web.answer(200, revoked)
