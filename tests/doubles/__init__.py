"""Stand-ins for what lies outside: AWS, the exchange, time. None has state outside its objects."""
