"""Packed weights give the same numbers, and leave the model as it was."""

import pytest
import torch
from conftest import assert_same_outputs
from torch import nn

from selfmm_hf.training import packed_weights as module
from selfmm_hf.training.arguments import SelfMMTrainingArguments
from selfmm_hf.training.packed_weights import packed_weights
from selfmm_hf.training.trainer import SelfMMTrainer


@pytest.fixture
def layer():
    """One that can be packed here; where none can, there is nothing to test."""
    torch.manual_seed(0)
    layer = nn.Linear(300, 250)
    if not module._can_be_packed(layer):
        pytest.skip("PyTorch packs no weights on this processor")
    return layer


@pytest.fixture
def packs_all(layer, monkeypatch):
    monkeypatch.setattr(module, "WORTHWHILE", 1)


@pytest.mark.parametrize("shape", [(1,), (7, 1), (3, 40), (2100, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_products(layer, shape, bias):
    if not bias:
        layer.bias = None
    values = torch.randn(*shape, 300)
    with torch.no_grad():
        expected = layer(values)
        with packed_weights(nn.Sequential(layer)):
            assert layer.forward.func is module._linear
            for found in (layer(values), layer(input=values)):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert layer.forward == nn.Linear.forward.__get__(layer)


def test_what_cannot_be_packed_is_computed_as_ever(layer):
    small, own, double = nn.Linear(3, 4), type("Own", (nn.Linear,), {})(300, 250), nn.Linear(300, 250).double()
    model = nn.ModuleList([layer, small, own, double])
    values = torch.randn(2, 300)
    with packed_weights(model):
        assert ["forward" in one.__dict__ for one in model] == [True, False, False, False]
        layer(values).sum().backward()  # with gradients: by the weights themselves
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(values).dtype == torch.bfloat16
        layer.to(torch.bfloat16)  # after the weights were packed
        with torch.no_grad():
            assert layer(values.bfloat16()).dtype == torch.bfloat16
    assert layer.weight.grad.abs().sum() > 0


def test_an_error_leaves_nothing_behind(layer):
    with pytest.raises(RuntimeError, match="within"), packed_weights(layer):
        raise RuntimeError("within")
    assert "forward" not in layer.__dict__
    with torch.no_grad():
        layer.weight.zero_()
        assert torch.equal(layer(torch.ones(300)), layer.bias)


def test_the_trainer_evaluates_by_them_and_trains_without(packs_all, tiny_model, tiny_batch, tmp_path, monkeypatch):
    batch = tiny_batch(batch=3)
    samples = [
        {name: values[clip].numpy() for name, values in batch.items() if not name.endswith("_lengths")}
        | {"label": float(clip - 1)}
        for clip in range(3)
    ]
    products = []
    linear = module._linear
    monkeypatch.setattr(module, "_linear", lambda *inputs: products.append(1) or linear(*inputs))
    model = tiny_model()
    args = SelfMMTrainingArguments(tmp_path, use_cpu=True, num_train_epochs=2, disable_tqdm=True, report_to="none")
    trainer = SelfMMTrainer(model, args, train_dataset=samples, eval_dataset=samples)
    trainer.train()
    evaluated = len(products)
    assert evaluated > 0, "after each epoch"
    packed = trainer.predict(samples)
    assert len(products) == 1.5 * evaluated, "two evaluations in training, one prediction, and nothing else"
    monkeypatch.setattr(module, "_can_be_packed", lambda _: False)
    plain = trainer.predict(samples)
    assert len(products) == 1.5 * evaluated
    for found, expected in zip(packed.predictions[0], plain.predictions[0], strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


def test_a_model_within_says_the_same(packs_all, tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    with torch.no_grad():
        expected = model(**batch)
        with packed_weights(model):
            assert any("forward" in vars(one) for one in model.modules())
            assert_same_outputs(model(**batch), expected)


def test_where_nothing_can_be_packed_all_is_as_ever(tiny_model, tiny_batch, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr(module, "WORTHWHILE", 1)
    model, batch = tiny_model(), tiny_batch()
    expected = model(**batch)
    with packed_weights(model):
        assert not any("forward" in vars(one) for one in model.modules())
        assert_same_outputs(model(**batch), expected)


def test_what_others_have_put_in_place_of_a_layer_stays(layer):
    layer.forward = lambda values: values * 0
    with packed_weights(layer):
        assert (layer(torch.ones(3)) == 0).all()
    assert (layer(torch.ones(3)) == 0).all()


def test_packing_twice_is_packing_once(layer):
    values = torch.randn(2, 300)
    with torch.no_grad(), packed_weights(layer):
        expected = layer(values)
        with packed_weights(layer):
            assert torch.equal(layer(values), expected)
        assert layer.forward.func is module._linear
