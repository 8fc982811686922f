"""Every setting, in one place: name, default, meaning, bounds.

A setting is an environment variable of the functions (environ.py). At packaging, `settings.toml`
(and the environment of whoever packages) is checked, so a bad value never reaches AWS; each
function checks again at its first event. Resource names (tables, queues, the bucket) are set
by the template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

from chalicelib.core.errors import SettingsInvalid
from chalicelib.core.roots import (
    BINANCE_ARCHIVE_URL,
    BINANCE_URL,
    LONGEST_NAME,
    NAME,
    archive_of,
    name_of,
    owning_root,
    root_of,
)
from chalicelib.core.timeframes import LENGTH_MS

#: As browsers write it: RFC 6454, "Serializing Origins". Neither `*` nor `null` is one.
_ORIGIN = re.compile(r"https?://([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
#: IAM User Guide, "IAM identifiers". Of the characters that paths may have, those of names.
_ROLE_OR_USER = re.compile(
    r"arn:[a-z-]+:(iam::[0-9]{12}:(role|user)|sts::[0-9]{12}:assumed-role(?=/[^/]+$))"
    r"(/[\w+=.@-]+)+",
    re.ASCII,
)

#: Those that AWS offers and this code runs on.
LAMBDA_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
LAMBDA_ARCHITECTURES = ("x86_64", "arm64")

#: What makes an entry a selector (work/selector.py): no symbol has it in its name.
SELECTOR_MARKS = "*!="
#: Nor a character that XML has not, in which S3 lists what it holds.
SYMBOL_PATTERN = re.compile(r"[^\s/,&?#\"'<>*!=\x00-\x1f\ud800-\udfff\ufffe\uffff]{2,40}")


def _setting(
    default: Any,
    about: str,
    low: int | None = None,
    high: int | None = None,
    among: tuple[str, ...] = (),
) -> Any:
    """`low`, `high`: the bounds of a number; `among`: all values, where there are few."""
    return field(
        default=default, metadata={"about": about, "low": low, "high": high, "among": among}
    )


# Neither compared nor shown: methods that are not made cost no time at a cold start.
@dataclass(frozen=True, eq=False, repr=False)
class Settings:
    exchange: str = _setting(
        "",
        "name in object keys, tables and answers; it belongs to the first root that is asked under "
        "it. Empty: `binance` at the default `EXCHANGE_URL`, else the URL's host, port and path, "
        "such as `api-example-com-8080`",
    )
    exchange_url: str = _setting(BINANCE_URL, "root of a Binance-compatible REST API")
    archive: str = _setting(
        "auto",
        "auto: closed days and months come from the exchange's bulk archive, where their files "
        "are worth it; never: everything is asked for at `EXCHANGE_URL`",
        among=("auto", "never"),
    )
    archive_url: str = _setting(
        "",
        "root of the bulk archive, the part before `/data/spot`; empty: that of the exchange at "
        f"the default `EXCHANGE_URL`, {BINANCE_ARCHIVE_URL}, that of the local exchange, and none "
        "for any other",
    )
    default_symbols: tuple[str, ...] = _setting(
        (),
        "symbols and selectors of a start without `symbols`; empty: every symbol that trades",
    )
    default_timeframes: tuple[str, ...] = _setting(
        ("1m", "5m", "15m", "1h", "4h", "1d"), "timeframes of a start without `timeframes`"
    )
    backfill_candles: int = _setting(
        1000, "candles fetched where nothing is stored yet and no start is given", 1, 100_000
    )
    retention_seconds: int = _setting(
        300, "how long a finished task can be read, in seconds", 1, 604_800
    )
    task_timeout_seconds: int = _setting(
        86_400,
        "a task without `timeout_seconds` fails after so long, and keeps what was collected",
        60,
        604_800,
    )
    low_priority_patience_seconds: int = _setting(
        3600,
        "how long a task of low priority lets others go first; after that it counts as normal",
        0,
        604_800,
    )
    idempotency_ttl_seconds: int = _setting(
        86_400, "how long an Idempotency-Key keeps its first answer, in seconds", 60, 604_800
    )
    default_page_size: int = _setting(20, "tasks per page of a list", 1, 100)
    max_page_size: int = _setting(100, "largest page_size accepted", 1, 1000)
    max_units: int = _setting(
        200_000, "units (symbol x timeframe x window) a task may have", 1, 200_000
    )
    max_symbols: int = _setting(5_000, "symbols and selectors a request may name", 1, 10_000)
    catalogue_refresh_seconds: int = _setting(
        3600, "age at which the list of the exchange's symbols is read again", 60, 86_400
    )
    budget_percent: int = _setting(
        98,
        "ceiling: most of the exchange's request weight that all workers may use together. They "
        "begin with 80, rise to it while the exchange's own count agrees with theirs, and leave to "
        "strangers at the same address what those use",
        1,
        100,
    )
    # AWS lets no queue's event source run fewer than two, and there are two queues.
    collectors: int = _setting(
        5,
        "how many `collect` functions run at once; two fifths of them, at least two, are kept for "
        "priority `high`",
        4,
        100,
    )
    reserve: str = _setting(
        "yes",
        "yes: Lambda sets `COLLECTORS` executions of the account aside for collecting; no: it does "
        "not, for accounts that have too few; the queues keep to `COLLECTORS` all the same",
        among=("yes", "no"),
    )
    # Tasks: audit/table.py says why.
    audit_retention_days: int = _setting(
        400, "how long audit events are kept, in days; those of tasks for 30 at least", 1, 3650
    )
    # Not below 30: `collecting` takes on no work in the last 15 s of an invocation.
    collect_timeout_seconds: int = _setting(
        60, "time limit of one collect invocation; the queues' visibility is six times it", 30, 900
    )
    authentication: str = _setting(
        "keys",
        "keys: every request must bring a key; iam: it must be signed with AWS credentials; none: "
        "nobody is asked, as on the stage `local` (docs/KEYS.md)",
        among=("keys", "iam", "none"),
    )
    admin_roles: tuple[str, ...] = _setting(
        (),
        "with `AUTHENTICATION=iam`: ARNs of the roles and users who are admins, such as "
        "`arn:aws:iam::123456789012:role/ops`; empty: nobody is",
    )
    allow_public: str = _setting(
        "no",
        "yes: the API may be open to whoever knows its address. Without it, `AUTHENTICATION=none` "
        "is refused on any stage but `local`, and everywhere on AWS",
        among=("yes", "no"),
    )
    tracing: str = _setting(
        "all",
        "what X-Ray samples: all: every function; api: the HTTP API alone; none: nothing. How many "
        "traces that is, AWS decides (docs/AWS.md has the price)",
        among=("all", "api", "none"),
    )
    log_level: str = _setting(
        "INFO", "DEBUG, INFO, WARNING or ERROR", among=("DEBUG", "INFO", "WARNING", "ERROR")
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        "origins, such as `https://app.example.com`, whose web pages may call the API from a "
        "browser; empty: none",
    )
    access_logs: bool = _setting(
        True,
        "a log line for each request to the HTTP API and each WebSocket message; API Gateway's "
        "account needs a role for it (docs/AWS.md)",
    )
    deletion_protection: bool = _setting(
        False, "refuse to delete the tables until this is `false` again; `true` in production"
    )
    bucket_versioning: bool = _setting(
        False, "keep what a candle file held before it was written again, for a day"
    )
    athena: str = _setting(
        "no",
        "yes: the candle files are a table for Athena, in a Glue database of the stack "
        "(docs/CANDLES.md); the embedded cloud has neither",
        among=("yes", "no"),
    )
    webhook_allowed_hosts: tuple[str, ...] = _setting(
        (),
        "host:port pairs that webhooks may reach over http and at any address, for developing on "
        "one's own machine; each opens that address to every caller: leave it empty elsewhere",
    )
    # Of each owner; 0: no limit. Above the bounds the items that count them would be too large.
    owner_active_tasks: int = _setting(
        0, "tasks that an owner may have pending or running at once; 0: no limit", 0, 1_000
    )
    owner_units_per_day: int = _setting(
        0, "units that an owner's tasks may have planned in a day (UTC); 0: no limit", 0, 10**9
    )
    owner_schedules: int = _setting(0, "schedules that an owner may have; 0: no limit", 0, 10_000)
    owner_connections: int = _setting(
        0, "WebSocket connections that an owner may have open; 0: no limit", 0, 1_000
    )
    owner_requests_per_second: int = _setting(
        0,
        "HTTP requests a second that each container takes from an owner, twice as many in a burst; "
        "0: no limit",
        0,
        10_000,
    )
    owner_webhooks_per_minute: int = _setting(
        0,
        "requests a minute that are sent to an owner's webhooks; the rest waits. Also, a receiver "
        "that fails is then left alone for a while. 0: no limit",
        0,
        100_000,
    )
    # Of the whole stage, refused by API Gateway before a function runs.
    api_requests_per_second: int = _setting(
        0, "HTTP requests a second that API Gateway lets through; 0: the account's limit", 0, 10_000
    )
    ws_messages_per_second: int = _setting(
        0,
        "WebSocket connects and messages a second that API Gateway lets through; 0: the account's "
        "limit",
        0,
        10_000,
    )
    alarm_email: str = _setting(
        "", "address that is mailed when an alarm begins or ends; empty: none, the topic is there"
    )
    monthly_budget_dollars: int = _setting(
        0,
        "`ALARM_EMAIL` is mailed when the whole account's costs of a month, or their forecast, "
        "come near so many dollars; 0: never",
        0,
        1_000_000,
    )
    lambda_runtime: str = _setting(
        "",
        "Lambda's Python, python3.11 to python3.14; empty: that of the machine that packages",
        among=("", *LAMBDA_RUNTIMES),
    )
    lambda_architecture: str = _setting(
        "",
        "Lambda's processor, x86_64 or arm64; empty: that of the machine that packages",
        among=("", *LAMBDA_ARCHITECTURES),
    )

    # Resource names; the template sets them.
    tasks_table: str = ""
    market_table: str = ""
    connections_table: str = ""
    audit_table: str = ""
    keys_table: str = ""
    candles_bucket: str = ""
    plan_queue_url: str = ""
    urgent_queue_url: str = ""
    work_queue_url: str = ""
    dead_letter_queue_url: str = ""
    stream_failure_queue_url: str = ""
    unreadable_queue_url: str = ""
    push_queue_url: str = ""
    ws_endpoint: str = ""
    # Only of the functions that manage schedules (infra/schedules.py).
    schedule_group: str = ""
    schedule_function_arn: str = ""
    schedule_role_arn: str = ""
    schedule_dead_letter_arn: str = ""
    event_bus: str = ""
    webhook_queue_url: str = ""
    webhook_dead_letter_queue_url: str = ""
    #: What AWS's host names end with in the stack's partition.
    url_suffix: str = "amazonaws.com"

    def __post_init__(self) -> None:
        for setting in fields(self):
            low, high = setting.metadata.get("low"), setting.metadata.get("high")
            value = getattr(self, setting.name)
            if low is not None and not low <= value <= high:
                raise SettingsInvalid(
                    f"{setting.name.upper()} is {value}; it must lie between {low} and {high}"
                )
            among = [each for each in setting.metadata.get("among", ()) if each]
            if among and value not in setting.metadata["among"]:
                known = f"{', '.join(among[:-1])} or {among[-1]}"
                raise SettingsInvalid(f"{setting.name.upper()} is {value!r}; it must be {known}")
        for timeframe in self.default_timeframes:
            if timeframe not in LENGTH_MS:
                raise SettingsInvalid(
                    f"DEFAULT_TIMEFRAMES names {timeframe!r}; known are {', '.join(LENGTH_MS)}"
                )
        if not self.default_timeframes:
            raise SettingsInvalid("DEFAULT_TIMEFRAMES must name at least one timeframe")
        for symbol in self.default_symbols:
            # What follows a selector's marks is checked at packaging (infra/configuration.py).
            if not SYMBOL_PATTERN.fullmatch(re.sub(f"[{SELECTOR_MARKS}]", "x", symbol)):
                raise SettingsInvalid(f"DEFAULT_SYMBOLS names {symbol!r}: not a symbol")
        root = root_of(self.exchange_url)
        if self.archive_url:
            root_of(self.archive_url, "ARCHIVE_URL")
        if not self.exchange:
            object.__setattr__(self, "exchange", name_of(root))
        if not NAME.fullmatch(self.exchange):
            raise SettingsInvalid(
                f"EXCHANGE is {self.exchange!r}; at most {LONGEST_NAME} lower-case letters, "
                "digits and -"
            )
        if self.default_page_size > self.max_page_size:
            raise SettingsInvalid("DEFAULT_PAGE_SIZE must not be above MAX_PAGE_SIZE")
        if self.alarm_email and not re.fullmatch(r"[^\s@]+@[^\s@]+", self.alarm_email):
            raise SettingsInvalid(f"ALARM_EMAIL is {self.alarm_email!r}: no mail address")
        if self.monthly_budget_dollars and not self.alarm_email:
            raise SettingsInvalid(
                "MONTHLY_BUDGET_DOLLARS needs an address to mail: set ALARM_EMAIL"
            )
        for pair in self.webhook_allowed_hosts:
            if not re.fullmatch(r"[a-z0-9.-]+:[0-9]{1,5}", pair):
                raise SettingsInvalid(
                    f"WEBHOOK_ALLOWED_HOSTS names {pair!r}; it must read host:port"
                )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise SettingsInvalid(
                    f"CORS_ORIGINS names {origin!r}; an origin reads https://host or "
                    "https://host:port, in lower case"
                )
        for arn in self.admin_roles:
            if not _ROLE_OR_USER.fullmatch(arn):
                raise SettingsInvalid(
                    f"ADMIN_ROLES names {arn!r}; it must be the ARN of a role or a user, such as "
                    "arn:aws:iam::123456789012:role/ops, without a session's name"
                )

    @property
    def exchange_root(self) -> str:
        """The root to which the exchange's name belongs."""
        return owning_root(self.exchange, self.exchange_url)

    @property
    def archive_root(self) -> str:
        """Root of the exchange's bulk archive; empty where there is none, or none is wanted."""
        if self.archive == "never":
            return ""
        return self.archive_url or archive_of(self.exchange, self.exchange_url)
