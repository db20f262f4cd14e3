"""Mixtures of experts: where a layer has its router and experts, how tokens find theirs, and the operations of both."""
