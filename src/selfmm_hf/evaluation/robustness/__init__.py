"""How a model fares where data are missing, by the two published protocols.

All figures are of the test split, and describe a finished model. Models, epochs and options are chosen before, on the
validation split.
"""
