"""Generated labels of emotions, classes and scores on scales of their own, in all conventions."""

import pytest
import torch

from selfmm_hf.labels.class_rule import as_classes, class_said
from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.labels.default_rule import calibrated_labels
from selfmm_hf.labels.pseudo_labels import PseudoLabels
from selfmm_hf.model.task_selfmm import Task

CLIPS, CLASSES, EPOCHS = 240, 4, 6
NAMES = ("neutral", "happy", "sad", "angry")
SINGLE, MULTI = Task(NAMES, "single_label_classification"), Task(NAMES, "multi_label_classification")
BY_CONVENTION = pytest.mark.parametrize("convention", CONVENTIONS)


def clips(seed=0, classes=CLASSES, share=0.3):
    """What each of three modalities says, (clips, 3), and the label: of a third of the clips, one modality differs."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (CLIPS,), generator=generator)
    said = label.unsqueeze(1).repeat(1, 3)
    odd = torch.rand(CLIPS, generator=generator) < share
    which = torch.randint(3, (CLIPS,), generator=generator)
    other = (label + torch.randint(1, classes, (CLIPS,), generator=generator)) % classes
    said[odd, which[odd]] = other[odd]
    return said, label


def positions_of(said, classes=CLASSES, noise=0.3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    hot = torch.nn.functional.one_hot(said, classes).float()
    return hot + noise * torch.randn(hot.shape, generator=generator)


def train(task, labels, said, convention, epochs=EPOCHS, noise=0.3, present=None):
    """A run whose representations are the classes that are said, with noise, from the first epoch on."""
    state = PseudoLabels(labels, {"fusion": 4, "text": 4, "audio": 4, "vision": 4}, CONVENTIONS[convention], task)
    generator = torch.Generator().manual_seed(2)
    for epoch in range(1, epochs + 1):
        features = {
            "fusion": said.float().mean(1),
            **dict(zip(("text", "audio", "vision"), said.unbind(1), strict=True)),
        }
        features = {
            name: one.float() + noise * torch.randn(one.shape, generator=generator) for name, one in features.items()
        }
        here = {name: torch.ones(len(labels), dtype=torch.bool) for name in ("text", "audio", "vision")}
        for index in torch.arange(len(labels)).split(60):
            batch = {name: one[index] for name, one in features.items()}
            state.update(index, batch, {name: one[index] for name, one in (present or here).items()}, epoch)
        state.end_epoch(epoch)
    return state


def hot(said):
    return torch.nn.functional.one_hot(said, CLASSES)


def wrong(labels, said):
    """How often the likeliest class is not what is said."""
    return (labels.argmax(-1) != said).float().mean().item()


def test_labels_come_nearer_to_what_each_modality_says():
    said, label = clips()
    state = train(SINGLE, label, hot(said), "default")
    for column, name in enumerate(("text", "audio", "vision")):
        before = wrong(state.labels["fusion"], said[:, column])
        by_epoch = [wrong(labels[:, column], said[:, column]) for labels in state.history]
        assert max(by_epoch) <= before and by_epoch[-1] < before, (name, before, by_epoch)
    assert (state.confidence[-1] > 0.1).all()


@BY_CONVENTION
@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=["classes", "emotions"])
def test_labels_stay_probabilities(task, convention):
    said, label = clips()
    labels = label if task is SINGLE else hot(label).float()
    present = {
        name: torch.rand(CLIPS, generator=torch.Generator().manual_seed(3)) < 0.8 for name in ("audio", "vision")
    }
    present["text"] = torch.ones(CLIPS, dtype=torch.bool)
    state = train(task, labels, hot(said), convention, present=present)
    for epoch in state.history:
        assert epoch.isfinite().all() and (epoch >= 0).all() and (epoch <= 1 + 1e-6).all()
        if task is SINGLE:
            torch.testing.assert_close(epoch.sum(-1), torch.ones(CLIPS, 3), atol=1e-5, rtol=0)
    weights = state.weights(torch.arange(CLIPS))["text"]
    assert weights.shape == (CLIPS, 1 if task is SINGLE else 4) and (weights >= 0).all() and (weights <= 1).all()


def test_the_order_of_the_classes_does_not_matter():
    said, label = clips()
    order = torch.tensor([2, 0, 3, 1])
    one = train(SINGLE, label, hot(said), "default")
    place = order.argsort()  # class 2 is called 0 now
    other = train(Task(tuple(NAMES[k] for k in order), SINGLE.problem_type), place[label], hot(said), "default")
    for name in ("text", "audio", "vision"):
        torch.testing.assert_close(other.labels[name], one.labels[name][:, order], atol=1e-6, rtol=0)


def test_two_classes_are_an_emotion_and_its_absence():
    said, label = clips(classes=2)
    said = hot(said)
    two = train(Task(("absent", "present"), SINGLE.problem_type), label, said, "default")
    one = train(Task(("present",), MULTI.problem_type), label.float(), said, "default")
    for name in ("text", "audio", "vision"):
        torch.testing.assert_close(two.labels[name][:, 1:], one.labels[name], atol=1e-6, rtol=0)
        assert not torch.equal(one.labels[name], one.labels["fusion"])
    torch.testing.assert_close(two.confidence[-1], one.confidence[-1], atol=1e-6, rtol=0)


@BY_CONVENTION
def test_a_class_that_no_clip_has_changes_nothing(convention):
    said, label = clips()
    without = train(SINGLE, label, hot(said), convention)
    empty = Task((*NAMES, "never"), SINGLE.problem_type)
    state = train(empty, label, hot(said), convention)
    for name in ("text", "audio", "vision"):
        assert state.labels[name].isfinite().all() and not state.labels[name][:, 4].any()
        if convention == "default":
            torch.testing.assert_close(state.labels[name][:, :4], without.labels[name], atol=1e-6, rtol=0)


@BY_CONVENTION
def test_one_class_for_all_clips_leaves_the_labels_alone(convention):
    said, _ = clips()
    state = train(SINGLE, torch.ones(CLIPS, dtype=torch.long), hot(said), convention)
    assert all(torch.equal(state.labels[name], state.labels["fusion"]) for name in ("text", "audio", "vision"))


@BY_CONVENTION
def test_a_scale_of_its_own_is_a_shifted_one(convention):
    """Ratings from 1 to 7 have no sign: their middle is what 0 is for sentiment."""
    said, label = clips()
    labels = torch.linspace(-3, 3, CLASSES)[label] + torch.rand(CLIPS, generator=torch.Generator().manual_seed(5)) - 0.5
    labels = labels.clamp(-3, 3)
    score = train(Task(), labels, hot(said), convention)
    rating = train(Task(("pleasure",), "regression", ((1.0, 7.0),)), labels + 4, hot(said), convention)
    index = torch.arange(CLIPS)
    for name in ("text", "audio", "vision"):
        torch.testing.assert_close(rating.labels[name] - 4, score.labels[name], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(rating.weights(index)[name], score.weights(index)[name], atol=1e-3, rtol=1e-3)


def test_targets_of_a_regression_do_not_mix():
    said, label = clips()
    labels = torch.stack([label.float() - 1.5, 5 - label.float()], dim=1)
    both = train(Task(("x", "y"), "regression", ((-2.0, 2.0), (1.0, 6.0))), labels, hot(said), "default")
    for column, scale in enumerate([(-2.0, 2.0), (1.0, 6.0)]):
        one = train(Task(("x",), "regression", (scale,)), labels[:, column], hot(said), "default")
        assert torch.equal(both.labels["text"][:, column], one.labels["text"][:, 0])


def test_classes_have_as_many_clips_as_by_the_labels():
    said, label = clips()
    found = as_classes(positions_of(said[:, 0], noise=0.8), hot(label))
    assert (found.sum(0) - hot(label).sum(0)).abs().max() <= 0.02 * CLIPS
    assert (found.sum(-1) == 1).all()


def test_a_clip_amid_another_class_says_that_one_and_one_between_classes_its_label():
    said, label = clips()
    position = positions_of(said[:, 0], noise=0.1)
    position[0], position[1] = torch.eye(CLASSES)[(label[0] + 1) % CLASSES], position.mean(0)
    found, apart = class_said(position, hot(label))
    assert apart > 0.9 and class_said(positions_of(said[:, 0], noise=0.6), hot(label))[1] < 0.2
    assert found[0].argmax() == (label[0] + 1) % CLASSES and found[0].max() > 0.99
    assert found[1].argmax() == label[1]
    torch.testing.assert_close(found.sum(-1), torch.ones(CLIPS).double())


def test_positions_without_meaning_leave_classes_alone():
    label = clips()[1]
    noise = torch.randn(CLIPS, 3, CLASSES, generator=torch.Generator().manual_seed(0))
    labels, trust = calibrated_labels(noise, noise.mean(1), hot(label))
    assert (trust < 0.05).all()
    assert all(wrong(labels[:, column], label) == 0 for column in range(3))


@BY_CONVENTION
@pytest.mark.parametrize("task", [SINGLE, MULTI, Task(("x", "y"))], ids=["classes", "emotions", "scores"])
def test_a_resumed_run_has_the_same_labels(task, convention):
    said, label = clips()
    labels = {SINGLE.problem_type: label, MULTI.problem_type: hot(label).float()}.get(
        task.problem_type, torch.stack([label - 1.5, 1.5 - label.float()], 1)
    )
    whole = train(task, labels, hot(said), convention)
    copy = PseudoLabels(labels, {"fusion": 4, "text": 4, "audio": 4, "vision": 4}, CONVENTIONS[convention], task)
    copy.load_state_dict({name: one.clone() for name, one in whole.state_dict().items()})
    for state in (whole, copy):
        index = torch.arange(60)
        features = {name: torch.ones(60, 4) for name in ("fusion", "text", "audio", "vision")}
        state.update(index, features, {}, EPOCHS + 1)
        state.end_epoch(EPOCHS + 1)
    assert all(torch.equal(whole.labels[name], copy.labels[name]) for name in whole.labels)
