"""Play simulated schedules: `python -m tests.simulation --seeds 100000`, or one: `--seed 4711`.

Exit code 1 where an invariant broke; each finding comes with the command that replays it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.running import Found, playing
from tests.simulation.small import plain_objects, small_plans
from tests.simulation.world import World


def main() -> int:
    options = _options()
    if options.seed is not None:
        return _one(options.seed)
    console = Console(stderr=True)
    total, began = Found(), time.monotonic()
    columns = (
        TextColumn("schedules"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s · {task.fields[broken]} broken ·"),
        TimeRemainingColumn(),
    )
    played = playing(options.start, options.seeds, options.processes)
    with played as findings, Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=options.seeds, rate=0.0, broken=0)
        for found in findings:
            total.add(found)
            rate = total.schedules / (time.monotonic() - began)
            progress.update(bar, completed=total.schedules, rate=rate, broken=len(total.broken))
            for seed, what in found.broken.items():
                progress.console.print(f"seed {seed}: {what}", markup=False, soft_wrap=True)
            if len(total.broken) >= options.give_up:
                break
    _report(total, time.monotonic() - began)
    return 1 if total.broken else 0


def _report(total: Found, seconds: float) -> None:
    print(
        f"{total.schedules} schedules ({total.faulty} with faults), {total.calls} AWS calls, "
        f"{seconds:.0f} s, {total.schedules / seconds:.0f} schedules/s"
    )
    for kind, count in sorted(total.faults.items()):
        print(f"  {kind:<22}{count:>10}")
    print(f"{len(total.broken)} violations")
    for seed, what in sorted(total.broken.items()):
        print(f"  {what}\n    replay: python -m tests.simulation --seed {seed}")


def _one(seed: int) -> int:
    world = World(seed)
    try:
        with small_plans(), plain_objects():
            world.run()
    except Exception:  # noqa: BLE001 - shown, with the calls that led there
        for called in world.aws.calls[-60:]:
            keys = {k: v for k, v in called.parameters.items() if k in ("Key", "QueueUrl", "Key")}
            print(called.number, called.name, keys, called.error or "")
        traceback.print_exc()
        return 1
    faults = dict(world.faults.seen)
    print(f"seed {seed}: {len(world.aws.calls)} calls, faults {faults}, no violation")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many schedules (2000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="play this one and show its last calls")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="processes (all processors)"
    )
    parser.add_argument("--give-up", type=int, default=20, help="stop after so many findings (20)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
