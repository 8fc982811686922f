"""What the collector talks to: AWS, the exchange, the sockets of its users."""
