"""The steps of `data-collector check`, in the order in which they are tried."""

from market_data_collector.cli import check_data as data
from market_data_collector.cli import check_schedules as schedules
from market_data_collector.cli import check_system as system
from market_data_collector.cli import check_tasks as tasks

#: Routes that no step uses, and why.
EXCUSED = {
    "POST /pause": "it would hold up everybody's collections",
    "POST /resume": "it would end somebody's pause",
}
#: What a step makes, later ones look for.
STEPS = (
    system.health,
    system.metrics,
    system.keys,
    system.refusal,
    system.refresh,
    system.stats,
    schedules.schedule,
    schedules.schedules,
    tasks.start,
    tasks.idempotency,
    tasks.progress,
    tasks.active,
    tasks.listed,
    system.prices,
    tasks.update,
    tasks.cancel,
    tasks.retry,
    tasks.audit,
    tasks.history,
    data.data,
    data.candles,
    data.coverage,
    schedules.run_schedule,
    schedules.fires,
    schedules.change_schedule,
    schedules.delete_schedule,
)
