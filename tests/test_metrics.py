"""The metrics against recorded official values, scikit-learn and cases worked out by hand."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from selfmm_hf.metrics import METRICS, absolute_errors, few_clips, metric_text, mosi_metrics, sims_metrics

SHARED = Path(__file__).resolve().parents[2] / "shared"
CASES = SHARED / "parity" / "metrics_cases.json"

OFFICIAL_NAMES = {
    "mosi": {
        "mae": "MAE",
        "corr": "Corr",
        "acc_7": "Mult_acc_7",
        "acc_5": "Mult_acc_5",
        "acc_2_non_negative": "Has0_acc_2",
        "f1_non_negative": "Has0_F1_score",
        "acc_2_negative_positive": "Non0_acc_2",
        "f1_negative_positive": "Non0_F1_score",
    },
    "sims": {
        "mae": "MAE",
        "corr": "Corr",
        "acc_2": "Mult_acc_2",
        "acc_3": "Mult_acc_3",
        "acc_5": "Mult_acc_5",
        "f1": "F1_score",
    },
}


def official_names(metrics: dict[str, float], dataset: str) -> dict[str, float]:
    """Ours under the official keys; MOSI and MOSEI rounded to four decimals, the MAE in float32."""
    if dataset == "sims":
        return {OFFICIAL_NAMES["sims"][name]: value for name, value in metrics.items()}
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    rounded["mae"] = float(np.round(np.float32(metrics["mae"]), 4))
    return {OFFICIAL_NAMES["mosi"][name]: value for name, value in rounded.items()}


@pytest.mark.skipif(not CASES.exists(), reason="the recorded official metrics (../shared/parity) are not here")
def test_equals_every_recorded_official_case():
    cases = json.loads(CASES.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 18
    for case in cases:
        expected = {name: float(value) for name, value in case["result"].items()}
        metrics = METRICS[1.0 if case["dataset"] == "sims" else 3.0]
        got = official_names(metrics(case["pred"], case["true"]), case["dataset"])
        assert got == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True), (
            case["dataset"],
            case["kind"],
        )


def test_mosi_by_hand():
    metrics = mosi_metrics([2.5, -4.0, 0.0, -0.5], [2.0, -3.0, -1.0, 0.0])
    # rounded half to even: 2, -3, 0, -0 against 2, -3, -1, 0; clipped to 2: 2, -2, 0, -0 against 2, -2, -1, 0
    assert metrics["acc_7"] == metrics["acc_5"] == 0.75
    assert metrics["mae"] == 0.75
    assert metrics["acc_2_non_negative"] == 0.5  # + - + - against + - - +
    assert metrics["f1_non_negative"] == 0.5
    assert (
        metrics["acc_2_negative_positive"] == 1.0
    )  # the last sample is left out, a prediction of 0 counts as negative
    assert metrics["f1_negative_positive"] == 1.0
    assert metrics["corr"] == pytest.approx(np.corrcoef([2.5, -4, 0, -0.5], [2, -3, -1, 0])[0, 1])


def test_sims_by_hand():
    predictions = [-1.5, -0.7, -0.1, 0.0, 0.1, 0.7, 2.0, 0.05]
    labels = [-1.0, -0.8, -0.2, -0.5, 0.2, 0.6, 0.8, -0.05]
    metrics = sims_metrics(predictions, labels)
    assert metrics["acc_2"] == 7 / 8  # 0.0 is negative, 0.05 is not
    assert metrics["acc_3"] == 6 / 8  # 0.0 and 0.1 are neutral
    assert metrics["acc_5"] == 6 / 8
    assert metrics["mae"] == pytest.approx((0 + 0.1 + 0.1 + 0.5 + 0.1 + 0.1 + 0.2 + 0.1) / 8)
    assert metrics["f1"] == pytest.approx(5 / 8 * (8 / 9) + 3 / 8 * (6 / 7))


def test_class_limits_are_float32():
    # in float64 0.1f lies above 0.1 and would leave the neutral class
    on_limit = np.array([0.1, -0.1, 0.7, -0.7], dtype=np.float32)
    assert sims_metrics(on_limit, [0.0, -0.5, 0.5, -1.0])["acc_3"] == 1.0
    assert sims_metrics(on_limit, [0.0, -0.5, 0.5, -1.0])["acc_5"] == 1.0


@pytest.mark.parametrize("value", [0.5, -0.3, 0.0])
def test_undefined_correlation_is_nan(value):
    labels = np.linspace(-1, 1, 122)
    for metrics in (mosi_metrics, sims_metrics):
        assert math.isnan(metrics(np.full(122, value), labels)["corr"])
        assert math.isnan(metrics(labels, np.full(122, value))["corr"])
        assert math.isnan(metrics([0.5], [1.0])["corr"])


def test_only_zero_labels_leave_negative_against_positive_undefined():
    metrics = mosi_metrics([0.5, -0.5], [0.0, 0.0])
    assert math.isnan(metrics["acc_2_negative_positive"]) and math.isnan(metrics["f1_negative_positive"])
    assert metrics["acc_2_non_negative"] == 0.5
    assert metrics["f1_non_negative"] == pytest.approx(2 / 3)


def test_shapes_and_types():
    predictions, labels = np.array([0.3, -1.2, 2.0]), np.array([1, -1, 2])
    expected = mosi_metrics(predictions, labels)
    assert mosi_metrics(predictions[:, None].astype(np.float16), labels[:, None]) == pytest.approx(expected, rel=1e-3)
    assert mosi_metrics(predictions.tolist(), labels.tolist()) == expected
    assert all(type(value) is float for value in expected.values())


def test_f1_equals_sklearn():
    sklearn = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(3)
    for size in (1, 2, 5, 40):
        for shift in (-9, -0.3, 0, 0.3, 9):  # at both ends one class is never predicted
            predictions = (generator.normal(size=size) + shift).astype(np.float32)
            labels = generator.integers(-3, 4, size).astype(np.float32)
            mosi, sims = mosi_metrics(predictions, labels), sims_metrics(predictions, labels)

            def f1(predicted, true):
                return sklearn.f1_score(true, predicted, average="weighted", zero_division=0)

            signed = labels != 0
            assert mosi["f1_non_negative"] == pytest.approx(f1(predictions >= 0, labels >= 0))
            assert sims["f1"] == pytest.approx(f1(predictions > 0, labels > 0))
            if signed.any():
                assert mosi["f1_negative_positive"] == pytest.approx(f1(predictions[signed] > 0, labels[signed] > 0))


@pytest.mark.parametrize("metrics", [mosi_metrics, sims_metrics])
@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([], [], "predictions are empty"),
        ([1.0], [], "labels are empty"),
        ([1.0, 2.0], [1.0], "got 2 predictions but 1 labels"),
        ([0.0, math.nan, math.inf], [0.0] * 3, "predictions hold 2 values .* first at position 1"),
        ([0.0, 1.0], [0.0, -math.inf], "labels hold 1 values .* first at position 1"),
        ([1e300], [1.0], "predictions hold 1 values"),
        (np.zeros((3, 2)), [0.0] * 3, r"predictions must have shape .* got \(3, 2\)"),
        ([0.0], 1.0, r"labels must have shape .* got \(\)"),
        (np.zeros((1, 1, 1)), [0.0], "predictions must have shape"),
        (["a"], [0.0], "predictions must be real numbers"),
        ([0.0], [None], "labels must be real numbers"),
    ],
)
def test_errors(metrics, predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics(predictions, labels)


def test_scores_near_the_end_of_float32_do_not_warn():
    assert mosi_metrics([3e38, -3e38], [-3e38, 1.0])["mae"] == math.inf


def test_errors_are_those_of_which_the_mae_is_the_mean():
    predictions, labels = [1.4, -3.5, 0.2], [1.0, -1.0, 0.4]
    assert absolute_errors(predictions, labels, 3.0) == pytest.approx([0.4, 2.5, 0.2])
    assert absolute_errors(predictions, labels, 1.0) == pytest.approx([0.0, 0.0, 0.2])  # both sides within [-1, 1]


@pytest.mark.parametrize(
    ("clips", "said"),
    [
        (1, "has 1 clip, too few for its metrics: a correlation means nothing"),
        (2, "has 2 clips, too few .*always 1 or -1"),
        (10, r"has 10 clips, .*beyond 0\.63 in one of twenty"),  # .632 in tables of the test
        (29, r"has 29 clips, .*beyond 0\.37 in one of twenty"),  # .367
        (30, None),
    ],
)
def test_too_few_clips_are_said(clips, said):
    found = few_clips("validation", clips)
    assert found is None if said is None else re.search(f"The validation split {said}", found)


def test_of_few_clips_with_classes_the_accuracy_is_told():
    assert "changes the accuracy by 10%" in few_clips("test", 10, scores=False)
    assert few_clips("test", 30, scores=False) is None


@pytest.mark.parametrize(
    ("name", "value", "signed", "text"),
    [("mae", 0.0454, False, "0.045"), ("corr", -0.5, True, "-0.500"), ("mae", 0.25, True, "+0.250"),
     ("acc_7", 0.4567, False, "45.7"), ("f1", -0.005, True, "-0.5")],
)  # fmt: skip
def test_errors_are_shown_as_they_are_and_shares_in_percent(name, value, signed, text):
    assert metric_text(name, value, signed) == text
