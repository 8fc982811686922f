"""The market data collector, in packages by domain (docs/ARCHITECTURE.md)."""
