"""The version. In a wheel this file is replaced by chalicelib/core/version.py (pyproject.toml)."""

from chalicelib.core.version import VERSION

__all__ = ["VERSION"]
