"""Evaluates finished runs: sweeps of them, tables, a search, robustness, the report."""
