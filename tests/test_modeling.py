import copy
import json

import pytest
import torch
from conftest import assert_same_outputs, tiny_text_config
from torch import nn
from transformers import AutoConfig, AutoModel, BertModel

from selfmm_hf import SelfMMConfig, SelfMMModel, multitask_loss

COMMON = dict(
    vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37,
    max_position_embeddings=19, initializer_range=0.2,
)  # fmt: skip
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
TEXT_CONFIGS = {
    "bert": COMMON,
    "roberta": COMMON,
    "deberta-v2": COMMON | {
        "relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "modernbert": COMMON | SPECIAL | {"local_attention": 6, "global_attn_every_n_layers": 2},
    "mpnet": COMMON,
    "distilbert": {
        "vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 37, "max_position_embeddings": 19,
        "initializer_range": 0.2,
    },
    "electra": COMMON | {"embedding_size": 24},
}  # fmt: skip
# transformers 5.0 builds them with torch.jit and torch.compile, which newer versions of torch deprecate in part.
OLD_JIT = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
TEXT_ENCODERS = [
    pytest.param(name, marks=[OLD_JIT] if name in ("deberta-v2", "modernbert") else []) for name in TEXT_CONFIGS
]
TASKS = ["fusion", "text", "audio", "vision"]


def text_config(name):
    return AutoConfig.for_model(name, **TEXT_CONFIGS[name])


def rows_of(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


def without_gradient(model):
    """Parameters with no gradient, or one of zeros alone, or one that is not finite."""
    return {
        name
        for name, one in model.named_parameters()
        if one.grad is None or not one.grad.any() or not one.grad.isfinite().all()
    }


# What comes in does not depend on what it is padded or batched with


MEANS = {"audio_pooling": "mean", "vision_pooling": "mean"}
BOTH_WAYS = {"vision_num_layers": 2, "audio_bidirectional": True}


@pytest.mark.parametrize(
    "options", [{}, BOTH_WAYS, MEANS, MEANS | BOTH_WAYS], ids=["one", "both", "mean", "mean of both"]
)
def test_padding_changes_nothing(tiny_model, tiny_batch, options):
    model, batch = tiny_model(**options), tiny_batch()
    expected = model(**batch)

    longer = {}
    for name, value in batch.items():
        more = torch.zeros(3, *([5, *value.shape[2:]] if value.ndim > 1 else []), dtype=value.dtype)
        longer[name] = torch.cat([value, more], dim=1) if value.ndim > 1 else value
    generator = torch.Generator().manual_seed(1)
    noisy = dict(longer)
    for name in ("audio", "vision"):
        padding = torch.arange(longer[name].shape[1]) >= batch[f"{name}_lengths"].unsqueeze(1)
        noise = 100 * torch.randn(longer[name].shape, generator=generator)
        noise[..., 0] = float("nan")
        noisy[name] = torch.where(padding.unsqueeze(-1), noise, longer[name])
    tokens = torch.randint(1, 50, longer["input_ids"].shape, generator=generator)
    noisy["input_ids"] = torch.where(longer["attention_mask"].bool(), longer["input_ids"], tokens)

    assert longer["audio"].shape == (3, 14, 5)
    for changed in (longer, noisy):
        assert_same_outputs(model(**changed), expected)


def test_lengths_and_masks_left_out_mean_everything(tiny_model, tiny_batch):
    model, batch = tiny_model(), rows_of(tiny_batch(), slice(0, 1))
    whole = {"attention_mask": torch.ones(1, 7, dtype=torch.long), "audio_lengths": torch.tensor([9])}
    whole["vision_lengths"] = torch.tensor([8])
    bare = {name: value for name, value in batch.items() if name not in whole}
    assert_same_outputs(model(**bare), model(**bare, **whole))


@pytest.mark.parametrize("clip", range(3))
def test_a_batch_of_one_is_its_row(tiny_model, tiny_batch, clip):
    model, batch = tiny_model(), tiny_batch()
    row = slice(clip, clip + 1)
    assert_same_outputs(model(**rows_of(batch, row)), model(**batch), row)


def test_the_order_of_the_clips_changes_nothing(tiny_model, tiny_batch):
    model, batch = tiny_model(audio_bidirectional=True), tiny_batch(5)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert_same_outputs(model(**rows_of(batch, order)), model(**batch), order)


# Gradients


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", TEXT_ENCODERS)
def test_every_parameter_learns(tiny_model, tiny_batch, name, batch_size):
    model = tiny_model(text_config=text_config(name), audio_num_layers=2, audio_bidirectional=True).train()
    # A unit of a ReLU may sleep, but not all of a tiny layer.
    model(**tiny_batch(batch_size, targets=1)).loss.backward()
    # The softmax does not see the bias of the keys; ModernBERT has none.
    assert {one for one in without_gradient(model) if "key" not in one or not one.endswith("bias")} == set()


def test_learned_vectors_learn_where_a_clip_lacks_the_modality(tiny_model, tiny_batch):
    model, batch = tiny_model(absent_modality="learned").train(), tiny_batch(4, targets=1)
    batch["attention_mask"][0] = 0
    batch["audio_lengths"][1] = 0
    batch["vision_lengths"][2] = 0
    model(**batch).loss.backward()
    assert {one for one in without_gradient(model) if not one.endswith("key.bias")} == set()
    assert set(model.absent) == {"text", "audio", "vision"}


def test_lengths_of_any_integer_type(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    short = {name: value.int() if name.endswith("_lengths") else value for name, value in batch.items()}
    assert_same_outputs(model(**short), model(**batch))


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model, tiny_batch):
    text = tiny_text_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    plain = tiny_model(text_config=text, fusion_head_dropout=0.0, audio_head_dropout=0.0, vision_head_dropout=0.0)
    saving = copy.deepcopy(plain)
    if hasattr(saving, "activation_checkpointing_enable"):  # its name in newer transformers
        saving.activation_checkpointing_enable()
    else:
        saving.gradient_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in saving.encoders["text"].encoder.layer)
    for model in (plain, saving):
        model.train()(**tiny_batch(targets=1)).loss.backward()
    for name, one in saving.named_parameters():
        torch.testing.assert_close(one.grad, plain.get_parameter(name).grad, atol=1e-5, rtol=0, msg=name)


# Absent modalities


def absent_in(batch, modality, how):
    """`batch` without this modality, and the clip in which it is missing, all for a whole batch."""
    batch = {name: value.clone() for name, value in batch.items()}
    names = ["input_ids", "attention_mask", "token_type_ids"] if modality == "text" else [modality]
    if how == "left out":
        return {name: value for name, value in batch.items() if name not in [*names, f"{modality}_lengths"]}
    if how == "no step":
        return {name: value[:, :0] if name in names else value for name, value in batch.items()} | (
            {f"{modality}_lengths": torch.zeros(3, dtype=torch.long)} if modality != "text" else {}
        )
    batch["attention_mask" if modality == "text" else f"{modality}_lengths"].zero_()
    return batch


@pytest.mark.parametrize("absent_modality", ["zero", "learned"])
@pytest.mark.parametrize("modality", ["text", "audio", "vision"])
def test_all_ways_of_absence_are_one(tiny_model, tiny_batch, modality, absent_modality):
    model, batch = tiny_model(absent_modality=absent_modality), tiny_batch(targets=1)
    for one in model.absent.values():
        nn.init.normal_(one)
    outputs = {how: model(**absent_in(batch, modality, how)) for how in ("left out", "no step", "zero")}
    assert_same_outputs(outputs["no step"], outputs["left out"])
    assert_same_outputs(outputs["zero"], outputs["left out"])
    for name, present in outputs["zero"].present.items():
        assert present.dtype == torch.bool
        assert present.tolist() == [name != modality] * 3

    # One clip without it: that row is as in the batch without it, the others as with it.
    mixed = {name: value.clone() for name, value in batch.items()}
    mixed["attention_mask" if modality == "text" else f"{modality}_lengths"][1] = 0
    found = model(**mixed)
    assert found.present[modality].tolist() == [True, False, True]
    row = torch.tensor([1])
    picked = type(found)(logits=found.logits[row], **{
        name: {task: value[row] for task, value in found[name].items()}
        for name in ("unimodal_logits", "representations", "present")
    })  # fmt: skip
    assert_same_outputs(picked, outputs["zero"], row)
    assert (found.logits[[0, 2]] - model(**batch).logits[[0, 2]]).abs().max() < 1e-5
    assert (found.logits[1] - model(**batch).logits[1]).abs() > 1e-3


@pytest.mark.parametrize("absent_modality", ["zero", "learned"])
@pytest.mark.parametrize("how", ["left out", "no step", "zero"])
@pytest.mark.parametrize("modality", ["text", "audio", "vision"])
def test_absence_gives_finite_gradients(tiny_model, tiny_batch, modality, how, absent_modality):
    model, batch = tiny_model(absent_modality=absent_modality).train(), tiny_batch(targets=1)
    if modality != "text":
        batch[modality].fill_(float("nan"))  # whatever stands in the padding
    model(**absent_in(batch, modality, how)).loss.backward()
    grads = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert all(grad.isfinite().all() for grad in grads.values())
    # No loss for the modality itself; what the fusion head makes of the stand-in is learned.
    assert all(not grad.any() for name, grad in grads.items() if name.startswith(f"heads.{modality}."))
    if absent_modality == "learned":
        assert grads[f"absent.{modality}"].any()


def test_what_stands_for_an_absent_modality(tiny_model, tiny_batch):
    batch = absent_in(tiny_batch(), "audio", "left out")
    zero, learned = tiny_model(), tiny_model(absent_modality="learned")
    learned.load_state_dict(zero.state_dict(), strict=False)
    assert not any(one.any() for one in learned.absent.values())  # starts as zero
    assert_same_outputs(learned(**batch), zero(**batch))
    with torch.no_grad():
        learned.absent["audio"].fill_(0.5)
    audio = learned.heads["audio"](torch.full((3, 5), 0.5))
    torch.testing.assert_close(learned(**batch).representations["audio"], audio[0])
    assert (learned(**batch).logits - zero(**batch).logits).abs().min() > 1e-4


@OLD_JIT
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", TEXT_CONFIGS)
def test_a_clip_without_text_in_every_encoder(tiny_model, tiny_batch, name, attention):
    config = text_config(name)
    if attention == "eager":
        config._attn_implementation = "eager"
    model, batch = tiny_model(text_config=config).train(), tiny_batch(targets=1)
    batch["attention_mask"][1] = 0
    model(**batch).loss.backward()
    assert all(one.grad.isfinite().all() for one in model.parameters())
    model.eval()
    assert_same_outputs(
        model(**rows_of(absent_in(batch, "text", "left out"), [1])),
        model(**batch),
        [1],
    )


def test_a_model_without_learned_vectors_may_get_them(tiny_model, tiny_batch, tmp_path):
    zero, batch = tiny_model(), absent_in(tiny_batch(), "audio", "left out")
    zero.save_pretrained(tmp_path)
    learned = AutoModel.from_pretrained(tmp_path, absent_modality="learned")
    assert set(learned.absent) == {"text", "audio", "vision"}
    assert not any(one.any() for one in learned.absent.values())
    assert_same_outputs(learned(**batch), zero(**batch))


def test_any_single_modality_is_enough(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    for modality in ("text", "audio", "vision"):
        rest = batch
        for other in {"text", "audio", "vision"} - {modality}:
            rest = absent_in(rest, other, "left out")
        outputs = model(**rest)
        assert outputs.logits.isfinite().all()
        assert [name for name, present in outputs.present.items() if present.all()] == [modality]


def test_a_clip_without_anything_says_the_same_whatever_its_padding(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    for modality in ("text", "audio", "vision"):
        batch = absent_in(batch, modality, "zero")
    logits = model(**batch).logits
    assert logits.isfinite().all()
    assert logits.unique().numel() == 1


# Sequences


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (1, True), (2, True)])
def test_what_is_read_of_the_hidden_states(tiny_model, tiny_batch, layers, bidirectional, pooling):
    model = tiny_model(
        audio_num_layers=layers, audio_bidirectional=bidirectional, audio_dropout=0.25, audio_pooling=pooling
    )
    encoder, batch = model.encoders["audio"], tiny_batch(40)  # more than are encoded at once
    assert encoder.projection.weight.shape == (5, 6 * (1 + bidirectional))
    found = encoder(batch["audio"], batch["audio_lengths"])
    for clip, length in enumerate(batch["audio_lengths"]):
        steps = encoder.lstm(batch["audio"][clip, :length])[0]  # (frames, directions * hidden_size)
        read = torch.cat([steps[-1, :6], steps[0, 6:]]) if pooling == "last" else steps.mean(0)
        torch.testing.assert_close(found[clip], encoder.projection(read), atol=1e-6, rtol=0)


def test_a_mean_is_of_the_real_frames_however_many_are_padded(tiny_model, tiny_batch):
    encoder, batch = tiny_model(audio_pooling="mean").encoders["audio"], tiny_batch()
    frames = nn.functional.pad(batch["audio"], (0, 0, 0, 3000))
    for read in (encoder, encoder._read):  # as on a GPU, too, where lengths are not looked at
        found, expected = (read(one, batch["audio_lengths"]) for one in (frames, batch["audio"]))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_model_saved_before_there_was_pooling_reads_the_last_state(tiny_model, tiny_batch, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text("utf-8"))
    del saved["audio_pooling"], saved["vision_pooling"]
    (tmp_path / "config.json").write_text(json.dumps(saved), "utf-8")
    loaded = AutoModel.from_pretrained(tmp_path)
    assert {loaded.encoders[name].pooling for name in ("audio", "vision")} == {"last"}
    assert_same_outputs(loaded(**tiny_batch()), model(**tiny_batch()), atol=1e-6)


def test_dropout_of_a_sequence(tiny_model, tiny_batch):
    batch = tiny_batch()
    encoder = tiny_model(audio_num_layers=2, audio_dropout=0.5).encoders["audio"]
    assert (encoder.lstm.dropout, encoder.dropout.p) == (0.5, 0.5)
    twice = [encoder.train()(batch["audio"], batch["audio_lengths"]) for _ in range(2)]
    assert not torch.equal(*twice)


def test_text_as_word_vectors(tiny_model, tiny_batch):
    model = tiny_model(text_config=None, text_dim=3, text_hidden_size=8, text_output_dim=7)
    batch = tiny_batch(text=False, text_dim=3)
    outputs = model(text=batch["text_dim"], text_lengths=batch["text_dim_lengths"], audio=batch["audio"])
    assert [name for name, present in outputs.present.items() if present.all()] == ["text", "audio"]
    torch.testing.assert_close(
        outputs.unimodal_logits["text"],
        model.heads["text"](model.encoders["text"](batch["text_dim"], batch["text_dim_lengths"]))[1],
    )
    with pytest.raises(ValueError, match="input_ids"):
        model(input_ids=torch.ones(3, 2, dtype=torch.long), text=batch["text_dim"])


def test_another_modality(tiny_model, tiny_batch):
    model = tiny_model(text_config=None, modalities=["vision", "eye"], eye_dim=6, eye_head_dim=7).train()
    assert set(model.encoders) == {"vision", "eye"}
    batch = tiny_batch(text=False, eye=6, targets=1)
    del batch["audio"], batch["audio_lengths"]
    outputs = model(**batch)
    assert outputs.representations["eye"].shape == (3, 7)
    outputs.loss.backward()
    assert without_gradient(model) == set()
    model.eval()
    longer = torch.cat([batch["eye"], torch.ones(3, 4, 6)], dim=1)
    assert_same_outputs(model(**batch | {"eye": longer}), model(**batch))
    batch["eye_lengths"] = torch.tensor([0, 2, 0])
    assert model(**batch).present["eye"].tolist() == [False, True, False]


# Targets and outputs


def test_several_targets(tiny_model, tiny_batch):
    model = tiny_model(id2label={0: "valence", 1: "arousal"}).train()
    outputs = model(**tiny_batch(targets=2))
    assert outputs.logits.shape == (3, 2)
    assert {tuple(value.shape) for value in outputs.unimodal_logits.values()} == {(3, 2)}
    outputs.loss.backward()
    assert all(model.heads[task].out.weight.grad.any(dim=-1).all() for task in TASKS)


def test_a_new_model_starts_in_the_middle_of_each_scale(tiny_model, tmp_path):
    names = {0: "valence", 1: "arousal"}
    centred, shifted = (
        tiny_model(id2label=names, label_scales=scales) for scales in ([[-1, 1], [-2, 2]], [[-1, 1], [1, 5]])
    )
    for task in TASKS:
        assert torch.equal(shifted.heads[task].out.weight, centred.heads[task].out.weight)
        assert torch.equal(shifted.heads[task].out.bias, centred.heads[task].out.bias + torch.tensor([0.0, 3.0]))
    with torch.no_grad():
        shifted.heads["fusion"].out.bias.fill_(0.5)  # what is learned is not moved when it is loaded
    shifted.save_pretrained(tmp_path)
    assert SelfMMModel.from_pretrained(tmp_path).heads["fusion"].out.bias.tolist() == [0.5, 0.5]


def test_outputs(tiny_model, tiny_batch):
    outputs = tiny_model()(**tiny_batch())
    assert outputs.loss is None
    assert outputs.logits.shape == (3, 1)
    assert list(outputs.unimodal_logits) == list(outputs.present) == ["text", "audio", "vision"]
    widths = {"fusion": 17, "text": 11, "audio": 9, "vision": 13}
    assert {task: tuple(value.shape) for task, value in outputs.representations.items()} == {
        task: (3, width) for task, width in widths.items()
    }
    assert all((value >= 0).all() for value in outputs.representations.values())


def test_outputs_as_a_tuple(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch(targets=1)
    outputs, bare = model(**batch), model(**batch, return_dict=False)
    assert type(bare) is tuple
    assert len(bare) == 5
    assert torch.equal(bare[0], outputs.loss)
    assert torch.equal(bare[1], outputs.logits)


def test_a_head_by_hand(tiny_model, tiny_batch):
    model, batch = tiny_model(), tiny_batch()
    outputs, state = model(**batch), model.state_dict()
    text = model.encoders["text"](**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
    features = {"text": text[0][:, 0]}
    for name in ("audio", "vision"):
        features[name] = model.encoders[name](batch[name], batch[f"{name}_lengths"])
    features["fusion"] = torch.cat([features[name] for name in ("text", "audio", "vision")], dim=1)

    def linear(name, inputs):
        return inputs @ state[f"heads.{name}.weight"].T + state[f"heads.{name}.bias"]

    for task in TASKS:
        first = linear(f"{task}.dense_1", features[task]).clamp(min=0)
        torch.testing.assert_close(outputs.representations[task], first, atol=1e-5, rtol=0)
        y = linear(f"{task}.out", linear(f"{task}.dense_2", first).clamp(min=0))
        found = outputs.logits if task == "fusion" else outputs.unimodal_logits[task]
        torch.testing.assert_close(found, y, atol=1e-5, rtol=0)


# Loss


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("num_items", [None, 11, torch.tensor(11)], ids=["batch", "int", "tensor"])
@pytest.mark.parametrize("generated", [False, True])
def test_loss_by_hand(tiny_model, tiny_batch, targets, num_items, generated):
    batch = tiny_batch(targets=targets)
    batch["audio_lengths"] = torch.tensor([3, 0, 2])
    labels = batch.pop("labels")
    with torch.no_grad():
        outputs = tiny_model(id2label=dict(enumerate("abc"[:targets])))(**batch)
    generator = torch.Generator().manual_seed(4)
    unimodal = {task: torch.randn(3, targets, generator=generator) for task in TASKS[1:]} if generated else None
    weights = {task: torch.rand(3, targets, generator=generator) for task in TASKS[1:]} if generated else None

    expected = 0.0
    for clip in range(3):
        for target in range(targets):
            expected += abs(float(outputs.logits[clip, target] - labels[clip, target]))
            for task in TASKS[1:]:
                if task == "audio" and clip == 1:
                    continue
                y = unimodal[task] if generated else labels
                error = abs(float(outputs.unimodal_logits[task][clip, target] - y[clip, target]))
                expected += error * float(weights[task][clip, target] if generated else 1)
    expected /= 3 * targets if num_items is None else 11

    found = multitask_loss(outputs, labels, unimodal, weights, num_items)
    assert float(found) == pytest.approx(expected, abs=1e-5)
    if targets == 1:  # of shape (batch,) too
        flat = [one and {task: value[:, 0] for task, value in one.items()} for one in (unimodal, weights)]
        assert torch.equal(multitask_loss(outputs, labels[:, 0], *flat, num_items), found)


@pytest.mark.parametrize("num_items", [None, 7])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_labels_in_forward(tiny_model, tiny_batch, num_items, shape):
    model, batch = tiny_model(), tiny_batch()
    labels = torch.tensor([1, -2, 0]).view(shape)  # whole numbers too
    loss = model(**batch, labels=labels, num_items_in_batch=num_items).loss
    torch.testing.assert_close(loss, multitask_loss(model(**batch), labels, num_items=num_items))
    assert loss.shape == ()


# Text encoders


@pytest.mark.parametrize("types", [True, False], ids=["types", "none"])
@pytest.mark.parametrize("name", TEXT_ENCODERS)
def test_text_encoders(tiny_model, tiny_batch, name, types):
    model, batch = tiny_model(text_config=text_config(name)), tiny_batch()
    encoder = model.encoders["text"]
    assert encoder.config.model_type == name
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    if not types:
        del batch["token_type_ids"]
    outputs = model(**batch)
    # Each clip alone, without padding; token types only where the encoder knows any.
    for clip, length in enumerate(batch["attention_mask"].sum(1)):
        inputs = {"input_ids": batch["input_ids"][clip : clip + 1, :length]}
        if types and name in ("bert", "roberta", "deberta-v2", "electra"):
            inputs["token_type_ids"] = batch["token_type_ids"][clip : clip + 1, :length]
        first = encoder(**inputs).last_hidden_state[:, 0]
        torch.testing.assert_close(
            outputs.representations["text"][clip], model.heads["text"](first)[0][0], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("name", TEXT_ENCODERS)
def test_the_units_of_fsdp_are_the_layers_of_the_text_encoder(tiny_model, name):
    model = tiny_model(text_config=text_config(name))
    units = [module for module in model.modules() if type(module).__name__ in model._no_split_modules]
    assert len(units) == (0 if name == "mpnet" else 2)  # transformers marks no layers there: it is one unit
    # accelerate makes the word embeddings a unit of their own, and fails where one is around them
    assert not any(model.get_input_embeddings() in unit.modules() for unit in units)
    assert not tiny_model(text_config=None)._no_split_modules


@OLD_JIT
@pytest.mark.parametrize("name", ["roberta", "deberta-v2", "modernbert", "mpnet"])
def test_padding_on_the_left(tiny_model, tiny_batch, name):
    model, batch = tiny_model(text_config=text_config(name)), tiny_batch()
    del batch["token_type_ids"]
    padding = batch["attention_mask"] == 0
    batch["input_ids"] = batch["input_ids"].masked_fill(padding, model.config.text_config.pad_token_id)
    lengths = batch["attention_mask"].sum(1)
    left = {
        key: torch.stack([row.roll(7 - int(length)) for row, length in zip(batch[key], lengths, strict=True)])
        for key in ("input_ids", "attention_mask")
    }
    assert left["attention_mask"][:, 0].tolist() == [0, 1, 0]
    assert_same_outputs(model(**batch | left), model(**batch))


def test_frozen_text_encoder(tiny_model, tiny_batch, tmp_path):
    frozen = tiny_model(freeze_text_encoder=True)
    frozen.save_pretrained(tmp_path)
    fresh = SelfMMModel(copy.deepcopy(frozen.config))
    for model in (frozen, AutoModel.from_pretrained(tmp_path), fresh):
        text = model.encoders["text"]
        assert not any(one.requires_grad for one in text.parameters())
        assert not text.training
        model.train()
        assert model.training and model.heads["text"].training and not text.training
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
        batch = tiny_batch(targets=1)
        text_of = [model(**batch).unimodal_logits["text"] for _ in range(2)]  # text_head_dropout is 0
        assert torch.equal(*text_of)
        model(**batch).loss.backward()
        assert all(one.grad is None for one in text.parameters())
        assert {one for one in without_gradient(model) if not one.startswith("encoders.text.")} == set()
        optimizer.step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed
        assert not any(name.startswith("encoders.text.") for name in changed)


@pytest.mark.parametrize("saved_in", [torch.float32, torch.float16])
def test_from_text_encoder(tmp_path, tiny_batch, saved_in):
    torch.manual_seed(5)
    saved = BertModel(tiny_text_config()).to(saved_in)
    assert saved.pooler is not None
    saved.save_pretrained(tmp_path / "text")
    options = {"vision_dim": 4, "absent_modality": "learned", "id2label": {0: "a", 1: "b"}}
    model = SelfMMModel.from_text_encoder(str(tmp_path / "text"), **options)
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert (model.config.absent_modality, model.config.num_labels) == ("learned", 2)
    weights = {name: value for name, value in saved.state_dict().items() if not name.startswith("pooler.")}
    found = model.encoders["text"].state_dict()
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(found[name], value.float()), name
    assert len({module.training for module in model.modules()}) == 1  # all ready to train, or none

    model.save_pretrained(tmp_path / "whole")
    assert str(tmp_path) not in (tmp_path / "whole" / "config.json").read_text()  # no path of this machine
    loaded = AutoModel.from_pretrained(tmp_path / "whole")
    assert {one.dtype for one in loaded.parameters()} == {torch.float32}
    assert_same_outputs(loaded(**tiny_batch()), model.eval()(**tiny_batch()), atol=1e-6)


def test_from_text_encoder_frozen_with_another_attention(tmp_path):
    BertModel(tiny_text_config()).save_pretrained(tmp_path)
    model = SelfMMModel.from_text_encoder(tmp_path, attn_implementation="eager", freeze_text_encoder=True)
    assert model.encoders["text"].config._attn_implementation == "eager"
    assert not any(one.requires_grad for one in model.encoders["text"].parameters())
    assert all(one.requires_grad for name, one in model.named_parameters() if not name.startswith("encoders.text."))


@pytest.mark.parametrize("given", [tiny_text_config(), tiny_text_config().to_dict()], ids=["object", "dict"])
def test_models_of_one_text_config_are_independent(tiny_model, tiny_batch, given):
    before, batch = copy.deepcopy(given), tiny_batch()
    one, other = (tiny_model(text_config=given) for _ in range(2))
    expected = one(**batch)
    other.set_attn_implementation("eager")
    other.encoders["text"].config.num_attention_heads = 4
    assert one.encoders["text"].config._attn_implementation == "sdpa"
    assert one.config.text_config.num_attention_heads == 2
    assert_same_outputs(one(**batch), expected, atol=0)
    assert (given if isinstance(given, dict) else vars(given)) == (before if isinstance(given, dict) else vars(before))


def test_a_half_precision_encoder_config_gives_a_float32_model(tiny_model, tiny_batch):
    model = tiny_model(text_config=tiny_text_config(dtype="float16"))
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert model(**tiny_batch()).logits.isfinite().all()


# Precision, attention, saving


@OLD_JIT
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_eager_and_sdpa_agree(tiny_model, tiny_batch, tmp_path, name):
    tiny_model(text_config=text_config(name)).save_pretrained(tmp_path)
    outputs = []
    for attention in ("eager", "sdpa"):
        model = AutoModel.from_pretrained(tmp_path, attn_implementation=attention)
        assert model.encoders["text"].config._attn_implementation == attention
        outputs.append(model(**tiny_batch()))
    assert_same_outputs(*outputs)


@pytest.mark.parametrize("equal_lengths", [True, False])
@pytest.mark.parametrize("options", [{}, {"absent_modality": "learned"}], ids=["zero", "learned"])
@pytest.mark.parametrize("way", ["model", "loaded", "autocast"])
def test_bfloat16(tiny_model, tiny_batch, tmp_path, way, options, equal_lengths):
    model, batch = tiny_model(**options), tiny_batch(targets=1)
    batch["audio_lengths"] = torch.tensor([4, 4, 4] if equal_lengths else [4, 0, 9])
    expected = model(**batch).logits
    if way == "model":
        model = model.to(torch.bfloat16)
    elif way == "loaded":
        model.save_pretrained(tmp_path)
        model = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    if way != "autocast":
        assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    hidden = []
    model.encoders["audio"].lstm.register_forward_hook(lambda module, inputs, outputs: hidden.append(outputs[1][0]))
    for given in (batch, absent_in(batch, "vision", "left out"), absent_in(batch, "text", "left out")):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "autocast"):
            outputs = model(**given)
        assert outputs.logits.dtype == outputs.unimodal_logits["text"].dtype == outputs.loss.dtype == torch.float32
        assert hidden[-1].dtype == (torch.float32 if way == "autocast" else torch.bfloat16)
        outputs.loss.backward()
        assert all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)
        if given is batch:
            assert not torch.equal(outputs.logits, expected)
            torch.testing.assert_close(outputs.logits, expected, atol=0.1, rtol=0)


@OLD_JIT
@pytest.mark.parametrize(
    "options",
    [
        {"absent_modality": "learned"},
        {"text_config": None},
        {"text_config": None, "text_dim": 3, "modalities": ["audio", "text"]},
        {"audio_num_layers": 2, "vision_bidirectional": True, "vision_pooling": "mean"},
        *({"text_config": text_config(name)} for name in TEXT_CONFIGS if name != "bert"),
    ],
)
def test_a_saved_model_comes_back(tiny_model, tiny_batch, tmp_path, options):
    model, batch = tiny_model(**options), tiny_batch()
    for one in model.absent.values():
        nn.init.normal_(one)
    if model.config.is_sequence("text"):
        frames = tiny_batch(text=False)
        batch = {name: one for name, one in frames.items() if name.removesuffix("_lengths") in model.encoders}
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is SelfMMModel
    assert not loaded.training
    assert not any(report.values())
    assert_same_outputs(loaded(**batch), model(**batch), atol=1e-6)


def test_more_tokens(tiny_model, tiny_batch, tmp_path):
    model, batch = tiny_model(), tiny_batch()
    expected = model(**batch)
    model.resize_token_embeddings(60)
    assert_same_outputs(model(**batch), expected)
    model.save_pretrained(tmp_path)
    batch["input_ids"][0, 1] = 59
    assert_same_outputs(AutoModel.from_pretrained(tmp_path)(**batch), model(**batch))


def test_initialisation(tiny_model):
    model = tiny_model(audio_hidden_size=40, fusion_head_dim=40, text_config=tiny_text_config(initializer_range=0.01))
    model.requires_grad_(False)
    weights = model.encoders["audio"].lstm.weight_hh_l0
    assert 0.9 < float(weights.abs().max()) * 40**0.5 <= 1.0  # uniform in +-1 / sqrt(hidden_size)
    head = model.heads["fusion"].dense_1
    assert 0.9 < float(head.weight.abs().max()) * head.in_features**0.5 <= 1.0
    assert 0.0 < float(head.bias.abs().max()) * head.in_features**0.5 <= 1.0
    text = model.encoders["text"]
    assert float(text.encoder.layer[0].attention.self.query.weight.std()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(text.embeddings.LayerNorm.weight, torch.ones(32))


def test_size_of_the_mosi_model():
    text = tiny_text_config(hidden_size=768, num_hidden_layers=1, intermediate_size=3)
    with torch.device("meta"):
        model = SelfMMModel(SelfMMConfig(text_config=text))
    counts = [one.numel() for name, one in model.named_parameters() if not name.startswith("encoders.text.")]
    assert sum(counts) == 206_980


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audoi": torch.ones(3, 2, 5)}, "audoi"),
        ({"eye": torch.ones(3, 2, 5), "eye_lengths": torch.ones(3)}, "eye"),
        ({"audio": torch.ones(3, 2, 6)}, r"audio must be of shape \(batch, frames, 5\), got \(3, 2, 6\)"),
        ({"vision": torch.ones(3, 4)}, "vision must be of shape"),
        ({"input_ids": torch.ones(7, dtype=torch.long)}, "input_ids must be of shape"),
        ({"audio_lengths": torch.tensor([1, 2, 10])}, r"audio_lengths must be 3 numbers in \[0, 9\]"),
        ({"audio_lengths": torch.tensor([1, -1, 3])}, "audio_lengths"),
        ({"vision_lengths": torch.tensor([1, 2])}, "vision_lengths"),
        ({"vision_lengths": torch.tensor([[1], [2], [3]])}, "vision_lengths"),
        ({"audio": torch.ones(2, 9, 5), "audio_lengths": torch.tensor([1, 2])}, "same number of clips"),
        ({"input_ids": torch.ones(4, 7, dtype=torch.long)}, "same number of clips"),
        ({"attention_mask": torch.ones(3, 6, dtype=torch.long)}, "attention_mask and input_ids must have the same"),
        ({"labels": torch.ones(2)}, "labels must be one per clip"),
        ({"input_ids": None, "audio": None, "vision": None}, "at least one of the modalities"),
    ],
)
def test_wrong_inputs_are_refused(tiny_model, tiny_batch, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**tiny_batch() | change)


def test_a_model_without_a_modality_refuses_it(tiny_model, tiny_batch):
    model = tiny_model(text_config=None)
    with pytest.raises(ValueError, match="input_ids"):
        model(**tiny_batch())
    assert model(**tiny_batch(text=False)).logits.shape == (3, 1)
