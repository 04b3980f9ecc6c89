import math

import pytest
import torch

from selfmm_hf.labels.label_scale import on_label_scale
from selfmm_hf.labels.noise import least_squares_weights, noise_in_centre, noise_in_errors


def test_noise_in_the_errors_by_hand():
    # Two modalities, y_m = (t_1 + t_2) / 2, var(t) = 1, corr(t_1, t_2) = 0, noise of variance 1/4; fusion: mean.
    covariance = torch.tensor(
        [
            [1.25, 0.0, 0.625, 0.5],
            [0.0, 1.25, 0.625, 0.5],
            [0.625, 0.625, 0.625, 0.5],
            [0.5, 0.5, 0.5, 0.5],
        ],
        dtype=torch.float64,
    )
    assert least_squares_weights(covariance).tolist() == pytest.approx([0.4, 0.4])
    error = 0.5 - 2 * 0.4 * 0.5  # of the least-squares prediction
    shared = 0.625 - 0.5 - 0.5 + 0.5  # Cov(q - y_m, q_m - y_m): half the noise, as the weight is one half
    explained = 0.5**2 / (1.25 * 0.5)
    copies = 0.5 / (1 + 2 * explained / (1 - explained))
    noise = error / copies * (shared + error) / (0.4 + 0.4)  # the fusion's weights, 1/2, count as the best ones, .4
    difference = 1.25 - 2 * 0.5 + 0.5
    assert noise_in_errors(covariance).tolist() == pytest.approx([noise / difference] * 2)
    covariance[:2, 2] = covariance[2, :2] = 0.25  # as if the fusion's weights were 1/5
    shared = 0.25 - 0.5 - 0.5 + 0.5
    assert shared < 0  # counts as 0: a fusion that uses too little of the modalities tells nothing of their noise
    noise = error / copies * error / (0.4 + 0.2)
    assert noise_in_errors(covariance).tolist() == pytest.approx([noise / difference] * 2)


def test_few_clips_lower_the_weights_and_raise_the_covariance_by_two_standard_errors():
    covariance = torch.tensor(
        [[1.25, 0.0, 0.6, 0.5], [0.0, 1.25, 0.6, 0.5], [0.6, 0.6, 0.6, 0.5], [0.5, 0.5, 0.5, 0.5]]
    )
    error = 0.5 - 2 * 0.4 * 0.5
    lowered = 0.4 - 2 * (error / 1.25 / 100) ** 0.5  # least squares: a weight has the variance error / variance / clips
    shared = 0.6 - 0.5 - 0.5 + 0.5
    raised = shared + 2 * ((1.25 - 2 * 0.5 + 0.5) * (0.6 - 2 * 0.5 + 0.5) / 100) ** 0.5
    many, few = noise_in_errors(covariance).tolist(), noise_in_errors(covariance, 100).tolist()
    assert few == pytest.approx([one * 0.4 / lowered * (raised + error) / (shared + error) for one in many], rel=1e-5)
    assert noise_in_errors(covariance, 1).tolist() == [1, 1]


@pytest.mark.parametrize("clips", [50, math.inf])
def test_next_to_a_modality_that_repeats_the_label_all_is_noise(clips):
    """Weights and errors are only rounding there. Their quotients once made the rule believe a modality of noise."""
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        labels, *positions = torch.randn(3, 50, generator=generator, dtype=torch.float64)
        labels = (labels / 3 + 5).round(decimals=seed % 3)
        noise = [on_label_scale(one.unsqueeze(1), labels.unsqueeze(1)).squeeze(1) for one in positions]
        for fusion in (labels, (labels + noise[0]) / 2):
            covariance = torch.stack([noise[0], labels, noise[1], fusion, labels]).cov()
            assert noise_in_errors(covariance, clips).tolist() == [1, 1, 1]


LABELS = {
    "normal": lambda x: x,
    "clipped": lambda x: (2 * x).clamp(-3, 3),
    "one-sided": lambda x: (x + 1.5).clamp(-3, 3),
    "in steps": lambda x: x.round(),
    "many of 0": lambda x: torch.where(x.abs() < 0.7, 0.0, x),
}


def _copy(labels, noise, generator):
    position = labels + noise * labels.std() * torch.randn(len(labels), generator=generator, dtype=labels.dtype)
    return on_label_scale(position.unsqueeze(1), labels.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("noise", [0.2, 0.7, 2.0, 10.0])
def test_differences_of_a_noisy_copy_are_all_noise(kind, noise):
    generator = torch.Generator().manual_seed(0)
    labels = LABELS[kind](torch.randn(4000, generator=generator, dtype=torch.float64))
    assert noise_in_centre(_copy(labels, noise, generator), labels) > 0.85


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("contradicted", [0.1, 0.3])
def test_where_some_clips_are_contradicted_the_centre_tells_the_noise_of_the_others(kind, contradicted):
    generator = torch.Generator().manual_seed(0)
    labels = LABELS[kind](torch.randn(4000, generator=generator, dtype=torch.float64))
    against = torch.rand(4000, generator=generator) < contradicted
    position = torch.where(against, -labels, labels) + 0.3 * labels.std() * torch.randn(4000, generator=generator)
    calibrated = on_label_scale(position.unsqueeze(1), labels.unsqueeze(1)).squeeze(1)
    square = (calibrated - labels).square()
    true = (square[~against].mean() / square.mean().minimum(labels.var())).item()
    assert true - 0.02 < noise_in_centre(calibrated, labels) < (true + 1) / 2 + 0.05


def test_a_modality_of_noise_alone_is_not_believed_whatever_the_size_of_the_set():
    for clips in (20, 60, 200, 1000):
        believed = []
        for seed in range(50):
            generator = torch.Generator().manual_seed(seed)
            labels, position = torch.randn(2, clips, generator=generator, dtype=torch.float64)
            calibrated = on_label_scale(position.unsqueeze(1), labels.unsqueeze(1)).squeeze(1)
            believed.append(1 - noise_in_centre(calibrated, labels).item())
        assert max(believed) < 0.1 and sum(believed) / len(believed) < 0.01


def test_the_unit_of_the_labels_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randn(300, generator=generator, dtype=torch.float64)
    calibrated = _copy(labels * torch.where(torch.rand(300, generator=generator) < 0.3, -1, 1), 0.3, generator)
    share = noise_in_centre(calibrated, labels)
    assert 0.05 < share < 0.9
    assert noise_in_centre(calibrated / 7 + 5, labels / 7 + 5).item() == pytest.approx(share.item(), abs=1e-6)
