"""How a model fares where data are missing, by the two published protocols, and training with missing data.

All figures are of the test split: a report on a finished model, and never what a model, an epoch or an option is
chosen by. What is chosen is chosen on validation, before.
"""

from .masking import Tokens, with_missing, without
from .protocols import Condition, conditions, predict
from .training_data import EpochOf, MissingData

__all__ = ["Condition", "EpochOf", "MissingData", "Tokens", "conditions", "predict", "with_missing", "without"]
