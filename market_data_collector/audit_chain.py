"""How to verify an audit chain, by the code that the functions seal it with.

In a wheel, chalicelib/audit/chain.py takes the place of this file (pyproject.toml).
"""

from chalicelib.audit.chain import AuditEvent, Fault, verify

__all__ = ["AuditEvent", "Fault", "verify"]
