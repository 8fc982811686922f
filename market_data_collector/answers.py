"""What the API answers, and the options of what it is asked. Made from docs/openapi.json:

    python -m infra.answers_module > market_data_collector/answers.py

Answers are JSON objects, and reach the caller as they came: a newer API may send more fields.
"""

from typing import Any, Literal, NotRequired, TypedDict


class ProblemError(TypedDict):
    detail: str
    pointer: str


Scope = Literal["read", "collect", "admin", "observe"]


class Problem(TypedDict):
    """RFC 9457. `reason` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    reason: str
    errors: NotRequired[list[ProblemError]]
    audit: NotRequired[str]
    scopes: NotRequired[list[Scope]]


class Accepted(TypedDict):
    task_id: str
    status: Literal["submitted"]
    message: str


class Started(Accepted):
    deduplicated: bool


Timeframe = Literal[
    "1s",
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
]


class QuoteUnits(TypedDict):
    total: int
    from_store: int


class SourceLoad(TypedDict):
    windows: int
    requests: int
    weight: int
    candles: int


class QuoteSources(TypedDict):
    """What is asked for, by where it comes from."""

    rest: SourceLoad
    archive: SourceLoad


Time = str


class QuotedBudget(TypedDict):
    limit: int
    left: int
    resets_at: Time
    workers: int
    weight_of_other_tasks: int


class AwsUse(TypedDict):
    """What AWS charges for. Estimated; benchmarks compare it with what tasks take."""

    api_requests: float
    lambda_requests: float
    lambda_gb_seconds: float
    sqs_requests: float
    dynamodb_write_units: float
    dynamodb_read_units: float
    s3_puts: float
    s3_gets: float


class AwsPricesDollars(TypedDict):
    """For one of each."""

    api_requests: float
    lambda_requests: float
    lambda_gb_seconds: float
    sqs_requests: float
    dynamodb_write_units: float
    dynamodb_read_units: float
    s3_puts: float
    s3_gets: float


class AwsPrices(TypedDict):
    as_of: str
    region: str
    source: str
    dollars: AwsPricesDollars


class Quote(TypedDict):
    """What a request would take. Nothing is started."""

    dry_run: Literal[True]
    symbols: int
    timeframes: list[Timeframe]
    units: QuoteUnits
    sources: QuoteSources
    requests: int
    weight: int
    candles: int
    bytes_stored: int
    seconds: float
    budget: QuotedBudget | None
    aws: AwsUse
    dollars: float
    storage_dollars_per_month: float
    prices: AwsPrices
    unknown_symbols: list[str]
    delisted_symbols: list[str]
    assumptions: list[str]


class Ticket(TypedDict):
    ticket: str
    expires_at: Time
    url: str


class Failure(TypedDict):
    """The window is half open."""

    symbol: str
    timeframe: Timeframe
    start: Time
    end: Time
    reason: str
    detail: str


class PassedOverFile(TypedDict):
    """A file of the bulk archive that was not used, and why: it is not there, it is not what its
    checksum or its name says, REST says otherwise, or the archive did not answer.
    """

    file: str
    reason: Literal[
        "ARCHIVE_FILE_MISSING", "ARCHIVE_FILE_DAMAGED", "ARCHIVE_FILE_STALE", "ARCHIVE_UNAVAILABLE"
    ]


class Rejection(TypedDict):
    """A candle that the exchange sent and that is impossible: not stored."""

    symbol: str
    timeframe: Timeframe
    open_time: Time


class WebhookState(TypedDict):
    """What became of the task's events."""

    url_host: str
    delivered: int
    failed: int
    pending: int
    last_error: str | None


TaskType = Literal["data_collection", "symbol_refresh"]

TaskState = Literal["pending", "running", "completed", "failed", "cancelled"]


class CollectionResult(TypedDict):
    units: int
    succeeded: int
    failed: int
    candles: int
    revised_candles: int
    rejected_candles: int
    from_store: NotRequired[int]


class RefreshResult(TypedDict):
    units: int
    succeeded: int
    failed: int
    symbols: int
    new: int


class Units(TypedDict):
    """A unit is one symbol, timeframe and window."""

    total: int
    from_store: int
    succeeded: int
    failed: int
    remaining: int


Priority = Literal["high", "normal", "low"]


class TaskRequest(TypedDict):
    """What a collection was asked for."""

    symbols: list[str] | None
    timeframes: list[Timeframe]
    start: Time | None
    end: Time | None


class ListedTask(TypedDict):
    task_id: str
    task_type: TaskType
    status: TaskState
    progress: int
    message: str
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    error: str | None
    result: CollectionResult | RefreshResult | None
    units: Units
    candles: int
    revised_candles: int
    rejected_candles: int
    eta_seconds: int | None
    attempt: int
    priority: Priority
    stopped_at: Time | None
    schedule_id: str | None
    request: TaskRequest | None
    symbols_count: int | None


class Task(ListedTask):
    notice: str | None
    failures: list[Failure]
    passed_over: list[PassedOverFile]
    rejections: list[Rejection]
    webhook: WebhookState | None
    next_attempt_at: Time | None
    retries_left: int


CancelMessage = Literal["Cancelled", "Already cancelled", "No further attempt"]


class UnitsAtCancel(TypedDict):
    total: int
    succeeded: int
    failed: int


class Cancelled(TypedDict):
    task_id: str
    status: Literal["cancelled", "completed", "failed"]
    message: CancelMessage
    stopped_at: Time
    units: UnitsAtCancel
    candles: int


class Retried(Accepted):
    attempt: int


class TaskPage(TypedDict):
    tasks: list[ListedTask]
    next_page_token: str | None


class ActiveTasks(TaskPage):
    count: int


class TaskCounts(TypedDict):
    pending: int
    running: int
    completed: int
    failed: int
    cancelled: int


class CatalogueStats(TypedDict):
    symbols_count: int
    timeframes: list[Timeframe]
    available_symbols: list[str]
    delisted_symbols: dict[str, Time]
    symbols_refreshed_at: Time | None
    trading_symbols_count: int
    default_symbols: list[str] | None


class Stats(TypedDict):
    task_counts: TaskCounts
    active_tasks_count: int
    data_collector_status: CatalogueStats


CollectorState = Literal["idle", "collecting", "waiting", "paused"]


class QueueDepth(TypedDict):
    visible: int
    in_flight: int
    delayed: int


class Queues(TypedDict):
    plan: QueueDepth
    urgent: QueueDepth
    work: QueueDepth
    dead_letters: QueueDepth
    webhooks: QueueDepth
    webhook_dead_letters: QueueDepth


class RateBudget(TypedDict):
    limit: int
    used: int
    left: int
    resets_at: Time


class Breaker(TypedDict):
    open: bool
    until: Time | None
    reason: str | None


class Pause(TypedDict):
    by: str
    since: Time
    until: Time | None
    reason: str | None
    tasks_wait_until: Time


class Limit(TypedDict):
    limit: int | None
    used: int | None
    resets_at: NotRequired[Time]


class Limits(TypedDict):
    """What the caller may use, and uses."""

    active_tasks: Limit
    units_per_day: Limit
    schedules: Limit
    connections: Limit
    requests_per_second: Limit
    webhooks_per_minute: Limit


class Caller(TypedDict):
    """Who asked, and what they may do."""

    owner: str
    scopes: list[Literal["admin", "collect", "observe", "read"]]
    key_id: str | None


class Status(TypedDict):
    status: CollectorState
    exchange: str
    exchange_root: str
    task_counts: TaskCounts
    queues: Queues | None
    rate_budget: RateBudget | None
    breaker: Breaker
    pause: Pause | None
    limits: Limits
    caller: Caller


PauseMessage = Literal["Paused", "Resumed", "Not paused"]


class PauseOrdered(TypedDict):
    paused: bool
    message: PauseMessage
    pause: Pause | None


class Price(TypedDict):
    price: float
    time: Time
    age_seconds: int
    stale: bool


PricesBySymbol = dict[str, Price]


class Prices(TypedDict):
    exchange: str
    prices: PricesBySymbol
    unreachable: list[str]
    as_of: Time


class AuditEvent(TypedDict):
    """One event of the audit trail. Its hash is SHA-256 over the canonical JSON of everything
    else in it; see docs/AUDIT.md.
    """

    id: str
    subject: str
    seq: int
    action: str
    at: str
    recorded_at: str
    owner: str | None
    by: str | None
    request_id: str | None
    attempt: int | None
    before: Any
    after: Any
    detail: str | None
    data: Any
    stream: str | None
    late: bool | None
    previous_hash: str
    hash: str


class AuditPage(TypedDict):
    events: list[AuditEvent]
    next_page_token: str | None


class ScheduledCollectionView(TypedDict):
    symbols: NotRequired[list[str]]
    timeframes: list[Timeframe]
    priority: NotRequired[Priority]
    tolerated_failure_percentage: NotRequired[float]
    timeout_seconds: NotRequired[int]
    webhook_host: NotRequired[str]
    retries: NotRequired[int]
    retry_backoff_seconds: NotRequired[int]
    fill: NotRequired[Literal["gaps", "all"]]


class LastRun(TypedDict):
    at: Time
    by: str
    task_id: str
    status: TaskState | None


LagByTimeframe = dict[str, int]


class Freshness(TypedDict):
    promised_seconds: int
    lag_seconds: int | None
    timeframes: LagByTimeframe
    behind: int | None
    measured_at: Time | None
    breaches: int
    breached_since: Time | None
    last_repair_task_id: str | None


Overlap = Literal["skip", "queue"]


class ScheduleRuns(TypedDict):
    started: int
    skipped: int
    missed: int


class ListedSchedule(TypedDict):
    schedule_id: str
    name: str
    expression: str
    timezone: str
    enabled: bool
    overlap: Overlap
    catch_up: bool
    next_run_at: Time | None
    queued_for: Time | None
    runs: ScheduleRuns
    last_skipped_at: Time | None
    last_refused_at: Time | None
    refusal: str | None
    created_at: Time
    updated_at: Time
    in_sync: bool
    sync_error: str | None
    stopped_because: str | None


class Schedule(ListedSchedule):
    request: ScheduledCollectionView
    last_run: LastRun | None
    freshness: Freshness | None


class SchedulePage(TypedDict):
    schedules: list[ListedSchedule]
    next_page_token: str | None


class DeletedSchedule(TypedDict):
    schedule_id: str
    status: Literal["deleted"]


class StartedRun(Accepted):
    schedule_id: str


KeyStatus = Literal["live", "expired", "revoked"]


class Key(TypedDict):
    key_id: str
    owner: str
    scopes: list[Scope]
    status: KeyStatus
    created_at: Time
    created_by: str
    expires_at: Time | None
    rotated_at: Time | None
    rotated_by: str | None
    last_used_at: Time | None
    revoked_at: Time | None
    revoked_by: str | None


class ShownKey(Key):
    key: str


class KeyPage(TypedDict):
    keys: list[Key]
    next_page_token: str | None


class EndedTaskAsked(TypedDict):
    symbols: NotRequired[int | None]
    symbol_names: NotRequired[list[str]]
    timeframes: NotRequired[list[str]]
    start: NotRequired[Time | None]
    end: NotRequired[Time | None]
    priority: NotRequired[str]


class EndedTaskUnits(TypedDict):
    total: int | None
    succeeded: int | None
    failed: int | None


class EndedTask(TypedDict):
    task_id: str
    attempt: int
    status: Literal["completed", "failed", "cancelled"]
    task_type: str | None
    owner: str | None
    source: str | None
    schedule_id: str | None
    cancelled_by: str | None
    asked: EndedTaskAsked | None
    created_at: Time | None
    started_at: Time | None
    completed_at: Time
    units: EndedTaskUnits
    candles: int | None
    message: str | None
    error: str | None


class HistoryPage(TypedDict):
    tasks: list[EndedTask]
    next_page_token: str | None


class Candle(TypedDict):
    open_time: Time
    close_time: Time
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    taker_buy_volume: float
    taker_buy_quote_volume: float
    trades: int
    filled: NotRequired[bool]


class CandleGap(TypedDict):
    """A stretch without a candle; GET /coverage/gaps says why."""

    start: Time
    end: Time


class CandlePage(TypedDict):
    exchange: str
    symbol: str
    timeframe: Timeframe
    candles: list[Candle]
    gaps: list[CandleGap]
    next_page_token: str | None
    message: str | None


class CandleFile(TypedDict):
    symbol: str
    timeframe: Timeframe
    key: str
    start: Time
    end: Time | None
    bytes: int
    rows: int | None
    etag: str
    url: str
    expires_at: Time


class CandleFiles(TypedDict):
    files: list[CandleFile]
    next_page_token: str | None


class ExplainedCounts(TypedDict):
    """How many candles are not held for a reason, by reason."""

    before_listing: NotRequired[int]
    delisted: NotRequired[int]
    exchange_outage: NotRequired[int]
    no_trades: NotRequired[int]
    invalid: NotRequired[int]


class CoverageCell(TypedDict):
    start: Time
    end: Time
    expected: int
    held: int
    explained: ExplainedCounts
    missing: int
    uncertain: NotRequired[int]
    percent: float | None


class CoverageRow(TypedDict):
    """One symbol and timeframe. The counts are of the cells in this row: a row or cell that is
    too much for one page goes on in the next, and its parts add up.
    """

    symbol: str
    timeframe: Timeframe
    start: Time | None
    end: Time | None
    expected: int
    held: int
    explained: ExplainedCounts
    missing: int
    uncertain: NotRequired[int]
    percent: float | None
    cells: list[CoverageCell]


class CoveragePage(TypedDict):
    exchange: str
    resolution: Literal["object", "day", "month", "year", "all"]
    coverage: list[CoverageRow]
    next_page_token: str | None


GapReason = Literal[
    "before_listing",
    "delisted",
    "exchange_outage",
    "no_trades",
    "invalid",
    "unexplained",
    "not_collected",
    "not_yet_final",
]


class GapEvidence(TypedDict):
    first_asked: Time
    last_asked: Time
    times_asked: int


class Gap(TypedDict):
    start: Time
    end: Time
    candles: int
    reason: GapReason
    evidence: GapEvidence | None


class GapPage(TypedDict):
    exchange: str
    symbol: str
    timeframe: Timeframe
    start: Time | None
    end: Time | None
    gaps: list[Gap]
    next_page_token: str | None


ToleratedFailurePercentage = float

TimeoutSeconds = int

WebhookEvent = Literal[
    "task.submitted",
    "task.planned",
    "task.started",
    "task.unit_failed",
    "task.completed",
    "task.failed",
    "task.cancelled",
    "task.stopped",
    "task.retried",
]


class Webhook(TypedDict):
    """Where the task's events are sent (docs/WEBHOOKS.md)."""

    url: str
    secret: str
    events: NotRequired[list[WebhookEvent]]


Retries = int

RetryBackoffSeconds = int


class CollectionOptions(TypedDict):
    priority: NotRequired[Priority]
    tolerated_failure_percentage: NotRequired[ToleratedFailurePercentage]
    timeout_seconds: NotRequired[TimeoutSeconds]
    webhook: NotRequired[Webhook]
    fill: NotRequired[Literal["new", "gaps", "all"]]
    force: NotRequired[bool]
    retries: NotRequired[Retries]
    retry_backoff_seconds: NotRequired[RetryBackoffSeconds]


class FillOptions(TypedDict):
    priority: NotRequired[Priority]
    tolerated_failure_percentage: NotRequired[ToleratedFailurePercentage]
    timeout_seconds: NotRequired[TimeoutSeconds]
    webhook: NotRequired[Webhook]


class VerifyOptions(TypedDict):
    priority: NotRequired[Priority]
    tolerated_failure_percentage: NotRequired[ToleratedFailurePercentage]
    timeout_seconds: NotRequired[TimeoutSeconds]
    webhook: NotRequired[Webhook]
    repair: NotRequired[bool]


ScheduleName = str

TimeZone = str


class FreshnessPromise(TypedDict):
    max_lag_seconds: int


class ScheduleOptions(TypedDict):
    name: NotRequired[ScheduleName]
    timezone: NotRequired[TimeZone]
    enabled: NotRequired[bool]
    overlap: NotRequired[Overlap]
    catch_up: NotRequired[bool]
    freshness: NotRequired[FreshnessPromise | None]


ScheduleExpression = str

Symbols = list[str]

Timeframes = list[Timeframe]


class ScheduledCollection(TypedDict):
    """As StartRequest, without start and end: a schedule collects from the last stored candle
    on.
    """

    symbols: NotRequired[Symbols]
    timeframes: NotRequired[Timeframes]
    priority: NotRequired[Priority]
    tolerated_failure_percentage: NotRequired[ToleratedFailurePercentage]
    timeout_seconds: NotRequired[TimeoutSeconds]
    webhook: NotRequired[Webhook]
    fill: NotRequired[Literal["new", "gaps", "all"]]
    retries: NotRequired[Retries]
    retry_backoff_seconds: NotRequired[RetryBackoffSeconds]


class ScheduleChange(TypedDict):
    name: NotRequired[ScheduleName]
    expression: NotRequired[ScheduleExpression]
    timezone: NotRequired[TimeZone]
    request: NotRequired[ScheduledCollection]
    enabled: NotRequired[bool]
    overlap: NotRequired[Overlap]
    catch_up: NotRequired[bool]
    freshness: NotRequired[FreshnessPromise | None]
