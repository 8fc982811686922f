"""The built template: what CloudFormation will be given, after Chalice and the merge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import app as application
from chalicelib.core.environ import from_environ
from chalicelib.core.settings import Settings
from chalicelib.webhooks.retry import MOST_TRIES
from infra import schedules, storage
from infra.configuration import environment, user_settings
from infra.functions import ALLOCATOR, FUNCTIONS, functions, role
from infra.package import ROOT, package
from infra.storage import MOST_BYTES
from infra.template import build
from tests.unit.infra.conftest import CHOSEN, PATH

CONFIG = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))
#: Settings that the template sets itself, because they name resources.
RESOURCE_SETTINGS = [
    setting.name.upper()
    for setting in fields(Settings)
    if not setting.metadata and setting.name.upper() not in schedules.VARIABLES
]


def _functions(resources: dict[str, Any]) -> dict[str, Any]:
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def _events(resources: dict[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (function, event["Properties"])
        for function, properties in _functions(resources).items()
        for event in properties.get("Events", {}).values()
        if event["Type"] == kind
    ]


def _statements(resources: dict[str, Any], function: str) -> list[dict[str, Any]]:
    [policy] = resources[role(function)]["Properties"]["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def _actions(resources: dict[str, Any], function: str) -> set[str]:
    return {act for statement in _statements(resources, function) for act in statement["Action"]}


# --- the template as a whole ------------------------------------------------------------------


def test_the_linter_finds_nothing_wrong_with_the_built_template(template_file: Path) -> None:
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run(
        [str(linter), "--regions", "us-east-1", "--", str(template_file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_resource_has_a_type_so_nothing_was_merged_into_a_name_chalice_does_not_use(
    resources: dict[str, Any],
) -> None:
    assert [name for name, resource in resources.items() if "Type" not in resource] == []


def test_outputs_name_what_tests_and_tools_look_for(template: dict[str, Any]) -> None:
    assert {
        *(
            "ConsoleURL",
            "EndpointURL",
            "WebSocketURL",
            "TasksTable",
            "MarketTable",
            "ConnectionsTable",
        ),
        *("AuditTable", "CandlesBucket", "PlanQueue", "UrgentQueue", "WorkQueue"),
        *("DeadLetterQueue", "StreamFailureQueue", "PlanQueueArn", "UrgentQueueArn"),
        *("WorkQueueArn", "DeadLetterQueueArn", "StreamFailureQueueArn"),
        *("EventBus", "WebhookQueue", "WebhookDeadLetterQueue", "UnreadableQueue"),
    } <= set(template["Outputs"])


# --- functions --------------------------------------------------------------------------------


def test_configured_functions_are_exactly_the_handlers_of_the_application() -> None:
    handlers = {handler.name for handler in application.app.pure_lambda_functions}
    handlers |= {handler.name for handler in application.app.event_sources}
    sockets = {key.replace("$", "").replace("default", "message") for key in _socket_routes()}
    handlers |= {f"websocket_{route}" for route in sockets} | {"api_handler"}
    assert set(CONFIG["lambda_functions"]) == handlers == set(FUNCTIONS)


def _socket_routes() -> list[str]:
    return list(application.app.websocket_handlers)


def test_every_function_of_the_template_is_wired_here(resources: dict[str, Any]) -> None:
    assert set(_functions(resources)) == set(FUNCTIONS.values())


def test_api_has_memory_for_a_quick_start_and_the_gateways_time_limit(
    resources: dict[str, Any],
) -> None:
    functions = _functions(resources)
    assert (functions["APIHandler"]["MemorySize"], functions["APIHandler"]["Timeout"]) == (512, 29)
    # A day of the audit trail, and a burst of updates for a thousand clients, are held in memory.
    large = {"Collect", "Plan", "ExportAudit", "PushUpdates"}
    assert {functions[name]["MemorySize"] for name in large} == {1024}
    # The exchange's list of symbols, many megabytes, as it came and unpacked.
    assert functions["RefreshPrices"]["MemorySize"] == 512
    others = set(FUNCTIONS.values()) - {"APIHandler", "RefreshPrices", *large}
    assert {functions[name]["MemorySize"] for name in others} == {256}


def test_functions_run_the_interpreter_that_packaged_them(resources: dict[str, Any]) -> None:
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert {properties["Runtime"] for properties in _functions(resources).values()} == {runtime}


@pytest.mark.parametrize("name", RESOURCE_SETTINGS)
def test_every_resource_name_reaches_every_function(resources: dict[str, Any], name: str) -> None:
    for properties in _functions(resources).values():
        value = properties["Environment"]["Variables"][name]
        assert {"Ref", "Fn::Sub"} & set(value)


def test_settings_reach_the_environment_of_every_function(resources: dict[str, Any]) -> None:
    for properties in _functions(resources).values():
        variables = properties["Environment"]["Variables"]
        assert {name for name, _, _ in user_settings()} <= set(variables)
        assert CHOSEN.items() <= variables.items()


def test_only_workers_keep_the_memory_that_each_page_needs_again(
    resources: dict[str, Any],
) -> None:
    keeping = {
        name
        for name, properties in _functions(resources).items()
        if ALLOCATOR.items() <= properties["Environment"]["Variables"].items()
    }
    assert keeping == {"Collect"}


def test_the_collect_timeout_is_its_setting(resources: dict[str, Any]) -> None:
    assert _functions(resources)["Collect"]["Timeout"] == 45


def test_every_function_and_every_api_keeps_its_logs_for_two_weeks(
    resources: dict[str, Any],
) -> None:
    groups = {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    assert {group["RetentionInDays"] for group in groups.values()} == {14}
    of_apis = {"RestAccessLogs", "WebsocketAccessLogs"}
    of_functions = [group for name, group in groups.items() if name not in of_apis]
    assert {group["LogGroupName"]["Fn::Sub"] for group in of_functions} == {
        f"/aws/lambda/${{{name}}}" for name in FUNCTIONS.values()
    }
    assert of_apis < set(groups)


# --- event sources ----------------------------------------------------------------------------


def test_each_queue_wakes_its_function(resources: dict[str, Any]) -> None:
    wired = {
        event["Queue"]["Fn::GetAtt"][0]: (
            function,
            event["BatchSize"],
            event["ScalingConfig"]["MaximumConcurrency"],
        )
        for function, event in _events(resources, "SQS")
    }
    assert wired == {
        "PlanQueue": ("Plan", 1, 2),
        "UrgentQueue": ("Collect", 5, 2),
        "WorkQueue": ("Collect", 5, 3),
        "DeadLetterQueue": ("Bury", 10, 2),
        "PushQueue": ("PushUpdates", 10, 20),
        "WebhookQueue": ("DeliverWebhook", 10, 2),
    }


def test_one_bad_message_never_fails_its_whole_batch(resources: dict[str, Any]) -> None:
    for _, event in _events(resources, "SQS") + _events(resources, "DynamoDB"):
        assert event["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_pollers_together_receive_no_more_than_the_five_collectors_can_run(
    resources: dict[str, Any],
) -> None:
    assert _pollers(resources) == {"UrgentQueue": 2, "WorkQueue": 3}
    assert _functions(resources)["Collect"]["ReservedConcurrentExecutions"] == 5


def _pollers(resources: dict[str, Any]) -> dict[str, int]:
    """Queue -> how many of `collect` its event source runs at most."""
    sources = resources["Collect"]["Properties"]["Events"].values()
    return {
        source["Properties"]["Queue"]["Fn::GetAtt"][0]: source["Properties"]["ScalingConfig"][
            "MaximumConcurrency"
        ]
        for source in sources
    }


@pytest.mark.parametrize(
    ("collectors", "pollers"), [(4, (2, 2)), (6, (2, 4)), (10, (4, 6)), (100, (40, 60))]
)
def test_what_is_reserved_and_both_pollers_follow_the_setting(
    collectors: int, pollers: tuple[int, int]
) -> None:
    resources = build(environment("dev", {"COLLECTORS": str(collectors)}))["Resources"]
    assert _pollers(resources) == dict(zip(("UrgentQueue", "WorkQueue"), pollers, strict=True))
    assert resources["Collect"]["Properties"]["ReservedConcurrentExecutions"] == collectors


def test_an_account_with_few_executions_reserves_none_and_the_pollers_stay(
    resources: dict[str, Any],
) -> None:
    bare = build(environment("dev", {"RESERVE": "no"}))["Resources"]
    assert "ReservedConcurrentExecutions" not in bare["Collect"]["Properties"]
    assert _pollers(bare) == _pollers(resources)
    assert not any("reserved_concurrency" in own for own in CONFIG["lambda_functions"].values())


def _streams(resources: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Table -> (function, event source) of its stream."""
    return {
        event["Stream"]["Fn::GetAtt"][0]: (function, event)
        for function, event in _events(resources, "DynamoDB")
    }


def test_the_streams_tell_of_what_a_person_can_see_and_nothing_else(
    resources: dict[str, Any],
) -> None:
    streams = {}
    for table, (function, event) in _streams(resources).items():
        [pattern] = event["FilterCriteria"]["Filters"]
        streams[table] = function, json.loads(pattern["Pattern"])["dynamodb"]["Keys"]
    kinds = ["META", {"prefix": "PROG#"}, {"prefix": "SCHED#"}, {"prefix": "HOOK#"}]
    prefixes = ("CATALOGUE", "REFUSED", "PAUSE", "PRICES", "COVER")
    market = [{"prefix": f"{prefix}#"} for prefix in prefixes]
    assert streams == {
        "TasksTable": ("OnTaskChange", {"sk": {"S": kinds}}),
        "MarketTable": ("OnMarketChange", {"pk": {"S": market}}),
        "KeysTable": ("OnMarketChange", {"pk": {"S": ["KEYS"]}}),
    }
    for table in streams:
        view = resources[table]["Properties"]["StreamSpecification"]
        assert view == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_a_stream_gives_up_nothing_while_it_still_holds_it(resources: dict[str, Any]) -> None:
    for _, event in _streams(resources).values():
        assert (event["BatchSize"], event["StartingPosition"]) == (100, "TRIM_HORIZON")
        assert event["BisectBatchOnFunctionError"] is True
        assert event["MaximumRetryAttempts"] == -1
        assert "MaximumRecordAgeInSeconds" not in event
        assert event["MaximumBatchingWindowInSeconds"] == 0
        destination = event["DestinationConfig"]["OnFailure"]["Destination"]
        assert destination == {"Fn::GetAtt": ["StreamFailureQueue", "Arn"]}


def test_schedules_run_as_configured(resources: dict[str, Any]) -> None:
    schedules = {
        function: (event["Schedule"], event["Enabled"])
        for function, event in _events(resources, "Schedule")
    }
    assert schedules == {
        "Sweep": ("rate(1 minute)", True),
        "RefreshPrices": ("rate(1 minute)", True),
        "WatchSchedules": ("rate(1 minute)", True),
        "ExportAudit": ("cron(20 0 * * ? *)", True),
    }


def test_what_schedules_need_reaches_those_who_manage_them_and_no_one_else(
    resources: dict[str, Any],
) -> None:
    for name, function in _functions(resources).items():
        given = set(function["Environment"]["Variables"]) & set(schedules.VARIABLES)
        assert given == (set(schedules.VARIABLES) if name in schedules.MANAGERS else set())


def test_schedules_are_managed_in_the_stacks_own_group_with_one_role_for_one_service(
    resources: dict[str, Any],
) -> None:
    for function in FUNCTIONS.values():
        managing = [
            statement
            for statement in _statements(resources, function)
            if {action.split(":")[0] for action in statement["Action"]} & {"scheduler", "iam"}
        ]
        if function not in schedules.MANAGERS:
            assert managing == []
            continue
        [group, role_of] = managing
        assert [arn["Fn::Sub"].endswith("schedule/${ScheduleGroup}/*") for arn in group["Resource"]]
        assert role_of["Action"] == ["iam:PassRole"]
        assert role_of["Resource"] == [{"Fn::GetAtt": ["SchedulerRole", "Arn"]}]
        passed_to = role_of["Condition"]["StringEquals"]["iam:PassedToService"]
        assert passed_to == "scheduler.amazonaws.com"


def test_the_clock_may_fire_run_schedule_and_bury_what_fails_and_nothing_else(
    resources: dict[str, Any],
) -> None:
    clock = resources["SchedulerRole"]["Properties"]
    [trust] = clock["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    [policy] = clock["Policies"]
    assert [
        (statement["Action"], statement["Resource"])
        for statement in policy["PolicyDocument"]["Statement"]
    ] == [
        (["lambda:InvokeFunction"], [{"Fn::GetAtt": ["RunSchedule", "Arn"]}]),
        (["sqs:SendMessage"], [{"Fn::GetAtt": ["ScheduleFailureQueue", "Arn"]}]),
    ]


# --- queues -----------------------------------------------------------------------------------


def test_a_message_stays_hidden_for_six_times_its_functions_time_limit(
    resources: dict[str, Any],
) -> None:
    functions = _functions(resources)
    for function, event in _events(resources, "SQS"):
        queue = resources[event["Queue"]["Fn::GetAtt"][0]]["Properties"]
        assert queue["VisibilityTimeout"] >= 6 * functions[function]["Timeout"]


def test_a_message_that_fails_five_times_goes_to_the_dead_letters(
    resources: dict[str, Any],
) -> None:
    for name in ("PlanQueue", "UrgentQueue", "WorkQueue"):
        assert resources[name]["Properties"]["RedrivePolicy"] == {
            "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
            "maxReceiveCount": 5,
        }
        assert resources[name]["Properties"]["MessageRetentionPeriod"] == 4 * 86_400
    for name in ("DeadLetterQueue", "StreamFailureQueue", "UnreadableQueue"):
        assert resources[name]["Properties"]["MessageRetentionPeriod"] == 14 * 86_400


def test_a_message_that_a_queue_takes_fits_where_it_is_set_aside_whatever_is_in_it(
    resources: dict[str, Any],
) -> None:
    widest = "\N{GRINNING FACE}"  # four bytes, of which JSON in ASCII makes twelve
    as_json = len(json.dumps(widest * (MOST_BYTES // len(widest.encode()))))
    assert as_json < 256 * 1024 - 16 * 1024
    for name in ("PlanQueue", "UrgentQueue", "WorkQueue", "DeadLetterQueue"):
        assert resources[name]["Properties"]["MaximumMessageSize"] == MOST_BYTES
    assert "MaximumMessageSize" not in resources["UnreadableQueue"]["Properties"]


def test_a_webhook_that_kills_its_function_is_set_aside_after_more_receives_than_tries(
    resources: dict[str, Any],
) -> None:
    redrive = resources["WebhookQueue"]["Properties"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["WebhookDeadLetterQueue", "Arn"]}
    assert redrive["maxReceiveCount"] > MOST_TRIES
    dead = resources["WebhookDeadLetterQueue"]["Properties"]
    assert dead["MessageRetentionPeriod"] == 14 * 86_400


def test_only_what_follows_the_streams_may_publish_and_only_one_function_delivers(
    resources: dict[str, Any],
) -> None:
    publishing = {
        function
        for function in FUNCTIONS.values()
        if "events:PutEvents" in _actions(resources, function)
    }
    assert publishing == {"OnTaskChange", "OnMarketChange", "ReplayChanges"}
    own = {
        action
        for action in _actions(resources, "DeliverWebhook")
        if not action.startswith(("logs:", "xray:"))
    }
    assert own == {
        *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
        *("sqs:ChangeMessageVisibility", "sqs:SendMessage"),
        *("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:UpdateItem"),
    }


def test_every_queue_is_encrypted(resources: dict[str, Any]) -> None:
    queues = [found for found in resources.values() if found["Type"] == "AWS::SQS::Queue"]
    assert len(queues) == 10
    assert all(queue["Properties"]["SqsManagedSseEnabled"] for queue in queues)


def test_the_topic_is_encrypted_with_a_key_that_alarms_of_this_account_may_use(
    resources: dict[str, Any],
) -> None:
    topic, key = resources["AlarmTopic"]["Properties"], resources["AlarmKey"]["Properties"]
    assert topic["KmsMasterKeyId"] == {"Ref": "AlarmKey"}
    assert key["EnableKeyRotation"] is True
    [using] = [
        statement
        for statement in key["KeyPolicy"]["Statement"]
        if statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    ]
    assert set(using["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey*"}
    assert using["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


# --- tables and bucket ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TasksTable", "MarketTable", "ConnectionsTable", "AuditTable"])
def test_every_table_is_on_demand_and_forgets_by_ttl(resources: dict[str, Any], name: str) -> None:
    table = resources[name]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Resources of the stage prod, as settings.toml has it."""
    out = tmp_path_factory.mktemp("production") / "package"
    file = package("prod", out, PATH, for_this_machine=True).template
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["Resources"]
    return found


def _tables(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::DynamoDB::Table"
    }


def test_every_table_can_be_restored_to_a_point_in_time(resources: dict[str, Any]) -> None:
    assert len(_tables(resources)) == 5
    for table in _tables(resources).values():
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_no_table_of_production_can_be_deleted_and_each_of_another_stage_can(
    resources: dict[str, Any], production: dict[str, Any]
) -> None:
    for stage, protected in ((resources, False), (production, True)):
        tables = _tables(stage).values()
        assert [table["DeletionProtectionEnabled"] for table in tables] == [protected] * 5


def test_the_tasks_table_streams_both_images_and_has_its_three_indexes(
    resources: dict[str, Any],
) -> None:
    table = resources["TasksTable"]["Properties"]
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    indexes = {index["IndexName"]: index for index in table["GlobalSecondaryIndexes"]}
    assert _keys(indexes["by_owner"]) == ["owner", "created_key"]
    assert _keys(indexes["by_state"]) == ["listed_as", "created_key"]
    assert _keys(indexes["active"]) == ["active", "created_key"]
    listed = {"task_id", "task_type", "state", "attempt", "created_at", "started_at", "result"}
    assert listed < set(indexes["by_owner"]["Projection"]["NonKeyAttributes"])
    assert set(indexes["active"]["Projection"]["NonKeyAttributes"]) == {
        *("task_id", "task_type", "state", "attempt", "created_at", "ttl", "priority")
    }


def _keys(index: dict[str, Any]) -> list[str]:
    return [key["AttributeName"] for key in index["KeySchema"]]


def test_audit_trail_keys_candles_and_their_coverage_outlive_the_stack(
    resources: dict[str, Any],
) -> None:
    outliving = {"AuditTable", "KeysTable", "CandlesBucket", "MarketTable"}
    for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
        kept = {name for name, found in resources.items() if found.get(policy) == "Retain"}
        assert kept == outliving
    [by_day] = resources["AuditTable"]["Properties"]["GlobalSecondaryIndexes"]
    assert _keys(by_day) == ["day", "sk_time"]
    assert by_day["Projection"] == {"ProjectionType": "ALL"}


def test_the_bucket_is_private_and_drops_uploads_that_were_never_finished(
    resources: dict[str, Any],
) -> None:
    bucket = resources["CandlesBucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert {"DaysAfterInitiation": 1} in [
        rule.get("AbortIncompleteMultipartUpload") for rule in rules
    ]


def test_nobody_reads_or_writes_the_bucket_without_tls(resources: dict[str, Any]) -> None:
    policy = resources["CandlesBucketPolicy"]["Properties"]
    assert policy["Bucket"] == {"Ref": "CandlesBucket"}
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Action"] == "s3:*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    bucket = {"Fn::GetAtt": ["CandlesBucket", "Arn"]}
    assert statement["Resource"] == [bucket, {"Fn::Sub": "${CandlesBucket.Arn}/*"}]


@pytest.mark.parametrize(("versioned", "status"), [(True, "Enabled"), (False, "Suspended")])
def test_old_versions_where_there_are_any_end_after_a_day(versioned: bool, status: str) -> None:
    properties = storage.bucket(versioned)["CandlesBucket"]["Properties"]
    assert properties["VersioningConfiguration"] == {"Status": status}
    rules = properties["LifecycleConfiguration"]["Rules"]
    assert {"NoncurrentDays": 1} in [rule.get("NoncurrentVersionExpiration") for rule in rules]


# --- traces, metrics, dashboard, alarms ---------------------------------------------------------


def test_every_function_and_the_stage_in_front_of_them_are_traced(
    resources: dict[str, Any],
) -> None:
    for function, properties in _functions(resources).items():
        assert properties["Tracing"] == "Active"
        assert {"xray:PutTraceSegments", "xray:PutTelemetryRecords"} <= _actions(
            resources, function
        )
    assert resources["RestAPI"]["Properties"]["TracingEnabled"] is True


def test_answers_may_be_bytes_whatever_the_caller_accepts(resources: dict[str, Any]) -> None:
    """API Gateway compares the first type in Accept alone, and curl sends */*."""
    body = resources["RestAPI"]["Properties"]["DefinitionBody"]
    assert body["x-amazon-apigateway-binary-media-types"] == ["*/*"]
    assert "/v1/data-collector/candles" in body["paths"]


@pytest.mark.parametrize(("tracing", "traced"), [("api", {"APIHandler"}), ("none", set())])
def test_what_is_not_to_be_sampled_records_no_traces(
    tmp_path: Path, tracing: str, traced: set[str]
) -> None:
    """PassThrough records nothing: Lambda Developer Guide, services-xray."""
    file = package("dev", tmp_path / "package", {"TRACING": tracing} | PATH, for_this_machine=True)
    resources = json.loads(file.template.read_text(encoding="utf-8"))["Resources"]
    modes = {name: found["Tracing"] for name, found in _functions(resources).items()}
    assert modes == {
        name: "Active" if name in traced else "PassThrough" for name in FUNCTIONS.values()
    }
    assert resources["RestAPI"]["Properties"]["TracingEnabled"] is bool(traced)


def test_every_function_knows_its_stack_and_itself_for_its_metrics(
    resources: dict[str, Any],
) -> None:
    for name, resource in FUNCTIONS.items():
        variables = resources[resource]["Properties"]["Environment"]["Variables"]
        assert variables["STACK"] == {"Ref": "AWS::StackName"}
        assert variables["FUNCTION"] == name


def test_what_dashboard_and_alarms_refer_to_is_in_the_template(resources: dict[str, Any]) -> None:
    watching = [
        found["Properties"]
        for found in resources.values()
        if found["Type"] in ("AWS::CloudWatch::Dashboard", "AWS::CloudWatch::Alarm")
    ]
    assert len(watching) > 20
    named = set(re.findall(r"\$\{(\w+)(?:\.\w+)?\}", json.dumps(watching)))
    assert named <= set(resources)


# --- permissions ------------------------------------------------------------------------------


def test_no_function_keeps_chalices_placeholder_or_gets_a_wildcard(
    resources: dict[str, Any],
) -> None:
    for function in FUNCTIONS.values():
        for statement in _statements(resources, function):
            assert statement["Effect"] == "Allow"
            assert not [action for action in statement["Action"] if "*" in action]
            # X-Ray knows no resources: what may be sent there, may be sent for all.
            traces = all(action.startswith("xray:Put") for action in statement["Action"])
            assert "*" not in statement["Resource"] or traces


def test_every_function_may_write_its_logs(resources: dict[str, Any]) -> None:
    for function in FUNCTIONS.values():
        assert {"logs:CreateLogStream", "logs:PutLogEvents"} <= _actions(resources, function)


def test_consumers_may_receive_from_exactly_the_queues_that_wake_them(
    resources: dict[str, Any],
) -> None:
    for function in FUNCTIONS.values():
        woken_by = [
            event["Queue"]["Fn::GetAtt"][0]
            for name, event in _events(resources, "SQS")
            if name == function
        ]
        received = [
            arn["Fn::GetAtt"][0]
            for statement in _statements(resources, function)
            if "sqs:ReceiveMessage" in statement["Action"]
            for arn in statement["Resource"]
        ]
        # What was set aside is replayed when a person starts it.
        by_hand = ["StreamFailureQueue"] if function == "ReplayChanges" else []
        assert sorted(received) == sorted([*woken_by, *by_hand])


def test_only_collector_and_export_write_to_the_bucket_each_in_its_own_folder(
    resources: dict[str, Any],
) -> None:
    folders = {
        function: statement["Resource"]
        for function in FUNCTIONS.values()
        for statement in _statements(resources, function)
        if "s3:PutObject" in statement["Action"]
    }
    assert folders == {
        "Collect": [{"Fn::Sub": "${CandlesBucket.Arn}/candles/*"}],
        "ExportAudit": [{"Fn::Sub": "${CandlesBucket.Arn}/audit/*"}],
    }


def test_no_function_can_change_or_remove_what_the_trail_holds(resources: dict[str, Any]) -> None:
    """Append-only, as far as permissions can say it: three functions put."""
    writing = {
        (function, action)
        for function in FUNCTIONS.values()
        for statement in _statements(resources, function)
        if {"Fn::GetAtt": ["AuditTable", "Arn"]} in statement["Resource"]
        for action in statement["Action"]
        if action.removeprefix("dynamodb:") not in ("Query", "GetItem", "BatchGetItem")
    }
    recorders = ("OnTaskChange", "OnMarketChange", "ReplayChanges")
    assert writing == {(function, "dynamodb:PutItem") for function in recorders}


def test_the_push_path_may_reach_connections_and_nothing_else_may(
    resources: dict[str, Any],
) -> None:
    using = {
        function
        for function in FUNCTIONS.values()
        if "execute-api:ManageConnections" in _actions(resources, function)
    }
    assert using == {"PushUpdates", "WebsocketMessage"}


def test_updates_wait_in_a_fifo_queue_that_forgets_them_after_five_minutes(
    resources: dict[str, Any],
) -> None:
    queue = resources["PushQueue"]["Properties"]
    assert queue["FifoQueue"] is True
    assert queue["MessageRetentionPeriod"] == 300
    assert queue["FifoThroughputLimit"] == "perMessageGroupId"
    assert queue["DeduplicationScope"] == "messageGroup"
    assert "RedrivePolicy" not in queue


def test_api_gateway_lets_through_what_the_settings_say_and_all_where_they_say_nothing(
    resources: dict[str, Any],
) -> None:
    throttling = {"ThrottlingRateLimit": 200, "ThrottlingBurstLimit": 400}
    [every] = resources["RestAPI"]["Properties"]["MethodSettings"]
    assert every == {"ResourcePath": "/*", "HttpMethod": "*", **throttling}
    stage = resources["WebsocketAPIStage"]
    assert stage["Type"] == "AWS::ApiGatewayV2::Stage"
    assert stage["Properties"]["DefaultRouteSettings"] == throttling
    free = functions(from_environ({}), {})
    assert "MethodSettings" not in free["RestAPI"]["Properties"]
    assert "DefaultRouteSettings" not in free["WebsocketAPIStage"]["Properties"]


@pytest.mark.parametrize(("stage", "limited"), [("local", False), ("dev", True), ("prod", True)])
def test_the_deployed_stages_limit_their_owners_and_ones_own_machine_does_not(
    stage: str, limited: bool
) -> None:
    values = environment(stage, {})
    names = [name for name in values if name.startswith("OWNER_") or "_PER_SECOND" in name]
    assert len(names) == 8
    assert {values[name] != "0" for name in names} == {limited}
