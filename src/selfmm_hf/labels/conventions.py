"""The three conventions of the label generation: `default`, `paper`, `official`."""

from dataclasses import dataclass

DISTANCES = ("axis", "euclidean", "squared")


@dataclass(frozen=True)
class Convention:
    """
    Every choice in which the paper, the official code and this project differ.

    Args:
        distance: `"euclidean"` (official), `"squared"`, which is squared and divided by sqrt(dim) (paper), or `"axis"`,
            the position between the class centres, from which labels are made once an epoch, see default_rule.py
            (this project).
        zero_is_positive: Whether a label of exactly 0 belongs to the positive class.
        unseen_in_centres: Whether samples not yet seen count as zero vectors in the centres.
        clamp: Whether generated labels are clamped to the label range.
        agreement_weight: `W_s` of a clip whose modalities agree. The paper's formula makes it 0, so that the unimodal
            heads learn nothing in the first two epochs, and later only from the clips in disagreement. At 1, all clips
            count alike, without weight adjustment (paper, ablation).
        relative_weights: Whether `W_s` is computed as for labels in [-3, 3], MOSI's, whatever the label range. In label
            units, hardly any clip of a range of 1 would be in disagreement.
        momentum: Whether labels move by the paper's momentum over the epochs, rather than being replaced.
        least_step: The share of the way to its new value that a label moves in an epoch, at least. The paper's momentum
            moves it by `2 / (i + 1)` in epoch `i`, so that late in a training the labels lag behind the model.
        sum_accumulated: Whether the mean losses of accumulated batches are summed, and an incomplete last group of an
            epoch is dropped; otherwise each sample counts once.
        mean_of_batch_means: Whether the validation loss is the mean of the batches' means, not of all samples.

    Raises:
        ValueError: `distance` is none of these, or `agreement_weight` or `least_step` is not in [0, 1].
    """

    distance: str = "axis"
    zero_is_positive: bool = False
    unseen_in_centres: bool = False
    clamp: bool = True
    agreement_weight: float = 0.5
    relative_weights: bool = True
    momentum: bool = True
    least_step: float = 0.12
    sum_accumulated: bool = False
    mean_of_batch_means: bool = False

    def __post_init__(self):
        if self.distance not in DISTANCES:
            raise ValueError(f"distance must be one of {DISTANCES}, got {self.distance!r}.")
        for name in ("agreement_weight", "least_step"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}.")


CONVENTIONS = {
    "default": Convention(),
    "paper": Convention(distance="squared", clamp=False, agreement_weight=0.0, relative_weights=False, least_step=0.0),
    "official": Convention(
        distance="euclidean",
        zero_is_positive=True,
        unseen_in_centres=True,
        agreement_weight=0.0,
        relative_weights=False,
        least_step=0.0,
        sum_accumulated=True,
        mean_of_batch_means=True,
    ),
}
