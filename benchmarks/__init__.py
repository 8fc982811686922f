"""What the design promises in numbers, measured: `python -m benchmarks [name ...]`.

Ratios within one run and counts, never times with a limit: a slow machine must not fail anything.
"""
