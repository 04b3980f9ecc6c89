"""Replays a recorded run of the official code and compares every number of it.

    python benchmarks/parity.py DIR

DIR holds `config.json`, `inputs.npz`, `initial_weights.safetensors`, `weights_after_step1.safetensors`,
`final_weights.safetensors`, `trajectory.json`, `tolerances.json` and, where metrics are to be compared,
`metrics_cases.json`. The replay runs through SelfMMTrainer with the official convention, on the CPU. It prints the
largest deviation of each quantity per epoch and exits with 1 if one is over its tolerance.
"""

import argparse
import json
import math
import sys
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import BertConfig, TrainerCallback
from transformers.utils import logging

from selfmm_hf.conversion.from_official import model_from_official, rename
from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.metrics import mosi_metrics, sims_metrics
from selfmm_hf.training.arguments import SelfMMTrainingArguments
from selfmm_hf.training.trainer import SelfMMTrainer

OFFICIAL_METRICS = {
    "acc_2_non_negative": "Has0_acc_2",
    "f1_non_negative": "Has0_F1_score",
    "acc_2_negative_positive": "Non0_acc_2",
    "f1_negative_positive": "Non0_F1_score",
    "acc_2": "Mult_acc_2",
    "acc_3": "Mult_acc_3",
    "acc_5": "Mult_acc_5",
    "acc_7": "Mult_acc_7",
    "f1": "F1_score",
    "mae": "MAE",
    "corr": "Corr",
}
# NumPy and Python round ties differently; the official values are Python's where they come from scikit-learn.
ROUNDED_AS = {"mae": np.float32, "corr": np.float64, "acc_5": np.float64, "acc_7": np.float64}
WEIGHTS = ("initial_weights", "weights_after_step1", "final_weights")


def read(file: Path):
    """Reads a file of the recording; ends the program with one line if it cannot be read."""
    readers = {
        ".json": lambda: json.loads(file.read_text("utf-8")),
        ".npz": lambda: dict(np.load(file, allow_pickle=False)),
        ".safetensors": lambda: load_file(file),
    }
    try:
        return readers[file.suffix]()
    except FileNotFoundError:
        sys.exit(f"The recording lacks {file}.")
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, SafetensorError) as error:
        sys.exit(f"{file} cannot be read: {error}")


def official_metrics(dataset: str, predictions, labels) -> dict[str, float]:
    """Computes our metrics under the official names, rounded where the official code rounds."""
    metrics = sims_metrics if dataset == "sims" else mosi_metrics
    values = metrics(np.asarray(predictions, np.float32), np.asarray(labels, np.float32))
    if dataset != "sims":
        values = {name: float(round(ROUNDED_AS.get(name, float)(value), 4)) for name, value in values.items()}
    return {OFFICIAL_METRICS[name]: value for name, value in values.items()}


class Comparison:
    """Keeps the largest deviation by quantity and epoch, against the tolerances of the recording."""

    def __init__(self, tolerances: dict):
        self.tolerances = tolerances
        self.largest: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))

    def add(self, quantity: str, epoch: int, ours, recorded) -> None:
        ours, recorded = np.asarray(ours, np.float64), np.asarray(recorded, np.float64)
        if ours.shape != recorded.shape:
            sys.exit(f"{quantity}, epoch {epoch}: ours has the shape {ours.shape}, the recording {recorded.shape}.")
        by_epoch = self.tolerances["atol"][quantity]
        # A recording may be longer than its table: then the tolerance of the last epoch applies.
        atol = by_epoch.get(str(epoch), by_epoch[max(by_epoch, key=int)])
        self._add(quantity, str(epoch), ours, recorded, atol, self.tolerances["rtol"])

    def add_weights(self, name: str, model, recorded: dict[str, torch.Tensor]) -> None:
        ours = dict(model.named_parameters())
        excepted = self.tolerances["weights"]["except"]
        for official, values in recorded.items():
            parameter = rename(official)
            if parameter is not None and not any(part in official for part in excepted):
                atol = self.tolerances["weights"]["atol"]
                self._add(name, "", ours[parameter].detach().numpy(), values.numpy(), atol, self.tolerances["rtol"])

    def _add(self, quantity, epoch, ours, recorded, atol, rtol) -> None:
        same = (ours == recorded) | (np.isnan(ours) & np.isnan(recorded))
        deviation = np.where(same, 0.0, np.abs(ours - recorded))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(deviation == 0, 0.0, deviation / (atol + rtol * np.abs(recorded)))
        # NaN on one side only is no small deviation, but `max` would drop it.
        deviation, share = (np.where(np.isnan(values), np.inf, values) for values in (deviation, share))
        before = self.largest[quantity, epoch]
        self.largest[quantity, epoch] = (max(before[0], deviation.max()), max(before[1], share.max()))

    def report(self) -> bool:
        print(f"{'quantity':<22}{'epoch':>6}{'largest deviation':>20}{'of its tolerance':>19}")
        for (quantity, epoch), (deviation, share) in self.largest.items():
            verdict = "" if share <= 1 else "  OVER"
            print(f"{quantity:<22}{epoch:>6}{deviation:>20.3e}{share:>18.1%}{verdict}")
        return all(share <= 1 for _, share in self.largest.values())


class Replay(SelfMMTrainer):
    """Trains in the recorded order of samples, and compares as it goes."""

    def __init__(
        self,
        *args,
        recording: list[dict],
        comparison: Comparison,
        weights: dict[str, dict[str, torch.Tensor]],
        groups: list[list[str]],
        dataset: str,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.recording, self.comparison, self.weights = recording, comparison, weights
        self.groups, self.dataset = groups, dataset
        self.batches = self.steps = 0  # of the epoch
        self.any_step = False

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)

    def _recorded(self, what: str, position: int) -> dict:
        """Returns one of the `batches` or `steps` of this epoch."""
        entries = self.recording[self.current_epoch - 1][what]
        if position >= len(entries):
            sys.exit(f"Epoch {self.current_epoch} of the recording has no more than {len(entries)} {what}.")
        return entries[position]

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            index, epoch = inputs["index"], self.current_epoch
            batch = self._recorded("batches", self.batches)
            if index.tolist() != batch["indexes"]:
                sys.exit(f"Batch {self.batches} of epoch {epoch} has other samples than the recording.")
            predictions = {"fusion": outputs.logits, **outputs.unimodal_logits}
            weights = {"fusion": 1.0, **self.pseudo_labels.weights(index)}
            self.comparison.add("loss", epoch, loss.item(), batch["total_loss"])
            for task, values in predictions.items():
                error = (values - self.pseudo_labels.labels[task][index]).abs() * weights[task]
                self.comparison.add("loss", epoch, error.mean().item(), batch["loss"][task])
                self.comparison.add("pred", epoch, values.detach().flatten(), batch["pred"][task])
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args, **kwargs):
        epoch = self.current_epoch
        loss = super().training_step(*args, **kwargs)
        batch = self._recorded("batches", self.batches)
        for task, values in batch["labels_after"].items():
            self.comparison.add("labels", epoch, self.pseudo_labels.labels[task].flatten(), values)
        for task, norms in batch["center_norm_after"].items():
            centres = self.pseudo_labels.centres(task)[:, 0].norm(dim=-1)  # positive, negative
            self.comparison.add("center_norm", epoch, centres, [norms["pos"], norms["neg"]])
        self.batches += 1
        return loss

    def create_optimizer(self, model=None):
        optimizer = super().create_optimizer(model)
        optimizer.register_step_pre_hook(lambda *_: self._before_step())
        optimizer.register_step_post_hook(lambda *_: self._after_step())
        return optimizer

    def _norms(self, what: str) -> list[float]:
        """Returns L2 norms over the official groups. Our model has no pooler, which the official one never trains."""
        parameters = dict(self.model.named_parameters())
        norms = []
        for group in self.groups:
            values = [parameters.get(rename(name), self.weights["initial_weights"][name]) for name in group]
            if what == "gradient":
                values = [value.grad for value in values if value.grad is not None]
            norms.append(math.sqrt(sum(value.double().square().sum().item() for value in values)))
        return norms

    def _is_tail(self) -> bool:
        return self.current_gradient_accumulation_steps < self.args.gradient_accumulation_steps

    def _before_step(self) -> None:
        if not self._is_tail():
            step, norms = self._recorded("steps", self.steps), self._norms("gradient")
            self.comparison.add("grad_norm", self.current_epoch, norms, step["grad_norm_per_group"])
            total = math.sqrt(sum(norm * norm for norm in norms))
            self.comparison.add("grad_norm", self.current_epoch, total, step["grad_norm"])

    def _after_step(self) -> None:
        if not self._is_tail():
            norms = self._recorded("steps", self.steps)["param_norm_per_group_after"]
            self.comparison.add("param_norm", self.current_epoch, self._norms("value"), norms)
            if not self.any_step:
                self.comparison.add_weights("weights after step 1", self.model, self.weights["weights_after_step1"])
            self.any_step = True
            self.steps += 1

    def evaluate_epoch(self, epoch: int) -> None:
        recorded = self.recording[epoch - 1]
        if (self.batches, self.steps) != (len(recorded["batches"]), len(recorded["steps"])):
            sys.exit(f"Epoch {epoch} had {self.batches} batches and {self.steps} steps, the recording has others.")
        self.batches = self.steps = 0
        result = self.predict(self.eval_dataset)
        predictions = result.predictions[0].flatten()
        errors = np.abs(predictions - result.label_ids)
        size = self.args.eval_batch_size
        batch_losses = [errors[start : start + size].mean() for start in range(0, len(errors), size)]
        valid = recorded["valid"]
        self.comparison.add("valid_loss", epoch, result.metrics["test_selection_loss"], valid["loss"])
        self.comparison.add("valid_loss", epoch, batch_losses, valid["batch_losses"])
        self.comparison.add("pred", epoch, predictions, valid["pred"])
        metrics = official_metrics(self.dataset, predictions, result.label_ids)
        for name, value in valid["metrics"].items():
            if name != "Loss":
                self.comparison.add("valid_metrics", epoch, metrics[name], float(value))


class EveryEpoch(TrainerCallback):
    replay: Replay

    def on_epoch_end(self, args, state, control, **kwargs):
        self.replay.evaluate_epoch(round(state.epoch))
        self.replay.model.train()


def samples(inputs: dict[str, np.ndarray], split: str) -> list[dict]:
    """Makes samples of the recorded arrays, with their padding: the model must ignore what is in it."""
    columns = {name.removeprefix(f"{split}_"): values for name, values in inputs.items() if name.startswith(split)}
    tokens = ("input_ids", "attention_mask", "token_type_ids")
    return [
        {
            **{name: columns[name][row].tolist() for name in tokens if name in columns},
            **{name: columns[name][row] for name in ("audio", "vision", "audio_lengths", "vision_lengths")},
            "label": float(columns["labels"][row]),
        }
        for row in range(len(columns["labels"]))
    ]


class PaddedCollator:
    """Stacks rows as they were recorded, with their padding and the recorded lengths."""

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = {
            "labels" if name == "label" else name: torch.tensor(np.array([row[name] for row in rows]))
            for name in rows[0]
        }
        batch["labels"] = batch["labels"].float()
        return batch


def replay(folder: Path) -> bool:
    config, inputs = read(folder / "config.json"), read(folder / "inputs.npz")
    recording = read(folder / "trajectory.json")["epochs"]
    comparison = Comparison(read(folder / "tolerances.json"))
    weights = {name: read(folder / f"{name}.safetensors") for name in WEIGHTS}
    if len(recording) != config["epochs"]:
        sys.exit(f"The recording should have {config['epochs']} epochs (config.json), but has {len(recording)}.")
    sizes, optimizer = config["model"], config["optimizer"]
    if optimizer["amsgrad"] or optimizer["decoupled_weight_decay"] or config["shuffle"]:
        sys.exit("Only recordings with torch.optim.Adam (L2, no AMSGrad) in a fixed order can be replayed.")
    torch.set_num_threads(config["numerics"]["threads"])
    torch.use_deterministic_algorithms(config["numerics"]["deterministic_algorithms"])
    bert = dict(config["bert"])
    attention = bert.pop("attn_implementation")
    dropout = sizes["all_dropouts"]
    model = model_from_official(
        weights["initial_weights"],
        text_config=BertConfig(**bert),
        attn_implementation=attention,
        freeze_text_encoder=not sizes["use_finetune"],
        label_range=config["H"],
        **{f"{task}_head_dropout": dropout for task in ("fusion", "text", "audio", "vision")},
        **{f"{modality}_dropout": dropout for modality in ("audio", "vision")},
    )
    prefixes = {"bert": "encoders.text", "audio": "encoders.audio", "video": "encoders.vision"}
    rates, decays = config["learning_rates"], config["weight_decays"]
    dataset = config["dataset_convention"]
    every_epoch = EveryEpoch()
    with tempfile.TemporaryDirectory() as output:
        args = SelfMMTrainingArguments(
            output_dir=output,
            convention="official",
            num_train_epochs=config["epochs"],
            per_device_train_batch_size=config["batch_size"],
            per_device_eval_batch_size=config["batch_size"],
            gradient_accumulation_steps=config["accumulation"],
            learning_rate=rates["other"],
            weight_decay=decays["other"],
            learning_rates={prefix: rates[name] for name, prefix in prefixes.items()},
            weight_decays={prefix: decays[name] for name, prefix in prefixes.items()},
            adam_beta1=optimizer["betas"][0],
            adam_beta2=optimizer["betas"][1],
            adam_epsilon=optimizer["eps"],
            eval_strategy="no",
            save_strategy="no",
            logging_strategy="no",
            load_best_model_at_end=False,
            early_stopping_patience=0,
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Replay(
            model,
            args,
            train_dataset=samples(inputs, "train"),
            eval_dataset=samples(inputs, "valid"),
            data_collator=PaddedCollator(),
            callbacks=[every_epoch],
            convention=replace(CONVENTIONS["official"], zero_is_positive=not config["exclude_zero"]),
            recording=recording,
            comparison=comparison,
            weights=weights,
            dataset=dataset,
            groups=[group["params"] for group in optimizer["groups"]],
        )
        every_epoch.replay = trainer
        trainer.train()
    comparison.add_weights("final weights", model, weights["final_weights"])
    return comparison.report()


def metric_cases(file: Path) -> bool:
    """Checks that our metrics equal every recorded result of the official functions."""
    wrong, count = [], 0
    for case in read(file)["cases"]:
        ours = official_metrics(case["dataset"], case["pred"], case["true"])
        for name, recorded in case["result"].items():
            count += 1
            if not np.isclose(ours[name], float(recorded), rtol=1e-6, atol=1e-9, equal_nan=True):
                wrong.append(f"{case['dataset']} {case['kind']} {name}: ours {ours[name]}, recorded {recorded}")
    print(f"metrics: {count - len(wrong)} of {count} equal", *wrong, sep="\n  ")
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the recorded run")
    folder = parser.parse_args().folder
    logging.set_verbosity_error()
    good = replay(folder)
    if (folder / "metrics_cases.json").is_file():
        good = metric_cases(folder / "metrics_cases.json") and good
    print("parity: all within tolerance" if good else "parity: NOT within tolerance")
    sys.exit(not good)


if __name__ == "__main__":
    main()
