import numpy as np
import pytest
import torch
from transformers.trainer_utils import PredictionOutput

from selfmm_hf.labels.conflict import conflict_errors, conflict_in_words, in_conflict
from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.labels.pseudo_labels import PseudoLabels
from selfmm_hf.labels.trust import label_confidence, trust_in_words
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.runs.results import conflict_results

NAN = float("nan")


@pytest.mark.parametrize("limit", [3.0, 1.0])
def test_which_clips_are_in_conflict(limit):
    scores = np.array(
        [[1.0, -1.5, 0.6, 2.0, NAN, NAN], [0.1, 1.5, -0.4, NAN, 3.0, NAN], [0.5, 0.0, 0.0, 0.9, NAN, NAN]]
    )
    scores = np.float32(scores * limit / 3)  # of .6 and -.4, whose difference is a third of the range but for rounding
    np.testing.assert_array_equal(in_conflict(scores, limit), [0, 1, 0, 1, NAN, NAN])


def test_the_errors_of_both_groups():
    found = conflict_errors(np.array([0.1, 0.3, 0.5, 0.7, 9.0]), np.array([0, 0, 0, 1, NAN]))
    assert found == pytest.approx({"mae_agreement": 0.3, "mae_conflict": 0.7, "conflict_share": 0.25})
    alone = conflict_errors(np.array([0.1]), np.array([0.0]))
    assert alone == pytest.approx({"mae_agreement": 0.1, "mae_conflict": NAN, "conflict_share": 0.0}, nan_ok=True)
    none = conflict_errors(np.array([0.1]), np.array([NAN]))
    assert all(np.isnan(value) for value in none.values())


class Clips:
    """Four clips; the last lacks its sound."""

    widths = {"audio": 1, "vision": 1}  # noqa: RUF012

    def __init__(self, **labels):
        self.labels = np.float32([1.0, -1.0, 2.0, 0.0])
        self.columns = {"label": [1.0, -1.0, 2.0, 0.0], **labels}
        self.column_names = list(self.columns)

    def __getitem__(self, name):
        return self.columns[name]

    def lengths(self, modality):
        return np.array([3, 3, 3, 0 if modality == "audio" else 3])


FUSION = np.array([[1.1], [-0.8], [1.6], [0.8]])  # errors .1, .2, .4, .8
PREDICTED = {"text": np.array([[1.0], [-1.0], [1.0], [5.0]]), "audio": np.array([[1.5], [1.0], [0.5], [0.0]]),
             "vision": np.array([[9.0], [-9.0], [9.0], [5.0]])}  # fmt: skip
OUTPUT = PredictionOutput((FUSION, PREDICTED), None, {})


def test_a_run_divides_its_clips_by_the_true_labels_or_else_by_its_predictions():
    known = Clips(label_text=[1.0, -1.0, 2.0, -1.0], label_vision=[2.5, -1.2, 2.0, None])
    found = conflict_results("test", known, OUTPUT, ["text"], Task())  # whatever the model has
    assert found == pytest.approx(
        {"conflict_by": "labels", "test_mae_agreement": 0.3, "test_mae_conflict": 0.1, "test_conflict_share": 1 / 3}
    )
    # vision has no task of its own; the sound of the last clip is missing
    found = conflict_results("validation", Clips(), OUTPUT, ["text", "audio"], Task())
    assert found.pop("conflict_by") == "predictions"
    assert found == pytest.approx(
        {"validation_mae_agreement": 0.25, "validation_mae_conflict": 0.2, "validation_conflict_share": 1 / 3}
    )
    assert conflict_results("test", Clips(label_text=[0.0] * 4), OUTPUT, ["text"], Task()) == {}


def test_which_clips_a_table_calls_so_is_said():
    labels, old = {"conflict_by": "labels", "test_conflict_share": 0.34}, {"test_mae": 1.0}
    assert conflict_in_words([labels, old, labels], 3.0) == (
        "Clips in conflict: their true unimodal labels differ by more than 1, a third of the label range. These are "
        "34 % of the test clips with two such scores or more; the others agree."
    )
    predictions = [{"conflict_by": "predictions", "test_conflict_share": share} for share in (0.5, 0.2, None)]
    said = conflict_in_words(predictions, 1.0)
    assert "their unimodal predictions differ by more than 0.33" in said and "20 to 50 %" in said
    assert said.endswith("Each run divides the clips by its own predictions.")
    assert "true unimodal labels or, where the data have none, unimodal" in conflict_in_words([labels, *predictions], 3)
    assert (
        conflict_in_words([old], 3.0) is None
        and conflict_in_words([{**labels, "test_conflict_share": None}], 3) is None
    )


def test_the_confidence_is_told_by_modality_and_epoch_where_there_is_one():
    labels, dims = torch.tensor([1.0, -1.0]), {"fusion": 2, "text": 2, "audio": 2}
    state = PseudoLabels(labels, dims, CONVENTIONS["default"], Task())
    state.confidence = [torch.zeros(2, 1), torch.tensor([[0.25], [0.5]])]
    assert label_confidence(state, ["text", "audio"]) == {"text": [0.0, 0.25], "audio": [0.0, 0.5]}
    assert label_confidence(state, ["audio"]) == {"audio": [0.0, 0.5]}
    official = PseudoLabels(labels, dims, CONVENTIONS["official"], Task())
    official.end_epoch(1)
    assert label_confidence(official, ["text", "audio"]) == {}


def test_each_of_several_targets_has_a_confidence_of_its_own():
    dims = {"fusion": 2, "text": 2, "audio": 2}
    by_epoch = [torch.tensor([[0.25, 0.5], [0.0, 0.75]])]
    for task in (Task(("valence", "arousal")), Task(("happy", "sad"), "multi_label_classification")):
        state = PseudoLabels(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dims, CONVENTIONS["default"], task)
        state.confidence, (first, second) = by_epoch, task.names
        assert label_confidence(state, ["text", "audio"]) == {
            f"text, {first}": [0.25], f"text, {second}": [0.5], f"audio, {first}": [0.0], f"audio, {second}": [0.75],
        }  # fmt: skip
    classes = PseudoLabels(
        torch.tensor([0, 1]), dims, CONVENTIONS["default"], Task(("a", "b"), "single_label_classification")
    )
    classes.confidence = [torch.tensor([[0.25], [0.0]])]
    assert label_confidence(classes, ["text", "audio"]) == {"text": [0.25], "audio": [0.0]}


def test_trust_in_words():
    several = {
        "audio, sad": 0.01,
        "audio, angry": 0.0,
        "text, sad": 0.434,
        "text, angry": 0.5,
        "eye, angry": 0.0,
        "eye, sad": 1,
    }
    assert list(trust_in_words(several)) == [
        "audio adds nothing to sad, angry: its labels there are the fused labels",
        "text: where it differs from the fused label, the run trusts it to 43 % (sad), 50 % (angry)",
        "eye adds nothing to angry: its labels there are the fused labels",
        "eye: where it differs from the fused label, the run trusts it to 100 % (sad)",
    ]
    assert list(trust_in_words({"audio": 0.01, "text": 0.434})) == [
        "audio adds nothing: its labels are the fused labels",
        "text: where it differs from the fused label, the run trusts it to 43 %",
    ]
