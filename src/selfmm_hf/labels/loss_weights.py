"""The weight adjustment: how much each clip counts in the loss of a subtask. Its value for clips in agreement is
`agreement_weight` in `conventions.py`.
"""

import torch


def loss_weights(difference: torch.Tensor, at_agreement: float) -> torch.Tensor:
    """
    Returns `W_s = tanh(|y_s - y_m|)`, raised to the range [at_agreement, 1]. It makes the subtasks look at the samples
    where the modalities disagree.
    """
    return at_agreement + (1 - at_agreement) * difference.abs().tanh()
