"""Event handlers (being written)."""
