import dataclasses

import pytest
import torch
from no_float64 import DEVICE, NoFloat64

from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.labels.loss_weights import loss_weights
from selfmm_hf.labels.pseudo_labels import LARGE, PseudoLabels, momentum, relative_distance, shifted_label
from selfmm_hf.model.task_selfmm import Task

DIMS = {"fusion": 7, "text": 5, "audio": 3, "vision": 4}
SAMPLES = 23


def features(generator, samples, dims=DIMS):
    return {task: torch.randn(samples, dim, generator=generator).relu() for task, dim in dims.items()}


def everywhere(index):
    return {task: torch.ones_like(index, dtype=torch.bool) for task in DIMS if task != "fusion"}


def labels(generator, samples=SAMPLES, targets=1):
    return (torch.rand(samples, targets, generator=generator) * 30 - 15).round() / 5  # steps of 0.2, some exactly 0


def train(state, epochs, seed=0, batch=4, present=everywhere):
    """Feeds `epochs` of random representations, in a new order each epoch."""
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        for index in torch.randperm(len(state.labels["fusion"]), generator=generator).split(batch):
            state.update(index, features(generator, len(index)), present(index), epoch)
        state.end_epoch(epoch)


def recomputed_centres(state, task):
    """Class means over the whole store, the way the official code recomputes them at every step."""
    y, store = state.labels[task], state._features[task].double()
    positive = y >= 0 if state.convention.zero_is_positive else y > 0
    counted = state._counted[task].unsqueeze(1)
    return torch.stack(
        [
            torch.stack([store[(member & counted)[:, target]].mean(0) for target in range(y.shape[1])])
            for member in (positive, y < 0)
        ]
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("targets", [1, 2])
def test_running_centres_equal_a_full_recomputation_without_drift(convention, targets):
    state = PseudoLabels(
        labels(torch.Generator().manual_seed(1), targets=targets),
        DIMS,
        CONVENTIONS[convention],
        Task(("x", "y")[:targets]),
    )
    train(state, epochs=60)  # 360 updates
    for task in DIMS:
        torch.testing.assert_close(
            state.centres(task).double(), recomputed_centres(state, task), rtol=1e-6, atol=1e-7, msg=task
        )


def test_half_precision_moves_no_label_by_a_thousandth():
    """On representations that tell of the labels, so that there is something to move."""
    generator = torch.Generator().manual_seed(4)
    dims = {"fusion": 32, "text": 24, "audio": 16, "vision": 16}
    y = labels(generator, LARGE)
    directions = {task: torch.randn(dim, generator=generator) for task, dim in dims.items()}
    states = [PseudoLabels(y, dims, CONVENTIONS["default"], Task()) for _ in range(2)]
    exact, half = states
    assert all(values.dtype == torch.float16 for values in half._features.values())
    exact._features = {task: values.double() for task, values in exact._features.items()}
    for epoch in range(1, 5):
        for index in torch.randperm(LARGE, generator=generator).split(10_000):
            batch = {
                task: (y[index] * line + torch.randn(len(index), len(line), generator=generator) * 3).relu()
                for task, line in directions.items()
            }
            for state in states:
                state.update(index, batch, everywhere(index), epoch)
        for state in states:
            state.end_epoch(epoch)
    true, found = (torch.stack([state.labels[task] for task in state.modalities]) for state in states)
    assert (true - y).abs().mean() > 0.05
    assert 0 < (found - true).abs().max() < 1e-3


def test_official_centres_count_unseen_samples_as_zeros():
    y = torch.tensor([1.0, 2.0, 0.0, -1.0])
    official = PseudoLabels(y, DIMS, CONVENTIONS["official"], Task())
    index = torch.tensor([0, 3])
    given = {task: torch.ones(2, dim) for task, dim in DIMS.items()}
    official.update(index, given, everywhere(index), epoch=1)
    assert official.centres("text")[:, 0, 0].tolist() == pytest.approx([1 / 3, 1.0])  # 0 counts as positive
    ours = PseudoLabels(y, DIMS, CONVENTIONS["default"], Task())
    ours.update(index, given, everywhere(index), epoch=1)
    assert ours.centres("text")[:, 0, 0].tolist() == [1.0, 1.0]


def test_relative_distance_by_hand():
    centres = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])  # positive, negative
    at = torch.tensor([[0.0, 4.0]])  # 3 from the positive, 4 from the negative
    assert relative_distance(at, centres, squared=False).item() == pytest.approx((4 - 3) / 3)
    # 9 / sqrt(2) and 16 / sqrt(2): the scale cancels out
    assert relative_distance(at, centres, squared=True).item() == pytest.approx((16 - 9) / 9)


def test_shifted_label_momentum_and_weights_by_hand():
    y, alpha_s, alpha_m = torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([0.8])
    new = shifted_label(y, alpha_s, alpha_m, eps=0.0)
    assert new.item() == pytest.approx(2.0 * 0.5 / (2 * 0.8) + (2.0 + 0.5 - 0.8) / 2)
    assert new.item() == pytest.approx(2.0 + (0.5 - 0.8) / 2 * (2.0 + 0.8) / 0.8)  # the paper's second form
    assert momentum(torch.tensor(1.0), torch.tensor(4.0), epoch=2).item() == pytest.approx(1 / 3 + 2 / 3 * 4)
    assert momentum(torch.tensor(1.0), torch.tensor(4.0), epoch=5).item() == pytest.approx(4 / 6 + 2 / 6 * 4)
    assert momentum(torch.tensor(1.0), torch.tensor(4.0), epoch=5, least_step=0.5).item() == pytest.approx(
        1 / 2 + 4 / 2
    )
    weights = loss_weights(torch.tensor([0.0, 0.5]), at_agreement=0.25)
    assert weights.tolist() == pytest.approx([0.25, 0.25 + 0.75 * torch.tensor(0.5).tanh().item()])


def test_labels_keep_up_with_a_modality_that_is_learned_late():
    """By the paper's momentum alone, twenty epochs with nothing to say count a quarter at the end."""
    generator = torch.Generator().manual_seed(3)
    said = torch.randn(600, 3, generator=generator) / 3 + torch.randn(600, 1, generator=generator)
    said[:, 1] *= torch.where(torch.rand(600, generator=generator) < 0.3, -1, 1)  # the voice contradicts
    y, index, dims = said.mean(1).clamp(-3, 3), torch.arange(600), {"fusion": 1, "text": 1, "audio": 1, "vision": 1}
    nothing = torch.randn(600, 4, 1, generator=generator)
    learned = torch.cat([y[:, None], said], dim=1)[..., None]
    away = {}
    for name, convention in {
        "default": CONVENTIONS["default"],
        "paper's momentum": dataclasses.replace(CONVENTIONS["default"], least_step=0.0),
        "none": dataclasses.replace(CONVENTIONS["default"], momentum=False),
    }.items():
        state = PseudoLabels(y, dims, convention, Task())
        for epoch in range(1, 41):
            given = dict(zip(dims, (nothing if epoch <= 20 else learned).unbind(1), strict=True))
            state.update(index, given, everywhere(index), epoch)
            state.end_epoch(epoch)
        away[name] = (state.labels["audio"][:, 0] - said[:, 1]).abs().mean().item()
    assert away["default"] < 1.2 * away["none"]
    assert away["paper's momentum"] > 1.5 * away["none"]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_labels_move_from_the_second_epoch_on(convention):
    y = labels(torch.Generator().manual_seed(2))
    state = PseudoLabels(y, DIMS, CONVENTIONS[convention], Task())
    train(state, epochs=1)
    assert all(torch.equal(values, y) for values in state.labels.values())
    # Representations that carry the sentiment, of which every convention makes something new.
    generator = torch.Generator().manual_seed(3)
    for epoch in (2, 3):
        for index in torch.arange(SAMPLES).split(4):
            given = {task: (y[index] + torch.randn(len(index), dim, generator=generator)) for task, dim in DIMS.items()}
            given["fusion"] = y[index] + torch.zeros(len(index), DIMS["fusion"])
            state.update(index, given, everywhere(index), epoch)
        state.end_epoch(epoch)
    assert torch.equal(state.labels["fusion"], y)
    assert all(not torch.equal(state.labels[task], y) for task in state.modalities)
    assert torch.stack(state.history).shape == (3, SAMPLES, 3, 1)


@pytest.mark.parametrize("convention", ["default", "official"])
def test_labels_stay_in_the_range(convention):
    state = PseudoLabels(labels(torch.Generator().manual_seed(4)), DIMS, CONVENTIONS[convention], Task())
    train(state, epochs=20)
    assert all(values.abs().max() <= 3.0 + 1e-6 for values in state.labels.values())  # momentum rounds


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("y", [torch.full((9,), 1.0), torch.zeros(9), torch.full((9,), -2.0)])
def test_an_empty_class_gives_no_nan(convention, y):
    state = PseudoLabels(y, DIMS, CONVENTIONS[convention], Task())
    train(state, epochs=4)
    assert all(values.isfinite().all() for values in state.labels.values())
    assert all(weights.isfinite().all() for weights in state.weights(torch.arange(9)).values())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_alpha_m_of_zero_and_equal_representations_give_no_nan(convention):
    state = PseudoLabels(labels(torch.Generator().manual_seed(5)), DIMS, CONVENTIONS[convention], Task())
    index = torch.arange(SAMPLES)
    same = {task: torch.ones(SAMPLES, dim) for task, dim in DIMS.items()}
    for epoch in (1, 2, 3):
        state.update(index, same, everywhere(index), epoch)
        state.end_epoch(epoch)
    assert all(values.isfinite().all() for values in state.labels.values())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_sample_that_is_not_finite_spoils_nothing_else(convention):
    y = labels(torch.Generator().manual_seed(6))
    state = PseudoLabels(y, DIMS, CONVENTIONS[convention], Task())
    generator = torch.Generator().manual_seed(7)
    for epoch in (1, 2, 3):
        given = features(generator, SAMPLES)
        if epoch == 2:
            given["audio"][3] = torch.nan
        state.update(torch.arange(SAMPLES), given, everywhere(torch.arange(SAMPLES)), epoch)
        state.end_epoch(epoch)
    assert all(state.centres(task).isfinite().all() for task in DIMS)
    assert all(values.isfinite().all() for values in state.labels.values())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_absent_modality_keeps_its_label_and_is_in_no_centre(convention):
    y = labels(torch.Generator().manual_seed(8))
    state = PseudoLabels(y, DIMS, CONVENTIONS[convention], Task())

    def some_without_audio(index):
        return {**everywhere(index), "audio": index % 3 > 0}

    train(state, epochs=5, present=some_without_audio)
    without = torch.arange(SAMPLES) % 3 == 0
    assert torch.equal(state.labels["audio"][without], y[without])
    assert not torch.equal(state.labels["text"][without], y[without]) or convention == "default"
    torch.testing.assert_close(
        state.centres("audio").double(), recomputed_centres(state, "audio"), rtol=1e-6, atol=1e-7
    )


def test_state_survives_a_checkpoint():
    y = labels(torch.Generator().manual_seed(9))
    whole = PseudoLabels(y, DIMS, CONVENTIONS["default"], Task())
    train(whole, epochs=3, seed=1)
    copy = PseudoLabels(y, DIMS, CONVENTIONS["default"], Task())
    copy.load_state_dict({name: value.clone() for name, value in whole.state_dict().items()})
    for state in (whole, copy):
        generator = torch.Generator().manual_seed(11)
        state.update(torch.arange(5), features(generator, 5), everywhere(torch.arange(5)), 4)
        state.end_epoch(4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, copy.state_dict()[name]), name


def test_a_state_of_another_training_set_is_refused():
    y = labels(torch.Generator().manual_seed(10))
    state = PseudoLabels(y, DIMS, CONVENTIONS["default"], Task()).state_dict()
    other = PseudoLabels(y[:-1], DIMS, CONVENTIONS["default"], Task())
    with pytest.raises(ValueError, match="another training set"):
        other.load_state_dict(state)


def test_a_state_of_another_convention_is_refused_and_one_that_does_not_know_its_own_is_not():
    y = labels(torch.Generator().manual_seed(10))
    of = {name: PseudoLabels(y, DIMS, convention, Task()) for name, convention in CONVENTIONS.items()}
    for name, state in of.items():
        train(state, epochs=2)
        known = state.state_dict()
        for other in set(CONVENTIONS) - {name}:
            with pytest.raises(ValueError, match=r"from another convention \(distance, .*\): resume with that of"):
                PseudoLabels(y, DIMS, CONVENTIONS[other], Task()).load_state_dict(known)
        before = {key: value for key, value in known.items() if not key.startswith("convention.")}
        PseudoLabels(y, DIMS, CONVENTIONS[name], Task()).load_state_dict(before)
        if name == "default":
            with pytest.raises(ValueError, match=r"from another convention \(distance\)"):
                of["paper"].load_state_dict(before)
    changed = dataclasses.replace(CONVENTIONS["default"], agreement_weight=1.0)
    with pytest.raises(ValueError, match=r"another convention \(agreement_weight\)"):
        of["default"].load_state_dict(PseudoLabels(y, DIMS, changed, Task()).state_dict())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_labels_must_be_finite(bad):
    with pytest.raises(ValueError, match="training sample 2 is not"):
        PseudoLabels(torch.tensor([1.0, -1.0, bad]), DIMS, CONVENTIONS["default"], Task())


def test_conventions_differ_where_the_table_says():
    official, paper = (dataclasses.asdict(CONVENTIONS[name]) for name in ("official", "paper"))
    assert {name for name in official if official[name] != paper[name]} == {
        "distance",
        "zero_is_positive",
        "unseen_in_centres",
        "clamp",
        "sum_accumulated",
        "mean_of_batch_means",
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"least_step": 1.5}, r"least_step must be in \[0, 1\], got 1.5"),
        ({"least_step": float("nan")}, "least_step .*, got nan"),
        ({"agreement_weight": -1.0}, r"agreement_weight must be in \[0, 1\], got -1.0"),
        ({"distance": "axes"}, "distance must be one of .*'euclidean'.*, got 'axes'"),
    ],
)
def test_a_convention_of_values_that_mean_nothing_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONVENTIONS["default"], **wrong)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_device_without_float64_leaves_the_same_state(convention):
    y, index = labels(torch.Generator().manual_seed(1)), torch.tensor([0, 5, 7])
    expected = PseudoLabels(y, DIMS, CONVENTIONS[convention], Task())
    train(expected, epochs=4)
    with NoFloat64():
        found = PseudoLabels(y.to(DEVICE), DIMS, CONVENTIONS[convention], Task())
        update = found.update

        def on_device(rows, representations, present, epoch):
            moved = ({task: value.to(DEVICE) for task, value in one.items()} for one in (representations, present))
            update(rows.to(DEVICE), *moved, epoch)

        found.update = on_device
        train(found, epochs=4)
        asked = [found.targets(index.to(DEVICE)), found.weights(index.to(DEVICE))]
        assert all(value.device == DEVICE for one in asked for value in one.values())
        assert found.seen(index.to(DEVICE), 4).cpu().all() and found.centres("text").dtype == torch.float32
        for values, true in zip(asked, (expected.targets(index), expected.weights(index)), strict=True):
            assert all(torch.equal(values[task].cpu(), true[task]) for task in true)
    state = found.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())


def test_weights_of_the_default_do_not_depend_on_the_label_range():
    """CH-SIMS's labels lie in [-1, 1]; in label units, `W_s` of its clips would be a third of MOSI's."""
    y = labels(torch.Generator().manual_seed(5))
    index = torch.arange(len(y))
    for name, same in (("default", True), ("official", False)):
        wide, narrow = (
            PseudoLabels(y / unit, DIMS, CONVENTIONS[name], Task(scales=((-3.0 / unit, 3.0 / unit),)))
            for unit in (1, 3)
        )
        for state, unit in ((wide, 1), (narrow, 3)):
            state.labels["text"].sub_(0.6 / unit)
        assert torch.allclose(wide.weights(index)["text"], narrow.weights(index)["text"]) == same


def test_confidence_of_each_epoch_is_kept_and_survives_a_checkpoint():
    state = PseudoLabels(labels(torch.Generator().manual_seed(6)), DIMS, CONVENTIONS["default"], Task())
    train(state, epochs=3)
    assert [one.shape for one in state.confidence] == [(3, 1)] * 3
    assert not state.confidence[0].any()
    again = PseudoLabels(state.labels["fusion"], DIMS, CONVENTIONS["default"], Task())
    again.load_state_dict(state.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(again.confidence, state.confidence, strict=True))


def test_labels_of_an_earlier_default_rule_are_refused_and_those_of_other_conventions_are_not():
    """The first rules had no number in the state, and before 29 November 2026, no confidence was kept."""
    y = labels(torch.Generator().manual_seed(6))
    for convention in CONVENTIONS:
        state, again = (PseudoLabels(y, DIMS, CONVENTIONS[convention], Task()) for _ in range(2))
        train(state, epochs=2)
        before = {name: value for name, value in state.state_dict().items() if name not in ("confidence", "rule")}
        if convention == "default":
            for earlier in (before, state.state_dict() | {"rule": torch.tensor(2)}):
                with pytest.raises(ValueError, match="another rule"):
                    again.load_state_dict(earlier)
        else:
            again.load_state_dict(before)
            assert state.confidence == again.confidence == [] and len(again.history) == 2
