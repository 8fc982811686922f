"""The market data collector: pure rules, gateways, use cases and routes (see docs/adr/0001)."""
