"""The version of the collector and of its client, written here alone.

pyproject.toml reads this file without importing it.
"""

VERSION = "0.1.0"
