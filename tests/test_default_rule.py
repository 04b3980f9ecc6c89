import pytest
import torch
from no_float64 import DEVICE, NoFloat64

from selfmm_hf.labels.default_rule import axis_position, calibrated_labels, confidence, float64_device, on_label_scale


def test_position_is_1_and_minus_1_at_the_centres_and_linear_between():
    centres = torch.tensor([[[3.0, 4.0]], [[-1.0, 0.0]]])
    points = torch.stack([centres[0, 0], centres[1, 0], centres.mean(0)[0], torch.tensor([7.0, 8.0])])
    assert axis_position(points, centres).squeeze(1).tolist() == pytest.approx([1.0, -1.0, 0.0, 3.0])


def test_position_is_the_normalised_difference_of_squared_distances():
    generator = torch.Generator().manual_seed(0)
    centres, points = torch.randn(2, 2, 5, generator=generator), torch.randn(6, 5, generator=generator)
    squared = (points[:, None, None] - centres.transpose(0, 1)).square().sum(-1)  # (points, targets, 2)
    expected = (squared[..., 1] - squared[..., 0]) / (centres[0] - centres[1]).square().sum(-1)
    torch.testing.assert_close(axis_position(points, centres), expected, rtol=1e-4, atol=1e-5)


def test_label_scale_undoes_any_increasing_distortion():
    labels = torch.linspace(-3, 3, 61)
    torch.testing.assert_close(on_label_scale((labels * 0.7).exp(), labels), labels, atol=1e-5, rtol=0)


def test_label_scale_is_monotone_in_range_and_gives_ties_one_value():
    generator = torch.Generator().manual_seed(1)
    position = torch.randn(200, generator=generator).round(decimals=1)
    labels = torch.randn(200, generator=generator).clamp(-3, 3)
    calibrated = on_label_scale(position, labels)
    order = position.argsort()
    assert (calibrated[order].diff() >= -1e-6).all()
    assert calibrated.min() >= labels.min() and calibrated.max() <= labels.max()
    for value in position.unique():
        assert calibrated[position == value].unique().numel() == 1


def test_scale_comes_from_the_clips_in_agreement():
    """A third of the clips disagree, which shrinks the fused label; the modality's own scale is found all the same."""
    generator = torch.Generator().manual_seed(2)
    truth = torch.rand(3000, generator=generator) * 6 - 3
    disagrees = torch.rand(3000, generator=generator) < 0.33
    labels = torch.where(disagrees, truth * 0.3, truth)
    calibrated = on_label_scale(truth * 5 + 1, labels)
    matched = labels.std() / truth.std() * truth  # what matching the spread alone would give
    assert (calibrated - truth).abs().mean() < 0.6 * (matched - truth).abs().mean()


def _corpus(noise, generator, samples=4000):
    truth = torch.rand(samples, generator=generator) * 6 - 3
    other = torch.where(torch.rand(samples, generator=generator) < 0.35, -truth, truth)
    labels = 0.4 * truth + 0.6 * other
    position = truth + noise * torch.randn(samples, generator=generator)
    fusion = labels + 0.3 * noise * torch.randn(samples, generator=generator)
    return truth, labels, position, fusion


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_generated_labels_are_nearer_to_the_truth_than_the_fused_label(noise):
    truth, labels, position, fusion = _corpus(noise, torch.Generator().manual_seed(3))
    generated = calibrated_labels(position, fusion, labels)
    assert (generated - truth).abs().mean() < (labels - truth).abs().mean()
    assert torch.corrcoef(torch.stack([generated, truth]))[0, 1] > torch.corrcoef(torch.stack([labels, truth]))[0, 1]


def test_a_modality_that_says_nothing_leaves_the_labels_alone():
    generator = torch.Generator().manual_seed(4)
    _, labels, _, fusion = _corpus(0.1, generator)
    position = torch.randn(len(labels), generator=generator)
    assert (calibrated_labels(position, fusion, labels) - labels).abs().mean() < 0.01
    constant = calibrated_labels(torch.ones_like(labels), fusion, labels)
    torch.testing.assert_close(constant, labels)


def test_a_model_that_knows_nothing_yet_leaves_the_labels_alone():
    generator = torch.Generator().manual_seed(5)
    _, labels, position, _ = _corpus(0.1, generator)
    untrained = torch.randn(len(labels), generator=generator)
    torch.testing.assert_close(calibrated_labels(position, untrained, labels), labels)


def test_what_the_model_has_got_wrong_as_a_whole_is_no_disagreement():
    """An error of the fusion that a modality shares moves no label; against the label it would look like one."""
    generator = torch.Generator().manual_seed(6)
    labels = torch.rand(3000, generator=generator) * 6 - 3
    shared = 0.8 * torch.randn(3000, generator=generator)
    own = torch.where(torch.rand(3000, generator=generator) < 0.3, -1.5 * labels.sign(), torch.zeros(3000))
    generated = calibrated_labels(labels + shared + own, labels + shared, labels)
    agree = own == 0
    moved = (generated - labels).abs()
    assert moved[agree].mean() < 0.25 * moved[~agree].mean()


def test_confidence_by_hand():
    labels = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    calibrated = torch.tensor([-1.0, 1.0, 1.0, 1.0])  # correlation 1/sqrt(3), mean squared difference 1
    fusion = torch.tensor([-1.0, 1.0, -1.0, 0.0])  # correlation 3/sqrt(11), mean squared difference 1/4
    assert confidence(calibrated, fusion, labels).item() == pytest.approx(1 / 3 * 9 / 11 * (1 - 0.25))
    assert confidence(-labels, fusion, labels).item() == 0.0
    assert confidence(labels, fusion, labels).item() == 0.0


@pytest.mark.parametrize("samples", [1, 2])
def test_tiny_sets_and_constant_labels(samples):
    labels = torch.ones(samples)
    torch.testing.assert_close(calibrated_labels(torch.arange(samples).float(), torch.ones(samples), labels), labels)


def test_a_device_without_float64_gets_the_same_labels():
    _, labels, position, fusion = _corpus(0.5, torch.Generator().manual_seed(3), samples=200)
    expected = calibrated_labels(position, fusion, labels)
    with NoFloat64():
        with pytest.raises(TypeError, match="float64"):
            labels.to(DEVICE).double()
        found = calibrated_labels(position.to(DEVICE), fusion.to(DEVICE), labels.to(DEVICE))
        assert found.device == DEVICE and float64_device(DEVICE).type == "cpu"
        assert torch.equal(found.cpu(), expected)
    assert float64_device(torch.device("cpu")).type == "cpu"
