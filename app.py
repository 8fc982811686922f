"""Every trigger of the collector: parse, one call, format.

HTTP routes are registered from chalicelib/api; event triggers live here and never on a blueprint,
because Chalice would then load the blueprint's module instead of this one and lose the
middleware. Queue, stream and schedule wiring (sources, batch sizes, partial-batch responses) is in
infra/template.py, where the queues and tables themselves are.
"""

from __future__ import annotations

import os
from typing import Any

from chalice import Chalice
from chalice.app import WebsocketEvent

from chalicelib.functions import triggers

app = Chalice(app_name="market-data-collector")
app.experimental_feature_flags.update(["BLUEPRINTS", "WEBSOCKETS"])

# API Gateway calls one function. To load the routes takes others a third of their start.
if os.environ.get("FUNCTION", "api_handler") == "api_handler":
    from chalicelib.api import cors
    from chalicelib.api.routes import register

    register(app, cors.origins_of(os.environ))


@app.lambda_function(name="plan")
def plan(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.plan(event, context)


@app.lambda_function(name="collect")
def collect(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.collect(event, context)


@app.lambda_function(name="bury")
def bury(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.bury(event, context)


@app.lambda_function(name="sweep")
def sweep(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.sweep(event, context)


@app.lambda_function(name="refresh_prices")
def refresh_prices(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.refresh_prices(event, context)


@app.lambda_function(name="run_schedule")
def run_schedule(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.run_schedule(event, context)


@app.lambda_function(name="watch_schedules")
def watch_schedules(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.watch_schedules(event, context)


@app.lambda_function(name="on_task_change")
def on_task_change(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.on_task_change(event, context)


@app.lambda_function(name="on_market_change")
def on_market_change(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.on_market_change(event, context)


@app.lambda_function(name="export_audit")
def export_audit(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.export_audit(event, context)


@app.lambda_function(name="replay_changes")
def replay_changes(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.replay_changes(event, context)


@app.lambda_function(name="deliver_webhook")
def deliver_webhook(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.deliver_webhook(event, context)


@app.lambda_function(name="push_updates")
def push_updates(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return triggers.push_updates(event, context)


@app.on_ws_connect(name="ws_connect")
def ws_connect(event: WebsocketEvent) -> dict[str, Any]:
    return triggers.ws_connect(event)


@app.on_ws_message(name="ws_message")
def ws_message(event: WebsocketEvent) -> None:
    triggers.ws_message(event)


@app.on_ws_disconnect(name="ws_disconnect")
def ws_disconnect(event: WebsocketEvent) -> None:
    triggers.ws_disconnect(event)
