"""Drop-ins for the stock transfer operators."""
