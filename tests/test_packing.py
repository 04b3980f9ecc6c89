"""Texts in rows without padding: the same numbers and gradients, of every kind of encoder that can."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from selfmm_hf import SelfMMConfig, SelfMMModel
from selfmm_hf.model import packing_selfmm as packing
from selfmm_hf.model.packing_selfmm import AFTER_PADDING, BY_COLUMN, PackedTexts, by_length, is_plain

LENGTHS = [7, 1, 12, 3, 3, 9, 2]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 17,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "pad_token_id": 1,
}


def texts(left: bool = False, absent: int | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(-1)
    if absent is not None:
        mask[absent] = False
    mask = mask.flip(-1) if left else mask
    ids = torch.randint(5, 50, mask.shape).masked_fill(~mask, 1)
    return {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": (ids % 2) * mask}


def model_of(model_type: str, **options) -> SelfMMModel:
    torch.manual_seed(1)
    text_config = AutoConfig.for_model(model_type, **SIZES)
    return SelfMMModel(SelfMMConfig(text_config=text_config, modalities=["text"], **options))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("layer", [-1, "weighted"])
@pytest.mark.parametrize(
    ("model_type", "pooling"),
    [
        *((one, "cls") for one in [*sorted(BY_COLUMN | AFTER_PADDING), "mpnet", "distilbert"]),
        *((one, how) for one in ("bert", "roberta", "electra", "mpnet", "llama") for how in ("mean", "last")),
    ],
)
def test_what_avoids_padding_gives_what_padding_gives(model_type, pooling, layer, left, monkeypatch):
    model = model_of(model_type, text_pooling=pooling, text_layer=layer).eval()
    batch = texts(left=left, absent=4)
    monkeypatch.setattr(packing, "CLIPS_AT_ONCE", 3)
    seen = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))

    def losses_and_gradients():
        model.zero_grad()
        outputs = model(**batch, labels=torch.linspace(-3, 3, len(LENGTHS)))
        outputs.loss.backward()
        return outputs, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    spared, spared_gradients = losses_and_gradients()
    size, seen = sum(seen), []
    monkeypatch.setattr(packing, "may_look", lambda _: False)
    monkeypatch.setattr(packing, "is_plain", lambda _: False)
    padded, padded_gradients = losses_and_gradients()
    assert size < batch["input_ids"].numel() or (left and model_type not in BY_COLUMN | AFTER_PADDING)
    torch.testing.assert_close(spared.logits, padded.logits, rtol=1e-5, atol=1e-6)
    assert len(spared_gradients) == len(padded_gradients) > 10
    for one, other in zip(spared_gradients, padded_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_rows_hold_every_token_once_and_little_else():
    torch.manual_seed(2)
    lengths = torch.randint(1, 40, (64,))
    mask = torch.arange(40) < lengths.unsqueeze(-1)
    packed = PackedTexts.of(mask)
    assert packed.target.unique().numel() == packed.target.numel() == lengths.sum()
    assert packed.shape[0] * packed.shape[1] < 1.1 * lengths.sum()
    names = torch.arange(64).unsqueeze(-1).expand_as(mask)
    rows = packed.rows(names, -1)
    for clip, start in enumerate(packed.start.tolist()):
        assert (rows.view(-1)[start : start + lengths[clip]] == clip).all()
    seen = packed.attention_mask()[:, 0]
    assert torch.equal(seen, rows.unsqueeze(-1) == rows.unsqueeze(-2))


def test_only_what_is_known_is_packed():
    encoder = model_of("bert").encoders["text"]
    assert is_plain(encoder)
    encoder.config.is_decoder = True
    assert not is_plain(encoder)
    encoder.config.is_decoder = False
    encoder.set_attn_implementation("eager")
    assert not is_plain(encoder)
    assert not is_plain(model_of("mpnet").encoders["text"])  # knows of distances by the place in the row


class Renamed(nn.Module):
    """A layer that computes the same, by modules of other names."""

    def __init__(self, layer):
        super().__init__()
        self.attend, self.intermediate, self.output = layer.attention, layer.intermediate, layer.output

    def forward(self, hidden, attention_mask=None, *_, **__):
        hidden = self.attend(hidden, attention_mask)[0]
        return self.output(self.intermediate(hidden), hidden)


class Normalised(nn.Module):
    """A layer that computes something else, with one more module."""

    def __init__(self, layer):
        super().__init__()
        self.attention, self.intermediate, self.output = layer.attention, layer.intermediate, layer.output
        self.norm, self.layer = nn.LayerNorm(SIZES["hidden_size"], bias=False), [layer]

    def forward(self, hidden, attention_mask=None, *_, **__):
        return self.layer[0](self.norm(hidden) * 3, attention_mask)


class Tuple(nn.Module):
    """A layer as in transformers 4."""

    def __init__(self, layer):
        super().__init__()
        self.attention, self.intermediate, self.output = layer.attention, layer.intermediate, layer.output
        self.layer = [layer]

    def forward(self, hidden, attention_mask=None):
        return (self.layer[0](hidden, attention_mask),)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("changed", [Renamed, Normalised])
def test_a_layer_that_transformers_has_changed_is_called_as_it_is(changed, place):
    encoder = model_of("bert").encoders["text"].eval()
    encoder.encoder.layer[place] = changed(encoder.encoder.layer[place])
    batch = texts()
    with torch.no_grad():
        expected = encoder(**batch)[0][:, 0]
        assert not is_plain(encoder)
        torch.testing.assert_close(packing.read_texts(encoder, **batch), expected, rtol=1e-5, atol=1e-6)


def test_embeddings_that_transformers_has_changed_are_called_as_they_are():
    encoder = model_of("roberta").encoders["text"].eval()
    encoder.embeddings.scale = nn.Identity()
    assert not is_plain(encoder)


def test_layers_that_return_tuples_are_packed():
    encoder = model_of("bert").encoders["text"].eval()
    batch = texts()
    with torch.no_grad():
        expected = encoder(**batch)[0][:, 0]
        encoder.encoder.layer[0] = Tuple(encoder.encoder.layer[0])
        assert is_plain(encoder)
        torch.testing.assert_close(packing.read_texts(encoder, **batch), expected, rtol=1e-5, atol=1e-6)


def test_groups_of_similar_lengths_come_back_in_order(monkeypatch):
    monkeypatch.setattr(packing, "CLIPS_AT_ONCE", 2)
    groups = []

    def encode(clips: torch.Tensor, longest: int) -> torch.Tensor:
        groups.append((clips.tolist(), longest))
        return clips * 10.0

    assert by_length(torch.tensor([5, 1, 4, 2, 3]), encode).tolist() == [0, 10, 20, 30, 40]
    assert groups == [([1, 3], 2), ([4, 2], 4), ([0], 5)]
