"""A run or a sweep to be looked at: one page, and its pictures."""
