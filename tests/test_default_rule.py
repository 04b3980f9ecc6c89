import pytest
import torch
from no_float64 import DEVICE, NoFloat64

from selfmm_hf.labels import default_rule
from selfmm_hf.labels.default_rule import axis_position, float64_device
from selfmm_hf.labels.label_scale import on_label_scale


def calibrated_labels(positions, fusion, labels):
    """Of one target of a regression, without its dimension."""
    generated, trust = default_rule.calibrated_labels(*(one.unsqueeze(-1) for one in (positions, fusion, labels)))
    return generated.squeeze(-1), trust


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
    torch.testing.assert_close(on_label_scale((labels * 0.7).exp(), labels).float(), labels, atol=1e-5, rtol=0)


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


WEIGHTS = torch.tensor([0.5, 0.25, 0.25])


def _corpus(noise, seed=0, samples=4000, flipped=0.5, silent=()):
    """What three modalities say, the label that follows from it, and positions that tell it with noise."""
    generator = torch.Generator().manual_seed(seed)
    sentiment = 1.2 * torch.randn(samples, 1, generator=generator)
    against = torch.rand(samples, 1, generator=generator) < flipped
    which = torch.randint(3, (samples, 1), generator=generator)
    sign = torch.where(against & (which == torch.arange(3)), -1.0, 1.0)
    truth = (sign * (sentiment + 0.3 * torch.randn(samples, 3, generator=generator))).clamp(-3, 3)
    labels = truth @ WEIGHTS
    positions = truth + noise * torch.randn(samples, 3, generator=generator)
    for modality in silent:
        positions[:, modality] = torch.randn(samples, generator=generator)
    fusion = positions @ WEIGHTS + 0.05 * torch.randn(samples, generator=generator)
    return truth, labels, positions, fusion


def _correlation(one, other):
    return torch.corrcoef(torch.stack([one, other]))[0, 1]


@pytest.mark.parametrize("noise", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("flipped", [0.2, 0.5, 0.9])
def test_generated_labels_are_nearer_to_the_truth_than_the_fused_label(noise, flipped):
    truth, labels, positions, fusion = _corpus(noise, flipped=flipped)
    generated, _ = calibrated_labels(positions, fusion, labels)
    for modality in range(3):
        found, true = generated[:, modality], truth[:, modality]
        assert (found - true).abs().mean() < (labels - true).abs().mean() + 1e-3
        assert _correlation(found, true) > _correlation(labels, true) - 1e-3


def test_where_modalities_disagree_much_the_labels_are_nearly_what_they_say():
    """Squared correlations with `y_m`, .1 for the weaker ones here, once took this disagreement for noise."""
    truth, labels, positions, fusion = _corpus(0.3, flipped=0.9)
    generated, trust = calibrated_labels(positions, fusion, labels)
    assert trust.min() > 0.8
    assert min(_correlation(generated[:, k], truth[:, k]) for k in range(3)) > 0.9
    assert max(_correlation(labels, truth[:, k]) for k in (1, 2)) < 0.5


@pytest.mark.parametrize("noise", [0.2, 0.6, 1.2])
def test_noisy_copies_of_the_label_leave_it_alone(noise):
    """Nothing disagrees here: all that a modality differs from the label by is noise."""
    generator = torch.Generator().manual_seed(1)
    labels = 1.3 * torch.randn(20_000, generator=generator)
    positions = labels.unsqueeze(1) + noise * torch.tensor([1.0, 0.7, 1.5]) * torch.randn(
        20_000, 3, generator=generator
    )
    generated, trust = calibrated_labels(positions, positions.mean(1), labels)
    assert trust.max() < 0.1
    assert (generated - labels.unsqueeze(1)).abs().mean() < 0.03


def test_a_modality_that_says_nothing_leaves_its_labels_alone():
    _, labels, positions, fusion = _corpus(0.3, silent=[1])
    generated, trust = calibrated_labels(positions, fusion, labels)
    assert trust[1] < 0.02 < trust[0]
    assert (generated[:, 1] - labels).abs().mean() < 0.02
    positions[:, 1] = 7.0  # one position for all clips
    generated, trust = calibrated_labels(positions, fusion, labels)
    assert generated[:, 1].isnan().all() and trust[1] == 0 and trust[0] > 0.3


def test_a_model_that_knows_nothing_yet_leaves_the_labels_alone():
    _, labels, positions, fusion = _corpus(0.3, silent=[0, 1, 2])
    generated, trust = calibrated_labels(positions, fusion, labels)
    assert trust.max() < 0.02
    assert (generated - labels.unsqueeze(1)).abs().mean() < 0.02


def test_one_modality_alone_has_nothing_to_disagree_with():
    _, labels, positions, _ = _corpus(0.3)
    generated, trust = calibrated_labels(positions[:, :1], positions[:, 0], labels)
    assert trust.item() == 0 and torch.equal(generated[:, 0], labels)


def test_positions_are_spread_where_disagreement_has_narrowed_the_label():
    truth, labels, positions, fusion = _corpus(0.05, flipped=0.9)
    generated, _ = calibrated_labels(positions, fusion, labels)
    assert labels.std() / truth[:, 1].std() < 0.75
    assert generated[:, 1].std() / truth[:, 1].std() == pytest.approx(1, abs=0.15)


def test_labels_on_another_scale_are_the_same_labels():
    _, labels, positions, fusion = (one.double() for one in _corpus(0.4))
    positions[::7, 2] = torch.nan
    generated, trust = calibrated_labels(positions, fusion, labels)
    scaled, same = calibrated_labels(11 * positions - 4, 0.1 * fusion + 3, labels / 3 + 5)
    torch.testing.assert_close(same, trust, atol=1e-6, rtol=0)
    torch.testing.assert_close(3 * (scaled - 5), generated, atol=1e-6, rtol=0, equal_nan=True)


def test_the_order_of_the_modalities_does_not_matter():
    _, labels, positions, fusion = _corpus(0.4)
    generated, trust = calibrated_labels(positions, fusion, labels)
    turned, same = calibrated_labels(positions[:, [2, 0, 1]], fusion, labels)
    torch.testing.assert_close(turned[:, [1, 2, 0]], generated)
    torch.testing.assert_close(same[[1, 2, 0]], trust)


def test_clips_without_a_modality_take_part_in_the_others():
    truth, labels, positions, fusion = _corpus(0.3)
    absent = torch.rand(len(labels), 3, generator=torch.Generator().manual_seed(2)) < 0.3
    positions[absent] = torch.nan
    generated, _ = calibrated_labels(positions, fusion, labels)
    assert torch.equal(generated.isnan(), absent)
    for modality in range(3):
        there = ~absent[:, modality]
        found, true, fused = generated[there, modality], truth[there, modality], labels[there]
        assert (found - true).abs().mean() < (fused - true).abs().mean()


def test_a_modality_that_hardly_any_clip_has_does_not_keep_the_others_from_their_labels():
    _, labels, positions, fusion = _corpus(0.3)
    rare = torch.cat([positions, torch.full_like(positions[:, :1], torch.nan)], 1)
    rare[:5, 3] = torch.arange(5.0)
    generated, trust = calibrated_labels(rare, fusion, labels)
    expected, same = calibrated_labels(positions, fusion, labels)
    assert torch.equal(trust[:3], same) and torch.equal(generated[:, :3], expected)
    assert trust[3] == 0 and torch.equal(generated[:5, 3], labels[:5])


def test_modalities_that_no_clip_has_together_leave_the_labels_alone_but_for_the_most_frequent_ones():
    _, labels, positions, fusion = _corpus(0.3)
    positions[: len(labels) // 3, 0] = torch.nan
    positions[len(labels) // 3 :, 1] = torch.nan
    generated, trust = calibrated_labels(positions, fusion, labels)
    assert trust[1] == 0 < trust[0] and torch.equal(generated[: len(labels) // 3, 1], labels[: len(labels) // 3])


def test_modalities_that_say_the_same_share_the_weight():
    _, labels, positions, fusion = _corpus(0.3)
    twice = positions[:, [0, 1, 2, 1]]
    generated, trust = calibrated_labels(twice, fusion, labels)
    assert trust.isfinite().all() and torch.equal(generated[:, 1], generated[:, 3])


@pytest.mark.parametrize("samples", [1, 2, 10])
def test_tiny_sets_and_constant_labels(samples):
    labels = torch.ones(samples)
    positions = torch.arange(3.0 * samples).view(samples, 3)
    generated, trust = calibrated_labels(positions, torch.arange(samples).float(), labels)
    assert trust.tolist() == [0, 0, 0]
    kept = generated if samples > 1 else generated.nan_to_num(1.0)
    torch.testing.assert_close(kept, labels.unsqueeze(1).expand(-1, 3))


def test_a_modality_that_repeats_the_label_leaves_the_noise_of_another_alone():
    _, labels, positions, fusion = _corpus(0.3, samples=300, silent=[2])
    positions[:, 0] = labels
    for unit in (1, 3, 7, 11):
        generated, trust = calibrated_labels(positions, fusion, labels.double() / unit + 5)
        assert trust[0] == 0 and trust[2] < 0.1
        assert (unit * (generated[:, 2] - 5) - labels).abs().max() < 0.3


def test_labels_need_no_cumulative_sum_of_floats(monkeypatch):
    """It is not deterministic on a GPU: `torch.use_deterministic_algorithms` refuses it there."""
    cumsum, summed = torch.Tensor.cumsum, []
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda self, dim: summed.append(self.dtype) or cumsum(self, dim))
    _, labels, positions, fusion = _corpus(0.3, samples=100)
    calibrated_labels(positions, fusion, labels)
    assert set(summed) == {torch.int64}


def test_a_device_without_float64_gets_the_same_labels():
    _, labels, positions, fusion = _corpus(0.5, samples=200)
    expected, trust = calibrated_labels(positions, fusion, labels)
    with NoFloat64():
        with pytest.raises(TypeError, match="float64"):
            labels.to(DEVICE).double()
        found, same = calibrated_labels(positions.to(DEVICE), fusion.to(DEVICE), labels.to(DEVICE))
        assert found.device == same.device == DEVICE and float64_device(DEVICE).type == "cpu"
        assert torch.equal(found.cpu(), expected) and torch.equal(same.cpu(), trust)
    assert float64_device(torch.device("cpu")).type == "cpu"
