"""What is said of finished runs: sweeps of them, tables, a search, robustness, the report."""
