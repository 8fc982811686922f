"""Where a mutant's code goes."""

from __future__ import annotations

import subprocess
import sys

from tests.mutation.generate import CHALICELIB

_FOUND_THOUGH_FROZEN = """
import gc
from chalicelib.tasks import finish
from tests.mutation.run import _functions
gc.freeze()
found = _functions({finish.__file__})
print(finish.finish_prog in [function for each in found.values() for function in each])
"""


def test_functions_are_found_that_the_collector_passes_over() -> None:
    """The tests freeze what they themselves are; a mutant would be put into nothing."""
    asked = [sys.executable, "-c", _FOUND_THOUGH_FROZEN]
    said = subprocess.run(asked, cwd=CHALICELIB.parent, capture_output=True, text=True, check=True)
    assert said.stdout == "True\n"
