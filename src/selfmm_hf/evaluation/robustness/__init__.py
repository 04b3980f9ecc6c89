"""How a model fares where data are missing, by the two published protocols.

All figures are of the test split: a report on a finished model, and never what a model, an epoch or an option is
chosen by. What is chosen is chosen on validation, before.
"""
