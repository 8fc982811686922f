"""How to verify an audit chain, as the functions seal it.

In a wheel this file is replaced by chalicelib/audit/chain.py itself (pyproject.toml), which needs
nothing but Python.
"""

from chalicelib.audit.chain import Fault, verify

__all__ = ["Fault", "verify"]
