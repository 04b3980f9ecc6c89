"""Measures how well a model predicts when data are missing, by the two published protocols.

All figures are of the test split, and describe a finished model. Models, epochs and options must be chosen before, on
the validation split.
"""
