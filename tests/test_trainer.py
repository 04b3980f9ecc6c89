import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fresh
import numpy as np
import pytest
import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from no_float64 import DEVICE, NoFloat64
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import SequentialSampler
from transformers import BertConfig, TrainerCallback, set_seed

from selfmm_hf import SelfMMConfig, SelfMMModel
from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.model import modeling_selfmm, packing_selfmm
from selfmm_hf.training.arguments import SelfMMTrainingArguments
from selfmm_hf.training.checkpoints import CheckpointError
from selfmm_hf.training.collator import SelfMMCollator
from selfmm_hf.training.trainer import PSEUDO_LABELS_FILE, SelfMMTrainer


def corpus(samples=22, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(samples):
        label = round(random.uniform(-3, 3), 1)
        tokens = random.integers(5, 30, random.integers(2, 7)).tolist()
        tokens[0] = 5 + int(label > 0)
        frames = {
            name: (random.normal(label / 3, 1, (random.integers(1, 6), width))).astype(np.float32)
            for name, width in (("audio", 5), ("vision", 4))
        }
        rows.append({"id": str(len(rows)), "input_ids": tokens, "label": label, **frames})
    return rows


def model(dropout=0.0, seed=3, **options):
    set_seed(seed)
    text = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=19,
        max_position_embeddings=12, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
    )  # fmt: skip
    heads = {f"{task}_head_dropout": dropout for task in ("fusion", "text", "audio", "vision")}
    return SelfMMModel(SelfMMConfig(text_config=text, vision_dim=4, fusion_head_dim=11, **heads, **options))


def arguments(folder, **options):
    defaults = dict(
        num_train_epochs=4, per_device_train_batch_size=4, gradient_accumulation_steps=2, early_stopping_patience=0,
        learning_rate=2e-3, weight_decay=0.01, use_cpu=True, disable_tqdm=True, seed=7,
    )  # fmt: skip
    return SelfMMTrainingArguments(output_dir=str(folder), **{**defaults, **options})


class InOrder(SelfMMTrainer):
    """Takes the samples in their order."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


def state_of(trainer):
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return weights, {name: value.clone() for name, value in trainer.pseudo_labels.state_dict().items()}


def assert_same(one, other, atol=0.0):
    for mine, its in zip(one, other, strict=True):
        assert mine.keys() == its.keys()
        for name, value in mine.items():
            if "key.bias" not in name:  # its gradient is rounding noise, which Adam turns into steps
                torch.testing.assert_close(
                    value, its[name], atol=atol, rtol=0.0, msg=lambda text, n=name: f"{n}: {text}"
                )


def official_loop(net, rows, epochs, batch, accumulation, learning_rate, weight_decay):
    """The official training loop, written out plainly: everything recomputed over the whole set at each batch."""
    optimizer = torch.optim.Adam(
        [
            {"params": [p for n, p in net.named_parameters() if not (n.startswith("encoders.text") and _no_decay(n))]},
            {"params": [p for n, p in net.named_parameters() if n.startswith("encoders.text") and _no_decay(n)],
             "weight_decay": 0.0},
        ],
        lr=learning_rate, weight_decay=weight_decay,
    )  # fmt: skip
    y = torch.tensor([row["label"] for row in rows])
    labels = {task: y.clone() for task in ("fusion", "text", "audio", "vision")}
    store = {task: torch.zeros(len(y), net.config.head_options(task)["dim"]) for task in labels}
    centres, losses = {}, []
    collator = SelfMMCollator()
    net.train()
    for epoch in range(1, epochs + 1):
        waiting = accumulation
        for start in range(0, len(rows), batch):
            if waiting == accumulation:
                optimizer.zero_grad()
            waiting -= 1
            index = torch.arange(start, min(start + batch, len(rows)))
            inputs = collator([rows[i] for i in index])
            inputs.pop("labels")
            out = net(**inputs)
            predictions = {"fusion": out.logits[:, 0], **{k: v[:, 0] for k, v in out.unimodal_logits.items()}}
            loss = 0.0
            for task, prediction in predictions.items():
                weight = 1.0 if task == "fusion" else torch.tanh((labels[task][index] - y[index]).abs())
                loss = loss + (weight * (prediction - labels[task][index]).abs()).mean()
            loss.backward()
            losses.append(loss.item())
            reps = {task: value.detach() for task, value in out.representations.items()}
            if epoch > 1:
                delta = {}
                for task, rep in reps.items():
                    near, far = ((rep - centre).norm(dim=-1) for centre in centres[task])
                    delta[task] = (far - near) / (near + 1e-8)
                for task in ("text", "audio", "vision"):
                    alpha = delta[task] / (delta["fusion"] + 1e-8)
                    new = 0.5 * alpha * y[index] + 0.5 * (y[index] + delta[task] - delta["fusion"])
                    new = new.clamp(-3, 3)
                    labels[task][index] = (epoch - 1) / (epoch + 1) * labels[task][index] + 2 / (epoch + 1) * new
            for task, rep in reps.items():
                store[task][index] = rep
                centres[task] = store[task][labels[task] >= 0].mean(0), store[task][labels[task] < 0].mean(0)
            if waiting == 0:
                optimizer.step()
                waiting = accumulation
    return labels, losses


def _no_decay(name):
    return "bias" in name or "LayerNorm.weight" in name


def test_official_convention_equals_the_official_loop(tmp_path):
    """With 22 samples the last batch is smaller; with 26 the last group is incomplete too, and dropped."""
    for samples in (22, 26):
        rows = corpus(samples)
        expected_model = model()
        labels, losses = official_loop(expected_model, rows, 4, 4, 2, 2e-3, 0.01)
        trainer = InOrder(
            model(), arguments(tmp_path / str(samples), convention="official", save_strategy="no",
                               load_best_model_at_end=False, eval_strategy="no"),
            train_dataset=rows,
        )  # fmt: skip
        seen = []
        step = trainer.training_step
        trainer.training_step = lambda *a, step=step, seen=seen, **k: seen.append(step(*a, **k)) or seen[-1]
        trainer.train()
        assert [loss.item() for loss in seen] == pytest.approx(losses, abs=1e-4)
        for task, values in labels.items():
            torch.testing.assert_close(trainer.pseudo_labels.labels[task][:, 0], values, atol=3e-4, rtol=0)
        expected = dict(expected_model.named_parameters())
        for name, value in trainer.model.named_parameters():
            if "key.bias" not in name:
                torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize("convention", ["default", "paper"])
@pytest.mark.parametrize("samples", [22, 19])
def test_accumulation_means_the_same_at_every_split(tmp_path, convention, samples):
    """8 samples per step as 8 x 1, 4 x 2 and 1 x 8: the same gradients, and the same first steps.

    With `paper`, labels depend on the order of updates within a step, so only the first epochs are compared.
    """
    rows, results = corpus(samples), []
    for batch, accumulation in ((8, 1), (4, 2), (1, 8)):
        trainer = InOrder(
            model(),
            arguments(
                tmp_path, convention=convention, per_device_train_batch_size=batch, save_strategy="no",
                gradient_accumulation_steps=accumulation, load_best_model_at_end=False, eval_strategy="no",
                num_train_epochs=3 if convention == "default" else 1,
            ),
            train_dataset=rows,
        )  # fmt: skip
        trainer.train()
        results.append(state_of(trainer))
    for other in results[1:]:
        assert_same(results[0], other, atol=2e-5)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step
        return control


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, convention):
    rows = corpus()
    options = dict(
        convention=convention, save_strategy="steps", eval_strategy="steps", eval_steps=1,
        load_best_model_at_end=False, early_stopping_patience=3, save_total_limit=None, logging_strategy="steps",
        logging_steps=1, num_train_epochs=3,
    )  # fmt: skip

    def trainer(name, step, callbacks=()):
        net = model(dropout=0.2)
        return SelfMMTrainer(
            net,
            arguments(tmp_path / name, save_steps=step, **options),
            train_dataset=rows,
            eval_dataset=corpus(9, 1),
            callbacks=list(callbacks),
        )

    def losses(state):
        skipped = ("runtime", "per_second", "total_flos", "train_loss")
        return [{k: v for k, v in entry.items() if not k.endswith(skipped)} for entry in state.log_history]

    whole = trainer("whole", 100)
    whole.train()
    for step in (3, 5):  # 3 steps an epoch: at its end, and within the second
        assert whole.state.global_step > step
        trainer(str(step), step, [StopAt(step)]).train()
        resumed = trainer(str(step), step)
        resumed.train(resume_from_checkpoint=str(tmp_path / str(step) / f"checkpoint-{step}"))
        assert_same(state_of(whole), state_of(resumed))
        assert losses(whole.state) == losses(resumed.state)


@pytest.mark.parametrize(("began", "goes_on"), [("default", "paper"), ("official", "default")])
def test_a_checkpoint_of_another_convention_is_refused(tmp_path, began, goes_on):
    def trainer(convention):
        options = arguments(tmp_path, convention=convention, num_train_epochs=1)
        return SelfMMTrainer(model(), options, train_dataset=corpus(), eval_dataset=corpus(9, 1))

    trainer(began).train()
    with pytest.raises(ValueError, match=r"from another convention \(distance, .*\): resume with that of their run"):
        trainer(goes_on).train(resume_from_checkpoint=True)


def test_a_checkpoint_without_pseudo_labels_is_refused(tmp_path):
    rows = corpus()
    trainer = SelfMMTrainer(
        model(), arguments(tmp_path, num_train_epochs=1), train_dataset=rows, eval_dataset=corpus(9, 1)
    )
    trainer.train()
    checkpoint = tmp_path / "checkpoint-3"
    (checkpoint / PSEUDO_LABELS_FILE).unlink()
    again = SelfMMTrainer(model(), arguments(tmp_path), train_dataset=rows, eval_dataset=corpus(9, 1))
    with pytest.raises(CheckpointError, match=r"not a complete checkpoint.*pseudo_labels.safetensors is missing"):
        again.train(resume_from_checkpoint=str(checkpoint))


def test_selection_loss_follows_the_convention_and_chooses_the_model(tmp_path):
    rows, validation = corpus(), corpus(9, 1)
    for convention in CONVENTIONS:
        args = arguments(tmp_path / convention, convention=convention, per_device_eval_batch_size=4, learning_rate=0.03)
        trainer = SelfMMTrainer(model(), args, train_dataset=rows, eval_dataset=validation)
        trainer.train()
        losses = [entry["eval_selection_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
        assert len(losses) == 4
        result = trainer.predict(validation)
        errors = np.abs(result.predictions[0][:, 0] - np.array([row["label"] for row in validation]))
        batches = [errors[:4].mean(), errors[4:8].mean(), errors[8:].mean()]
        expected = np.mean(batches) if convention == "official" else errors.mean()
        assert result.metrics["test_selection_loss"] == pytest.approx(expected, abs=1e-6)
        assert min(losses) == pytest.approx(expected, abs=1e-6)  # the best of them was loaded at the end


def test_early_stopping_waits_as_long_as_told(tmp_path):
    args = arguments(tmp_path, learning_rate=0.0, num_train_epochs=20, early_stopping_patience=2)
    trainer = SelfMMTrainer(model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1))
    trainer.train()
    assert len(trainer.pseudo_labels.history) == 3  # the first is the best, and two more


def test_a_run_may_stop_within_an_epoch(tmp_path):
    args = arguments(tmp_path, max_steps=4, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
    trainer = SelfMMTrainer(model(), args, train_dataset=corpus())
    trainer.train()
    assert len(trainer.pseudo_labels.history) == 2


def test_evaluation_leaves_the_labels_alone(tmp_path):
    trainer = SelfMMTrainer(
        model(), arguments(tmp_path, num_train_epochs=3), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    trainer.train()
    before = {name: value.clone() for name, value in trainer.pseudo_labels.state_dict().items()}
    trainer.evaluate()
    trainer.predict(corpus(9, 2))
    assert all(torch.equal(value, before[name]) for name, value in trainer.pseudo_labels.state_dict().items())


def test_batch_of_one_trains_and_evaluates(tmp_path):
    options = dict(per_device_train_batch_size=1, per_device_eval_batch_size=1, gradient_accumulation_steps=1)
    trainer = SelfMMTrainer(
        model(), arguments(tmp_path, num_train_epochs=2, **options), train_dataset=corpus(5), eval_dataset=corpus(3, 1)
    )
    trainer.train()
    assert np.isfinite(trainer.state.best_metric)


def test_learning_rates_and_weight_decays_by_module(tmp_path):
    args = arguments(
        tmp_path, learning_rates={"encoders.text": "5e-5", "encoders": 2e-4, "heads.fusion": 3e-4},
        weight_decays={"encoders.text": 0.5, "encoders.audio": 0.0},
    )  # fmt: skip
    trainer = SelfMMTrainer(model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1))
    groups = trainer.create_optimizer().param_groups
    assert isinstance(trainer.optimizer, torch.optim.Adam) and not isinstance(trainer.optimizer, torch.optim.AdamW)
    found = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    parameters = dict(trainer.model.named_parameters())
    assert len(found) == len(parameters)
    expected = {
        "encoders.text.encoder.layer.0.output.dense.weight": (5e-5, 0.5),
        "encoders.text.encoder.layer.0.output.dense.bias": (5e-5, 0.0),
        "encoders.text.embeddings.LayerNorm.weight": (5e-5, 0.0),
        "encoders.audio.lstm.bias_ih_l0": (2e-4, 0.0),
        "encoders.vision.projection.bias": (2e-4, 0.01),  # decayed, as in the official code
        "heads.fusion.out.weight": (3e-4, 0.01),
        "heads.text.out.weight": (2e-3, 0.01),
    }
    assert {name: found[id(parameters[name])] for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "rate", "said"),
    [
        ({"learning_rate": 1e-3}, 5e-5, "learns at 5e-05, because learning_rate, 0.001, would destroy what it knows"),
        ({"learning_rate": 2e-5}, 2e-5, None),
        ({"learning_rates": {"encoders.text": 1e-4}}, 1e-4, None),
        ({"learning_rates": {"encoders.text": 1e-3}}, 1e-3, "learns at 0.001, which destroys what it knows: 5e-05 is"),
        ({"learning_rates": {"encoders": 5e-4}}, 5e-4, "learns at 0.0005, which destroys"),
        (
            {"learning_rates": {"encoders.text": 5e-5, "encoders.text.encoder": 0.01}},
            None,
            "learns at 0.01, which destroys",
        ),
    ],
)
@pytest.mark.parametrize("alone", [True, False])  # the text encoder, or the whole model
def test_the_rate_of_a_pretrained_text_encoder(tmp_path, caplog, options, rate, said, alone):
    new = model()
    (new.encoders["text"] if alone else new).save_pretrained(tmp_path / "pretrained")
    widths = {name: new.config.sequence_options(name)["input_dim"] for name in new.config.sequences}
    if alone:
        widths = {f"{name}_dim": width for name, width in widths.items()}
        pretrained = SelfMMModel.from_text_encoder(str(tmp_path / "pretrained"), **widths)
    else:
        pretrained = SelfMMModel.from_pretrained(tmp_path / "pretrained")
    caplog.clear()
    trainer = SelfMMTrainer(
        pretrained, arguments(tmp_path, **options), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    groups = trainer.create_optimizer().param_groups
    names = {id(parameter): name for name, parameter in pretrained.named_parameters()}
    of_text = {one["lr"] for one in groups for p in one["params"] if names[id(p)].startswith("encoders.text.")}
    assert rate is None or of_text == {rate}
    assert (said in caplog.text) if said else "destroy" not in caplog.text


def test_no_rate_is_lowered_or_warned_of_where_the_text_encoder_is_new_or_frozen(tmp_path, caplog):
    trainer = SelfMMTrainer(
        model(), arguments(tmp_path, learning_rate=1e-3), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    assert {one["lr"] for one in trainer.create_optimizer().param_groups} == {1e-3}
    model().encoders["text"].save_pretrained(tmp_path / "encoder")
    frozen = SelfMMModel.from_text_encoder(
        str(tmp_path / "encoder"), freeze_text_encoder=True, audio_dim=3, vision_dim=2
    )
    caplog.clear()
    SelfMMTrainer(
        frozen, arguments(tmp_path, learning_rate=1e-3), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    ).create_optimizer()
    assert "destroy" not in caplog.text


@pytest.mark.parametrize("name", ["learning_rates", "weight_decays"])
def test_a_prefix_that_matches_nothing_is_an_error(tmp_path, name):
    args = arguments(tmp_path, **{name: {"encoders.txt": 1e-3}})
    with pytest.raises(ValueError, match=r"begins with \['encoders.txt'\].*encoders.text"):
        SelfMMTrainer(model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1)).create_optimizer()


def test_decoupled_weight_decay_uses_the_optimizer_of_the_trainer(tmp_path):
    args = arguments(tmp_path, coupled_weight_decay=False, optim="adamw_torch")
    assert isinstance(
        SelfMMTrainer(model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1)).create_optimizer(),
        torch.optim.AdamW,
    )


def test_the_optimizer_may_be_another_class_or_object(tmp_path):
    rates = {"learning_rates": {"heads": 0.5}, "weight_decays": {"heads": 0.25}}
    given = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.125, "momentum": 0.5})}
    args = arguments(tmp_path, coupled_weight_decay=False, **rates)
    optimizer = SelfMMTrainer(
        model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1), **given
    ).create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    assert {(group["lr"], group["weight_decay"], group["momentum"]) for group in optimizer.param_groups} == {
        (0.5, 0.25, 0.5), (2e-3, 0.01, 0.5), (2e-3, 0.0, 0.5),
    }  # fmt: skip
    with pytest.raises(ValueError, match="optimizer_cls_and_kwargs are for coupled_weight_decay=False"):
        SelfMMTrainer(model(), arguments(tmp_path / "run"), train_dataset=corpus(), eval_dataset=corpus(9, 1), **given)
    net = model()
    made = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="learning_rates and weight_decays would be ignored"):
        SelfMMTrainer(
            net,
            arguments(tmp_path / "run", **rates),
            train_dataset=corpus(),
            eval_dataset=corpus(9, 1),
            optimizers=(made, None),
        )
    trainer = SelfMMTrainer(
        net, arguments(tmp_path), train_dataset=corpus(), eval_dataset=corpus(9, 1), optimizers=(made, None)
    )
    assert trainer.create_optimizer() is made
    assert not (tmp_path / "run").exists()


def test_another_loss_function_is_refused(tmp_path):
    with pytest.raises(ValueError, match="compute_loss_func would be ignored"):
        SelfMMTrainer(
            model(),
            arguments(tmp_path / "run"),
            train_dataset=corpus(),
            eval_dataset=corpus(9, 1),
            compute_loss_func=lambda *_, **__: 0.0,
        )
    assert not (tmp_path / "run").exists()


def test_a_subclass_may_add_to_the_loss_but_not_leave_it_out(tmp_path):
    class Adds(SelfMMTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            loss = loss + 0.1 * outputs.logits.square().mean()
            return (loss, outputs) if return_outputs else loss

    class LeavesOut(SelfMMTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            inputs.pop("index", None)
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    options = dict(num_train_epochs=2)
    Adds(model(), arguments(tmp_path / "adds", **options), train_dataset=corpus(), eval_dataset=corpus(9, 1)).train()
    with pytest.raises(TypeError, match=r"LeavesOut.compute_loss must call that of SelfMMTrainer.*super\(\)"):
        LeavesOut(
            model(), arguments(tmp_path / "leaves_out", **options), train_dataset=corpus(), eval_dataset=corpus(9, 1)
        ).train()


class MapStyle(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row]


class Streamed(torch.utils.data.IterableDataset):
    def __len__(self):
        return 22

    def __iter__(self):
        return iter(corpus())


def test_any_samples_with_a_number_are_trained_on(tmp_path):
    options = dict(num_train_epochs=2, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
    results = []
    for samples in (corpus(), tuple(corpus()), MapStyle(corpus()), Dataset.from_list(corpus())):
        trainer = SelfMMTrainer(model(), arguments(tmp_path, **options), train_dataset=samples)
        trainer.train()
        results.append(state_of(trainer))
    for other in results[1:]:
        assert_same(results[0], other)


@pytest.mark.parametrize("samples", [
    (row for row in corpus()), Streamed(), Dataset.from_list(corpus()).to_iterable_dataset(), iter(corpus()),
])  # fmt: skip
def test_samples_without_a_number_are_refused(tmp_path, samples):
    with pytest.raises(TypeError, match=r"train_dataset must support len\(\) and indexing, .* Wrap it in list"):
        SelfMMTrainer(
            model(), arguments(tmp_path / "run", max_steps=3), train_dataset=samples, eval_dataset=corpus(9, 1)
        )
    assert not (tmp_path / "run").exists()


def test_samples_without_a_label_are_refused(tmp_path):
    unlabelled = [{name: value for name, value in row.items() if name != "label"} for row in corpus()]
    splits = DatasetDict(train=Dataset.from_list(corpus()))
    for samples in (unlabelled, Dataset.from_list(unlabelled), splits):
        with pytest.raises(ValueError, match=f"must have a label; in this {type(samples).__name__}, some have none"):
            SelfMMTrainer(model(), arguments(tmp_path), train_dataset=samples, eval_dataset=corpus(9, 1))


def test_a_plain_trainer_can_train_the_model_too(tmp_path):
    """Without generated labels every task learns the fused label, and accumulated batches are scaled right."""
    from transformers import Trainer, TrainingArguments

    rows = [{**row, "label_ids": row["label"]} for row in corpus(16)]
    weights = []
    for batch, accumulation in ((8, 1), (2, 4)):
        args = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            num_train_epochs=2, use_cpu=True, remove_unused_columns=False, label_names=["labels"], max_grad_norm=0,
            report_to="none", disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(model(), args, SelfMMCollator(), rows)
        trainer.train()
        weights.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    assert_same([weights[0]], [weights[1]], atol=2e-5)


RANKS = """
import gc, json, os, sys
sys.path.insert(0, sys.argv[1])
from test_trainer import SelfMMTrainer, arguments, corpus, model, torch
torch.set_num_threads(1)
results = []
for convention, samples in json.loads(sys.argv[4]):
    args = arguments(sys.argv[2], convention=convention, per_device_train_batch_size=int(sys.argv[3]),
                     save_strategy="no", load_best_model_at_end=False, gradient_accumulation_steps=2,
                     num_train_epochs=3)
    rows = corpus(samples)
    for row in rows[::2]:
        row["vision"] = None  # some batches of a process have no vision at all
    trainer = SelfMMTrainer(model(), args, train_dataset=rows, eval_dataset=corpus(9, 1))
    counted, update = [], trainer.pseudo_labels.update
    def counting(index, *args, **kwargs):
        counted.append(index.tolist())
        update(index, *args, **kwargs)
    trainer.pseudo_labels.update = counting
    trainer.train()
    logits = trainer.predict(corpus(9, 1)).predictions[0]
    state = {name: value.tolist() for name, value in trainer.pseudo_labels.state_dict().items()}
    weights = {name: value.tolist() for name, value in trainer.model.state_dict().items()}
    results.append({"world": args.world_size, "state": state, "weights": weights, "logits": logits.tolist(),
                    "counted": counted})
    # The model of DistributedDataParallel holds the process group. Were its threads still there when the interpreter
    # ends, the process might abort.
    accelerator = trainer.accelerator
    del trainer, update, counting
    gc.collect()
if args.process_index == 0:
    json.dump(results, open(os.path.join(sys.argv[2], "result.json"), "w"))
accelerator.state.destroy_process_group()
"""
RANKED = [("default", 22), ("paper", 24), ("default", 7)]  # 22: the last batches are filled up; 7: the only ones


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What one process and two have learned of each of `RANKED`."""
    results = []
    for processes, batch in ((1, 8), (2, 4)):
        folder = tmp_path_factory.mktemp("ranks")
        script = folder / "ranks.py"
        script.write_text(RANKS)
        launcher = [fresh.python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [*launcher, script, Path(__file__).parent, folder, str(batch), json.dumps(RANKED)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(json.loads((folder / "result.json").read_text()))
    return results


@pytest.mark.parametrize("number", range(len(RANKED)), ids=[f"{name}-{samples}" for name, samples in RANKED])
def test_two_processes_equal_one_with_the_same_global_batch(ranks, number):
    one, two = (results[number] for results in ranks)
    assert (one["world"], two["world"]) == (1, 2)

    # The same samples in every step of both, each once an epoch.
    assert [sorted(batch) for batch in one["counted"]] == [sorted(batch) for batch in two["counted"]]
    assert sorted(index for batch in two["counted"] for index in batch) == sorted(3 * list(range(RANKED[number][1])))
    for name, value in one["state"].items():
        torch.testing.assert_close(torch.tensor(value), torch.tensor(two["state"][name]), atol=2e-4, rtol=0, msg=name)
    torch.testing.assert_close(torch.tensor(one["logits"]), torch.tensor(two["logits"]), atol=1e-4, rtol=0)


def test_only_the_unimodal_tasks_that_are_joined_are_learned(tmp_path):
    def trained(name, **options):
        trainer = SelfMMTrainer(
            model(),
            arguments(tmp_path / name, num_train_epochs=1, weight_decay=0.0, **options),
            train_dataset=corpus(),
            eval_dataset=corpus(9, 1),
        )
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        after = trainer.model.state_dict()
        return {name for name in before if not torch.equal(before[name], after[name])}

    def heads(changed):
        return {name.split(".")[1] for name in changed if name.startswith("heads.")}

    assert heads(trained("all")) == {"fusion", "text", "audio", "vision"}
    assert heads(trained("some", unimodal_tasks=["audio", "text"])) == {"fusion", "text", "audio"}
    fusion = trained("none", unimodal_tasks=[])
    assert heads(fusion) == {"fusion"} and any(name.startswith("encoders.vision") for name in fusion)
    with pytest.raises(ValueError, match=r"unimodal_tasks: \['face'\] are none of the modalities"):
        trained("wrong", unimodal_tasks=["face"])


def test_weight_adjustment_and_momentum_can_be_switched_off(tmp_path):
    args = arguments(tmp_path, convention="paper", agreement_weight=1.0, momentum=False)
    trainer = SelfMMTrainer(model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1))
    labels, rows = trainer.pseudo_labels, torch.arange(22)
    labels.labels["text"] += 0.5
    assert all(torch.equal(weights, torch.ones(22, 1)) for weights in labels.weights(rows).values())
    new = torch.full((22, 1), 0.25)
    labels._change_labels("text", rows, new, torch.ones(22, dtype=torch.bool), epoch=3)
    assert torch.equal(labels.labels["text"], new)
    with pytest.raises(ValueError, match=r"agreement_weight must be in \[0, 1\], got 2"):
        arguments(tmp_path, agreement_weight=2.0)


def test_folded_batches_take_the_same_steps(tmp_path):
    def trained(fold, convention):
        args = arguments(tmp_path / f"{convention}-{fold}", fold_accumulation=fold, convention=convention)
        batches = []
        trainer = InOrder(model(), args, train_dataset=corpus(22), eval_dataset=corpus(9, 1))
        trainer.model.register_forward_pre_hook(
            lambda net, _, inputs: batches.append(len(inputs["audio"])) if net.training else None, with_kwargs=True
        )
        trainer.train()
        return trainer, batches

    whole, batches = trained(None, "default")
    parts, small = trained(False, "default")
    assert (batches[:3], small[:6]) == ([8, 8, 6], [4, 4, 4, 4, 4, 2])
    assert whole.args.gradient_accumulation_steps == 1 and parts.args.gradient_accumulation_steps == 2
    assert whole.state.global_step == parts.state.global_step == 12
    assert_same(state_of(whole), state_of(parts), atol=1e-4)
    _, official = trained(True, "official")
    assert official[:6] == small[:6]  # its labels are updated batch by batch


def test_accumulated_batches_are_folded_by_themselves_on_a_cpu_alone(tmp_path, monkeypatch):
    """A GPU may lack the memory that they were to save."""
    args = [arguments(tmp_path, fold_accumulation=fold) for fold in (None, True, False)]
    assert [one.folds for one in args] == [True, True, False]
    monkeypatch.setattr(SelfMMTrainingArguments, "device", torch.device("cuda"))
    assert [one.folds for one in args] == [False, True, False]


class Records(TrainerCallback):
    """As the trackers do."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.logged = [args.to_dict(), args.to_sanitized_dict(), json.loads(args.to_json_string())]


def test_what_is_logged_is_what_was_asked_for(tmp_path):
    records = Records()
    options = dict(num_train_epochs=1, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
    trainer = SelfMMTrainer(model(), arguments(tmp_path, **options), train_dataset=corpus(), callbacks=[records])
    trainer.train()
    assert trainer.args.train_batch_size == 8
    for logged in records.logged:
        assert (logged["per_device_train_batch_size"], logged["gradient_accumulation_steps"]) == (4, 2)
    assert records.logged[1]["train_batch_size"] == 4


class Looks(TorchDispatchMode):
    """Counts where Python asks for a value: there a GPU has to be waited for."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **kwargs or {})


def test_no_step_waits_for_the_device(tmp_path, monkeypatch):
    for module in (modeling_selfmm, packing_selfmm):
        monkeypatch.setattr(module, "may_look", lambda _: False)  # as on a GPU
    trainer = SelfMMTrainer(model(), arguments(tmp_path, num_train_epochs=1, eval_strategy="no", save_strategy="no",
                                               load_best_model_at_end=False), train_dataset=corpus(64))  # fmt: skip
    counts, looks, step = [], Looks(), trainer.training_step

    def training_step(*args, **kwargs):
        counts.append(looks.seen)
        return step(*args, **kwargs)

    trainer.training_step = training_step
    with looks:
        trainer.train()
    # From one step to the next, with all that `Trainer` does in between.
    assert len(counts) == 8 and len(set(counts)) == 1
    assert looks.seen > counts[-1]  # the log at the end of the epoch


@pytest.mark.parametrize("convention", ["default", "official"])
def test_a_device_without_float64(tmp_path, monkeypatch, convention):
    """All of a training, step by step, on a stand-in for Apple's MPS; it ends as on the CPU."""

    def trained(device):
        monkeypatch.setattr(SelfMMTrainingArguments, "device", property(lambda self: self._setup_devices and device))
        options = dict(load_best_model_at_end=False, eval_strategy="no", save_strategy="no", num_train_epochs=2)
        args = arguments(tmp_path, convention=convention, **options)
        monkeypatch.setitem(PartialState._shared_state, "device", device)
        trainer = SelfMMTrainer(model(), args, train_dataset=corpus(12))
        trainer.train()
        assert trainer.model.device == device
        weights, labels = state_of(trainer)
        return {name: value.cpu() for name, value in weights.items()}, labels

    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, **given: autocast(kind.replace(DEVICE.type, "cpu"), **given))
    expected = trained(torch.device("cpu"))
    with NoFloat64():
        found = trained(DEVICE)
    assert_same(expected, found, atol=1e-4)
    assert any((found[1][f"labels.{task}"] != found[1]["labels.fusion"]).any() for task in ("text", "audio", "vision"))


def test_a_second_training_begins_anew(tmp_path):
    trainer = SelfMMTrainer(
        model(), arguments(tmp_path, early_stopping_patience=2), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    for _ in range(2):
        trainer.train()
        assert len(trainer.pseudo_labels.history) == round(trainer.state.epoch)


def test_hyperparameter_search_of_the_trainer(tmp_path):
    pytest.importorskip("optuna")
    best_epochs, begun = [], []

    class Watched(SelfMMTrainer):
        def train(self, *args, **kwargs):
            result = super().train(*args, **kwargs)
            history = [one["eval_selection_loss"] for one in self.state.log_history if "eval_selection_loss" in one]
            best_epochs.append(min(history))
            begun.append((len(self.pseudo_labels.history), self.pseudo_labels.centres("text").shape[-1]))
            return result

    def init(trial):
        return model(text_head_dim=16 if trial is None else trial.suggest_int("text_head_dim", 4, 30))

    trainer = Watched(
        None,
        arguments(tmp_path, learning_rate=0.05, save_total_limit=1),
        train_dataset=corpus(),
        eval_dataset=corpus(9, 1),
        model_init=init,
    )
    best = trainer.hyperparameter_search(
        lambda trial: {"weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-2)}, n_trials=3, backend="optuna"
    )
    assert best.objective == min(best_epochs) and set(best.hyperparameters) == {"weight_decay", "text_head_dim"}
    assert [epochs for epochs, _ in begun] == [4, 4, 4] and len({dim for _, dim in begun}) > 1


class Tracker:
    """As trackio, of which a run that is begun by the name of another one goes on with it."""

    def __init__(self):
        self.runs, self.open, self.config = {}, None, {}
        self.context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))

    def init(self, project, name, resume, **kwargs):
        assert resume == "allow"
        self.open = self.runs.setdefault(name or f"unnamed-{len(self.runs)}", [])

    def log(self, metrics):
        self.open.extend(metrics)

    def finish(self):
        self.open = None


@pytest.mark.parametrize("name", [None, "mine"])
def test_trackio_has_one_run_of_a_training(tmp_path, monkeypatch, name):
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: True)
    args = arguments(tmp_path / "run", num_train_epochs=1, report_to=["trackio"], run_name=name)
    for trainings in (1, 2):  # of two trainers, each with runs of its own, and named by the user all in one
        trainer = SelfMMTrainer(model(), args, train_dataset=corpus(), eval_dataset=corpus(9, 1))
        trainer.train()
        trainer.predict(corpus(9, 1))
        assert len(tracker.runs) == (1 if name else trainings)
        logged = list(tracker.runs.values())[-1]
        assert "train/loss" in logged and "test/selection_loss" in logged
        assert all(one.startswith(name or "run-") for one in tracker.runs)


@pytest.mark.parametrize(("metric", "greater"), [("accuracy", True), ("eval_error", False)])
def test_a_search_follows_the_metric_of_the_best_model(tmp_path, metric, greater):
    pytest.importorskip("optuna")
    values = iter([0.5, 0.9, 0.2, 0.7, 0.6, 0.65])  # by trial and epoch
    best = []

    class Watched(SelfMMTrainer):
        def evaluate(self, *args, **kwargs):
            metrics = super().evaluate(*args, **kwargs)
            return metrics | {f"eval_{metric.removeprefix('eval_')}": next(values)}

    args = arguments(tmp_path, num_train_epochs=2, metric_for_best_model=metric, greater_is_better=greater)
    trainer = Watched(None, args, train_dataset=corpus(), eval_dataset=corpus(9, 1), model_init=lambda: model())
    space = {"hp_space": lambda trial: {"weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1)}}
    with pytest.raises(ValueError, match=f"direction must be {'maximize' if greater else 'minimize'}, got"):
        trainer.hyperparameter_search(direction="minimize" if greater else "maximize", **space)
    best = trainer.hyperparameter_search(n_trials=3, backend="optuna", **space)
    assert (best.objective, best.run_id) == ((0.9, "0") if greater else (0.2, "1"))


def test_a_search_may_draw_the_size_of_batches(tmp_path):
    pytest.importorskip("optuna")
    steps = []

    class Watched(SelfMMTrainer):
        def train(self, *args, **kwargs):
            result = super().train(*args, **kwargs)
            steps.append(self.state.global_step)
            return result

    trainer = Watched(
        None,
        arguments(tmp_path, num_train_epochs=1),
        train_dataset=corpus(24),
        eval_dataset=corpus(9, 1),
        model_init=lambda: model(),
    )
    space = [{"per_device_train_batch_size": size} for size in (6, 2)]
    trainer.hyperparameter_search(lambda trial: space[trial.number], n_trials=2, backend="optuna")
    assert steps == [24 // (6 * 2), 24 // (2 * 2)]  # of as many batches as were asked for


def test_the_trainer_refuses_to_push_what_would_not_load(tmp_path):
    options = {"push_to_hub": True, "hub_model_id": "me/model"}
    with pytest.raises(ValueError, match=r"selfmm push FOLDER NAME/REPOSITORY"):
        SelfMMTrainer(
            model(), arguments(tmp_path / "run", **options), train_dataset=corpus(), eval_dataset=corpus(9, 1)
        )
    assert not (tmp_path / "run").exists()
    trainer = SelfMMTrainer(model(), arguments(tmp_path / "run"), train_dataset=corpus(), eval_dataset=corpus(9, 1))
    with pytest.raises(ValueError, match=r"Run\.publish"):
        trainer.push_to_hub()
