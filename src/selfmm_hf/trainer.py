"""A [`Trainer`] that generates Self-MM's unimodal labels while it trains."""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainerCallback

from .collator import SelfMMCollator
from .modeling_selfmm import SelfMMModel, SelfMMOutput, multitask_loss
from .pseudo_labels import CONVENTIONS, Convention, PseudoLabels
from .training_args import SelfMMTrainingArguments

PSEUDO_LABELS_FILE = "pseudo_labels.safetensors"


class SelfMMTrainer(Trainer):
    """
    Trains a [`SelfMMModel`]. Beyond [`Trainer`]:

    - the loss is [`multitask_loss`] with the unimodal labels of [`PseudoLabels`], which each batch updates after
      its backward pass; they are saved in every checkpoint, so that a resumed run equals one that was not stopped;
    - every sample counts once, however a batch is split into accumulated batches or over processes (in the official
      convention: as the official code has it);
    - `eval_selection_loss`, the L1 loss of the fused prediction on the validation split, chooses the best model and
      stops early;
    - each module may have its own learning rate and weight decay.

    Args:
        model, args, eval_dataset, callbacks, compute_metrics, ...: As in [`Trainer`].
        train_dataset: Samples as [`SelfMMCollator`] takes them, with `label`: a list, or a data set with columns such
            as [`Samples`] or one of `datasets`. The order gives a sample its identity.
        convention: A convention of your own, in place of the one that `args.convention` names.
    """

    # `compute_loss` below divides by the number of labels in a step.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: SelfMMModel,
        args: SelfMMTrainingArguments,
        train_dataset: Dataset | list[dict[str, Any]] | None = None,
        eval_dataset: Dataset | list[dict[str, Any]] | None = None,
        data_collator: Callable | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        convention: Convention | None = None,
        **kwargs,
    ):
        self.convention = convention or CONVENTIONS[args.convention]
        self._field_metrics = compute_metrics
        config = model.config
        callbacks = [_EndOfEpoch(self), *(callbacks or [])]
        if args.early_stopping_patience and eval_dataset is not None:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        super().__init__(
            model=model,
            args=args,
            train_dataset=None if train_dataset is None else _Indexed(train_dataset),
            eval_dataset=eval_dataset,
            data_collator=data_collator or SelfMMCollator(tuple(config.sequences)),
            compute_metrics=self._compute_metrics,
            callbacks=callbacks,
            **kwargs,
        )
        self.pseudo_labels: PseudoLabels | None = None
        if train_dataset is not None:
            # A data set with columns does not read its frames for this.
            samples = isinstance(train_dataset, list)
            labels = [sample["label"] for sample in train_dataset] if samples else train_dataset["label"][:]
            labels = torch.tensor(np.array(labels, dtype=np.float32))
            dims = {task: config.head_options(task)["dim"] for task in ["fusion", *config.modalities]}
            self.pseudo_labels = PseudoLabels(labels.to(args.device), dims, self.convention, config.label_range)
        self._batch: tuple | None = None

    @property
    def current_epoch(self) -> int:
        """The epoch in training, counted from 1 as in the paper."""
        return int(self.state.epoch or 0) + 1

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, SelfMMOutput]:
        inputs = dict(inputs)
        labels, index = inputs.pop("labels"), inputs.pop("index", None)
        outputs = model(**inputs)
        if not model.training:
            loss = (outputs.logits - labels.view_as(outputs.logits)).abs().mean()
            return (loss, outputs) if return_outputs else loss
        if self.convention.sum_accumulated:
            count = labels.numel()  # the mean of each batch, and the gradients add up
        else:
            # Of a full step of this process, so that the few samples of an epoch's last step weigh no more than others.
            step = self.args.train_batch_size * self.args.gradient_accumulation_steps
            share = math.ceil(len(self.train_dataset) / self.args.world_size)
            count = min(step, share) * labels[0].numel()
        loss = multitask_loss(
            outputs,
            labels,
            {task: self.pseudo_labels.labels[task][index] for task in self.pseudo_labels.modalities},
            self.pseudo_labels.weights(index),
            count,
        )
        self._batch = (
            index,
            {task: values.detach().float() for task, values in outputs.representations.items()},
            outputs.present,
        )
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: torch.nn.Module, inputs: dict, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        batch, self._batch = self._batch, None
        if self.accelerator.num_processes > 1:
            batch = _each_once(*self.accelerator.gather(batch))
        self.pseudo_labels.update(*batch, epoch=self.current_epoch)
        if (
            self.convention.sum_accumulated
            and self.current_gradient_accumulation_steps < self.args.gradient_accumulation_steps
        ):
            # The official code never takes the step of an incomplete group; optimizers skip what has no gradient.
            model.zero_grad(set_to_none=True)
        return loss

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = parameter_groups(model, self.args, self.get_decay_parameter_names(model))
            if self.args.coupled_weight_decay:
                betas = (self.args.adam_beta1, self.args.adam_beta2)
                self.optimizer = torch.optim.Adam(groups, betas=betas, eps=self.args.adam_epsilon)
            else:
                optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
                self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0]
        error = np.abs(logits - prediction.label_ids.reshape(logits.shape)).mean(-1)
        if self.convention.mean_of_batch_means:
            size = self.args.eval_batch_size
            selection = np.mean([error[start : start + size].mean() for start in range(0, len(error), size)])
        else:
            selection = error.mean()
        field = {} if self._field_metrics is None else self._field_metrics(prediction)
        return {"selection_loss": float(selection), **field}

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and self.pseudo_labels is not None:
            save_file(self.pseudo_labels.state_dict(), os.path.join(output_dir, PSEUDO_LABELS_FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        file = os.path.join(checkpoint, PSEUDO_LABELS_FILE)
        if not os.path.isfile(file):
            raise FileNotFoundError(f"{checkpoint} has no {PSEUDO_LABELS_FILE}: it is no whole checkpoint of Self-MM.")
        self.pseudo_labels.load_state_dict(load_file(file))


def parameter_groups(
    model: torch.nn.Module, args: SelfMMTrainingArguments, decay_names: list[str]
) -> list[dict[str, Any]]:
    """
    Groups by learning rate and weight decay. In the text encoder, biases and normalisation layers have no weight
    decay (those not in `decay_names`), everywhere else they have, as in the official code.

    Raises:
        ValueError: A prefix of `learning_rates` or `weight_decays` matches no parameter.
    """
    groups: dict[tuple[float, float], list] = {}
    used = set()

    def value(rates: dict[str, float], otherwise: float, name: str) -> float:
        prefixes = [prefix for prefix in rates if name == prefix or name.startswith(f"{prefix}.")]
        used.update(prefixes)
        return rates[max(prefixes, key=len)] if prefixes else otherwise

    decay_names = set(decay_names)
    for name, parameter in model.named_parameters():
        rate = value(args.learning_rates, args.learning_rate, name)
        decay = value(args.weight_decays, args.weight_decay, name)
        if name.startswith("encoders.text.") and name not in decay_names:
            decay = 0.0
        if parameter.requires_grad:
            groups.setdefault((rate, decay), []).append(parameter)
    if unused := {*args.learning_rates, *args.weight_decays} - used:
        modules = sorted(name for name, _ in model.named_modules() if name.count(".") <= 1 and name)
        raise ValueError(f"No parameter of the model begins with {sorted(unused)}. Its modules are {modules}.")
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


class _Indexed(Dataset):
    """The samples with their positions, by which they have their generated labels."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.samples[index], "index": index}


class _EndOfEpoch(TrainerCallback):
    """Closes each epoch of the pseudo-labels with its last step, so that a checkpoint of that step has it closed."""

    def __init__(self, trainer: SelfMMTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        if state.epoch == round(state.epoch):
            self.trainer.pseudo_labels.end_epoch(round(state.epoch))

    def on_train_end(self, args, state, control, **kwargs):
        if state.epoch != round(state.epoch):  # stopped within an epoch
            self.trainer.pseudo_labels.end_epoch(math.ceil(state.epoch))


def _each_once(index, features, present):
    """Leaves out the samples by which batches are filled up to equal sizes across processes."""
    unique, inverse = torch.unique(index, return_inverse=True)
    positions = torch.arange(len(index), device=index.device)
    first = torch.full_like(unique, len(index)).scatter_reduce(0, inverse, positions, "amin")
    return (
        unique,
        {task: values[first] for task, values in features.items()},
        {task: values[first] for task, values in present.items()},
    )
