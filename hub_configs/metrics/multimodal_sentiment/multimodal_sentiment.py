"""The metrics of multimodal sentiment and emotions, as a module of `evaluate`; `metrics.py` computes them."""

from collections.abc import Sequence

import datasets
import evaluate

from .metrics import class_metrics, emotion_metrics, mosi_metrics, regression_metrics, sims_metrics

SCORES = {"mosi": mosi_metrics, "sims": sims_metrics}
TASKS = {
    "regression": regression_metrics,
    "multi_label_classification": emotion_metrics,
    "single_label_classification": class_metrics,
}

DESCRIPTION = """
The metrics of multimodal sentiment analysis. Configurations of one sentiment score: "mosi", for CMU-MOSI and CMU-MOSEI,
whose labels lie in [-3, 3], and "sims", for CH-SIMS and CH-SIMS v2, whose labels lie in [-1, 1]. Configurations of
other tasks, called as transformers calls its problem types: "regression" (scores such as valence and arousal),
"multi_label_classification" (emotions that may come together), "single_label_classification" (classes).
"""

CITATION = """
@inproceedings{yu2021learning,
  title = {Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for Multimodal Sentiment
           Analysis},
  author = {Yu, Wenmeng and Xu, Hua and Yuan, Ziqi and Wu, Jiele},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year = {2021}
}
"""

INPUTS = """
Args:
    predictions: of "mosi" and "sims", scores, one number for each sample, of any range. Else a list for each sample: of
        its scores, or of the probability of each emotion or class.
    references: true values, likewise; of classes, the number of the class of each sample, or probabilities.
    names: of the scores, emotions or classes, in their order; not of "mosi" and "sims".

Returns:
    Unrounded values; accuracies and F1 are fractions in [0, 1].
    "mosi": mae, corr, acc_7, acc_5, acc_2_non_negative, f1_non_negative, acc_2_negative_positive,
        f1_negative_positive.
    "sims": mae, corr, acc_2, acc_3, acc_5, f1.
    "regression": mae, rmse, corr, the means over the scores; of several, also mae_NAME, ... of each.
    "multi_label_classification": acc, f1, wa, auc, the means over the emotions, and acc_NAME, ... of each.
    "single_label_classification": acc, f1, f1_macro, uar, and acc_NAME, f1_NAME of each class against the others.
    NaN where a value is not defined: corr of constants, negative against positive where all labels are 0.

Raises:
    ValueError: no samples, different lengths, a number that is not finite, no names, or not as many as there are
        predictions of a sample.
"""


class MultimodalSentiment(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in [*SCORES, *TASKS]:
            known = ", ".join([*SCORES, *TASKS])
            raise ValueError(f"Name one of {known}, as in load(..., 'mosi'); got {self.config_name!r}.")
        number = datasets.Value("float64")
        pairs = {
            "regression": [(datasets.List(number), datasets.List(number)), (number, number)],
            "multi_label_classification": [(datasets.List(number), datasets.List(number))],
            "single_label_classification": [(datasets.List(number), number), (datasets.List(number),) * 2],
        }.get(self.config_name, [(number, number)])
        options = [datasets.Features({"predictions": one, "references": other}) for one, other in pairs]
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=options[0] if len(options) == 1 else options,
            reference_urls=["https://arxiv.org/abs/2102.04830"],
        )

    def _compute(self, predictions, references, names: Sequence[str] | None = None) -> dict[str, float]:
        if self.config_name in SCORES:
            if names is not None:
                raise ValueError(f"{self.config_name} is one score, which needs no names; got {names!r}.")
            return SCORES[self.config_name](predictions, references)
        if not names or isinstance(names, str):
            raise ValueError(f"Name what is predicted, as in compute(..., names=['happy', 'sad']); got {names!r}.")
        return TASKS[self.config_name](predictions, references, names)
