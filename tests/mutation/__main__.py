"""`python -m tests.mutation [--package tasks] [--only finish] [--jobs 2]`

Removes one guard of the packages at a time (generate.py) and runs the tests that reach it: one must
fail. Exit code 1 where a mutant survives that explained.toml does not explain, or where that file
explains one that is killed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.mutation.explained import explanations
from tests.mutation.generate import CHALICELIB, PACKAGES, Mutant, mutants_of
from tests.mutation.run import SURVIVED, Verdict, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--package", choices=PACKAGES, action="append")
    parser.add_argument("--only", metavar="MODULE", action="append")
    parser.add_argument("--place", help="only of places that begin so")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="name what killed each mutant")
    asked = parser.parse_args()
    mutants = [
        mutant
        for package in asked.package or PACKAGES
        for path in sorted((CHALICELIB / package).glob("*.py"))
        if not asked.only or path.stem in asked.only
        for mutant in mutants_of(path)
        if mutant.place.startswith(asked.place or "")
    ]
    return Run(mutants, asked.verbose).play(asked.jobs)


class Run:
    """A run of mutants, and what is printed of it."""

    def __init__(self, mutants: list[Mutant], verbose: bool) -> None:
        self.mutants, self.verbose = mutants, verbose
        self.counts: Counter[str] = Counter()
        self.began = time.monotonic()
        self.explained = explanations()
        self.wrong = 0

    def play(self, jobs: int) -> int:
        print(f"{len(self.mutants)} mutants; first, which tests reach them", flush=True)
        failed = run(self.mutants, jobs, self.report)
        done = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        minutes = (time.monotonic() - self.began) / 60
        print(f"{len(self.mutants)} mutants: {done}; {minutes:.1f} minutes")
        return 1 if self.wrong or failed else 0

    def report(self, verdict: Verdict) -> None:
        mutant = verdict.mutant
        reason = self.explained.get((mutant.place, mutant.text))
        what = verdict.verdict
        if what == SURVIVED and reason is not None:
            what = "explained"
        elif (what == SURVIVED) is (reason is None):
            self.wrong += 1
            what = "survived" if reason is None else "explained, but killed"
        self.counts[what] += 1
        if self.verbose or what in ("survived", "explained, but killed"):
            by = f" [{verdict.by}]" if verdict.by else ""
            print(f"{what}: {mutant.place} | {mutant.text}{by}", flush=True)
        if (count := sum(self.counts.values())) % 20 == 0:
            seconds = time.monotonic() - self.began
            print(f"  {count} of {len(self.mutants)} after {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
