"""The version of the collector and of its client. pyproject.toml reads it from this file."""

VERSION = "0.1.0"
