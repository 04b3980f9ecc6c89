"""What the field reports for CMU-MOSI, CMU-MOSEI and CH-SIMS, as a module of `evaluate`; `metrics.py` computes it."""

import datasets
import evaluate

from .metrics import mosi_metrics, sims_metrics

METRICS = {"mosi": mosi_metrics, "sims": sims_metrics}

DESCRIPTION = """
The metrics of multimodal sentiment analysis, from sentiment scores. Configurations: "mosi", for CMU-MOSI and CMU-MOSEI,
whose labels lie in [-3, 3], and "sims", for CH-SIMS and CH-SIMS v2, whose labels lie in [-1, 1].
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
    predictions: scores, one number for each sample, of any range.
    references: true scores, likewise.

Returns:
    Unrounded values; accuracies and F1 are fractions in [0, 1].
    "mosi": mae, corr, acc_7, acc_5, acc_2_non_negative, f1_non_negative, acc_2_negative_positive,
        f1_negative_positive.
    "sims": mae, corr, acc_2, acc_3, acc_5, f1.
    NaN where a value is not defined: corr of constants, negative against positive where all labels are 0.

Raises:
    ValueError: no samples, different lengths, a number that is not finite.
"""


class MultimodalSentiment(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise ValueError(f"Name one of {', '.join(METRICS)}, as in load(..., 'mosi'); got {self.config_name!r}.")
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
            reference_urls=["https://arxiv.org/abs/2102.04830"],
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return METRICS[self.config_name](predictions, references)
