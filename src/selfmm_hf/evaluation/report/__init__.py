"""The HTML report of runs or sweeps, and its pictures."""
