"""Value at risk: a daily variance proxy, its forecasts, the tail of what is left, and backtests (notebook 09)."""
