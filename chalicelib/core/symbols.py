"""What a symbol's status says. The exchange has statuses of its own beside these."""

#: It can be traded, unless the exchange says otherwise beside it.
TRADING = "TRADING"
#: Stands for TRADING where spot trading is not allowed.
NOT_SPOT = "SPOT_TRADING_NOT_ALLOWED"
#: The exchange does not list it any more. Its candles may still be asked for.
DELISTED = "DELISTED"
