"""The version. In a wheel, chalicelib/core/version.py takes the place of this file."""

from chalicelib.core.version import VERSION

__all__ = ["VERSION"]
