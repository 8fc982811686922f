"""Every test runs in an empty folder, without the caller's environment."""

from tests.cli.conftest import _clean_surroundings

__all__ = ["_clean_surroundings"]
