"""Linears of few and many tokens: kernels, their configurations, what is done behind them."""
