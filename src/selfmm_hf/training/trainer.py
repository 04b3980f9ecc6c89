"""A [`Trainer`] that generates Self-MM's unimodal labels while it trains."""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset, IterableDataset
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainerCallback, TrainerState
from transformers.integrations import TrackioCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, SaveStrategy, rotate_checkpoints
from transformers.utils import logging

from ..labels.conventions import CONVENTIONS, Convention
from ..labels.pseudo_labels import PseudoLabels
from ..model.configuration_selfmm import SelfMMConfig
from ..model.modeling_selfmm import SelfMMModel, SelfMMOutput, multitask_loss
from ..model.task_selfmm import Task
from . import checkpoints
from .arguments import SelfMMTrainingArguments
from .checkpoints import PSEUDO_LABELS_FILE, CheckpointError
from .collator import SelfMMCollator
from .lora import add_same_lora
from .parameter_groups import parameter_groups, text_rate_warning
from .processes import occupied
from .refused_options import check_parts

logger = logging.get_logger(__name__)


class SelfMMTrainer(Trainer):
    """
    Trains a [`SelfMMModel`]. Beyond [`Trainer`]:

    - the loss is [`multitask_loss`] with the unimodal labels of [`PseudoLabels`], which each batch updates after
      its backward pass; they are saved in every checkpoint, so that a resumed run equals one that was not stopped;
    - every sample counts once, however a batch is split into accumulated batches or over processes, although
      processes fill up an epoch's last batch with samples that they have seen (the official convention follows the
      official code);
    - a checkpoint counts only when it is whole (see `checkpoints.py`), and an older one is deleted only then;
    - `eval_selection_loss`, the loss of the fused prediction on the validation split, chooses the best model and
      stops early;
    - each module may have its own learning rate and weight decay.

    Args:
        model, args, eval_dataset, callbacks, compute_metrics, model_init, ...: As in [`Trainer`].
        train_dataset: Samples as [`SelfMMCollator`] takes them, with `label`: a list, or a data set with a length and
            an index, such as [`Samples`] or one of `datasets`. The order gives a sample its identity.
        convention: A convention of your own, in place of the one that `args.convention` names.
    """

    # `compute_loss` below divides by the number of labels in a step.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: SelfMMModel | None,
        args: SelfMMTrainingArguments,
        *,
        data_collator: Callable | None = None,
        train_dataset: Dataset | list[dict[str, Any]] | None = None,
        eval_dataset: Dataset | list[dict[str, Any]] | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        convention: Convention | None = None,
        **kwargs,
    ):
        own = {name: getattr(args, name) for name in ("agreement_weight", "momentum")}
        own = {name: value for name, value in own.items() if value is not None}
        self.convention = replace(convention or CONVENTIONS[args.convention], **own)
        check_parts(args, **kwargs)
        if self.convention.distance == "axis" and not self.convention.sum_accumulated and args.folds:
            args = args.folded()
        self._names_runs = args.run_name is None and "trackio" in args.report_to
        self._field_metrics = compute_metrics
        callbacks = [_Epochs(self), *(callbacks or [])]
        if args.early_stopping_patience and eval_dataset is not None:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        super().__init__(
            model=model,
            args=args,
            train_dataset=None if train_dataset is None else _Indexed(train_dataset),
            eval_dataset=eval_dataset,
            data_collator=data_collator,
            compute_metrics=self._compute_metrics,
            callbacks=callbacks,
            **kwargs,
        )
        if data_collator is None:
            self.data_collator = SelfMMCollator(tuple(self.model.config.sequences))
        self.pseudo_labels: PseudoLabels | None = None
        self._batch: tuple | None = None
        self._begin(self.model.config)

    def _begin(self, config: SelfMMConfig) -> None:
        """Resets all that a training changes besides the model."""
        if config.members > 1:
            raise ValueError("An ensemble is not trained, its members are: leave members out of the configuration.")
        self.unimodal_tasks = unimodal_tasks(self.args, config.modalities)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = 0
        if self.train_dataset is None:
            return
        labels = torch.tensor(self.train_dataset.labels(), device=self.args.device)
        dims = {task: config.head_options(task)["dim"] for task in ["fusion", *config.modalities]}
        self.pseudo_labels = PseudoLabels(labels, dims, self.convention, config.task)

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return self.accelerator.unwrap_model(self.model).config.task

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
        labels, index, task = inputs.pop("labels"), inputs.pop("index", None), self.task
        if self.is_fsdp_enabled:
            inputs = _with_every_modality(inputs, self.model.config, len(labels))
        outputs = model(**inputs)
        if not model.training:
            loss = task.losses(outputs.logits, task.targets(labels)).mean()
            return (loss, outputs) if return_outputs else loss
        if self.convention.sum_accumulated:
            count = len(labels) * task.columns  # the mean of each batch; the gradients add up
        else:
            # Of a full step of this process, so that the few samples of an epoch's last step count no more than others.
            step = self.args.train_batch_size * self.args.gradient_accumulation_steps
            count = min(step, len(self.train_dataset) / self.args.world_size) * task.columns
        first = self._first_in_epoch(index)
        loss = multitask_loss(
            outputs,
            labels,
            self.pseudo_labels.targets(index),
            self._weights(index),
            count,
            first,
            task,
        )
        representations = {task: values.detach().float() for task, values in outputs.representations.items()}
        self._batch = (index, representations, outputs.present, first)
        return (loss, outputs) if return_outputs else loss

    def _weights(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns `W_s`, which is 0 for the tasks that are not learned."""
        weights = self.pseudo_labels.weights(index)
        return {name: w if name in self.unimodal_tasks else torch.zeros_like(w) for name, w in weights.items()}

    def training_step(self, model: torch.nn.Module, inputs: dict, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self._batch is None:
            raise TypeError(
                f"{type(self).__name__}.compute_loss must call that of SelfMMTrainer, which hands the batch to the "
                "label generation: `loss, outputs = super().compute_loss(model, inputs, return_outputs=True)`."
            )
        (index, representations, present, first), self._batch = self._batch, None
        if first is not None:
            index, representations, present, first = self.accelerator.gather((index, representations, present, first))
            index = index[first]
            representations, present = (
                {task: values[first] for task, values in tensors.items()} for tensors in (representations, present)
            )
        self.pseudo_labels.update(index, representations, present, epoch=self.current_epoch)
        if (
            self.convention.sum_accumulated
            and self.current_gradient_accumulation_steps < self.args.gradient_accumulation_steps
        ):
            # The official code never takes the step of an incomplete group. Optimizers skip what has no gradient.
            model.zero_grad(set_to_none=True)
        return loss

    def _first_in_epoch(self, index: torch.Tensor) -> torch.Tensor | None:
        """
        Finds the samples of this process's batch that are new in this epoch, (batch,); `None` if all are.

        Processes fill up the last batches of an epoch with samples from its start, so that all have the same number.
        """
        if self.accelerator.num_processes == 1:
            return None
        everywhere = self.accelerator.gather(index)  # by rank, as the batches of one process would follow each other
        position = torch.arange(len(everywhere), device=index.device)
        earlier = (everywhere.unsqueeze(0) == everywhere.unsqueeze(1)) & (position < position.unsqueeze(1))
        first = ~earlier.any(-1) & ~self.pseudo_labels.seen(everywhere, self.current_epoch)
        return first.view(self.accelerator.num_processes, -1)[self.accelerator.process_index]

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = parameter_groups(model, self.args, self.get_decay_parameter_names(model))
            if self.args.should_log and (warning := text_rate_warning(model, groups, self.args)):
                logger.warning(warning)
            if self.args.coupled_weight_decay:
                betas = (self.args.adam_beta1, self.args.adam_beta2)
                fused = self.args.device.type in ("cpu", "cuda")
                self.optimizer = torch.optim.Adam(groups, betas=betas, eps=self.args.adam_epsilon, fused=fused)
            else:
                own = self.optimizer_cls_and_kwargs
                optimizer_class, options = own or self.get_optimizer_cls_and_kwargs(self.args, model)
                self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = torch.from_numpy(prediction.predictions[0]), torch.from_numpy(prediction.label_ids)
        error = self.task.losses(logits, self.task.targets(labels)).mean(-1).numpy()
        if self.convention.mean_of_batch_means:
            size = self.args.train_batch_size  # the batch size of all the official loaders
            selection = np.mean([error[start : start + size].mean() for start in range(0, len(error), size)])
        else:
            selection = error.mean()
        field = {} if self._field_metrics is None else self._field_metrics(prediction)
        return {"selection_loss": float(selection), **field}

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs):
        """
        Trains, or resumes a run.

        Args:
            resume_from_checkpoint: A checkpoint's folder, or `True` for the last whole one in `output_dir`.

        Raises:
            CheckpointError: There is none, the one named is not whole, or one cannot be written.
            FolderInUse: Another process trains in the folder to which checkpoints are to be written.
        """
        folder = Path(self._get_output_dir(trial=kwargs.get("trial")))
        if self._names_runs:  # otherwise predictions after a training would be another run
            self.args = copy(self.args)
            self.args.run_name = f"{folder.resolve().name}-{token_hex(4)}"
        with nullcontext() if self.args.save_strategy == SaveStrategy.NO else occupied(folder):
            result = self._train(resume_from_checkpoint, **kwargs)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TrackioCallback):
                callback._initialized = False  # before transformers 5.16, it logged predictions to the finished run
        return result

    def _train(self, resume_from_checkpoint: str | bool | None, **kwargs):
        if resume_from_checkpoint:
            resume_from_checkpoint = str(self._whole_checkpoint(resume_from_checkpoint))
            state = TrainerState.load_from_json(os.path.join(resume_from_checkpoint, TRAINER_STATE_NAME))
            if stopped_early(state):  # the loop of `Trainer` would train one epoch more
                logger.warning(
                    f"Nothing is left to train: early stopping had ended the run of {resume_from_checkpoint}."
                )
                self.args = copy(self.args)
                self.args.num_train_epochs = state.epoch
        elif self.state.global_step and self.model_init is None:  # trained before
            self._begin(self.model.config)
        return super().train(resume_from_checkpoint=resume_from_checkpoint or None, **kwargs)

    def call_model_init(self, trial: Any = None) -> SelfMMModel:
        model = super().call_model_init(trial)
        if getattr(self, "is_in_train", False):  # not while it is being made
            self._begin(model.config)
        return model

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        **kwargs,
    ):
        """
        Does what [`Trainer.hyperparameter_search`] does, but without `compute_objective`, a trial counts by its best
        epoch, which it keeps: by `metric_for_best_model`, the validation loss by default, in the direction of
        `greater_is_better`. Needs `model_init`. Accumulated batches are not folded, so that trials may draw their size.
        `selfmm search` can be interrupted, and leaves options that reproduce a trial.

        Raises:
            ValueError: `direction` is the opposite one.
        """
        self.args = self.args.given
        metric = (self.args.metric_for_best_model or "selection_loss").removeprefix("eval_")
        better = max if self.args.greater_is_better else min
        if compute_objective is None:
            direction = "maximize" if self.args.greater_is_better else "minimize"
            if kwargs.setdefault("direction", direction) != direction:
                raise ValueError(
                    f"direction must be {direction}, got {kwargs['direction']}: {metric} is the objective, and "
                    f"greater_is_better is {self.args.greater_is_better}."
                )

        def best_epoch(metrics: dict[str, float]) -> float:
            now, before = metrics[f"eval_{metric}"], self.state.best_metric
            return now if before is None else better(before, now)

        return super().hyperparameter_search(hp_space, compute_objective or best_epoch, **kwargs)

    def init_hf_repo(self, *args, **kwargs) -> NoReturn:
        """Refuses to push as well: [`Trainer`] calls this first, see `push_to_hub`."""
        self.push_to_hub()

    def push_to_hub(self, *args, **kwargs) -> NoReturn:
        """
        Refuses to push: [`Trainer`] pushes public repositories without processor, code and card, which do not load.

        Raises:
            ValueError: Always; the message says how else to push.
        """
        raise ValueError(
            "SelfMMTrainer does not push, because it knows the model alone, which does not load from the Hub without "
            "its processor, code and card. `selfmm train --push_to_hub true --hub_model_id NAME/REPOSITORY` and, in "
            "Python, `Run.train` and `Run.publish` of selfmm_hf.runs.run push a whole folder after training; "
            "`selfmm push FOLDER NAME/REPOSITORY`, or selfmm_hf.hub.push.push, at any time."
        )

    def whole_model(self) -> SelfMMModel | None:
        """Returns the trained model, gathered if processes share it, in the first process; must be called by all."""
        if not self.is_fsdp_enabled:
            return self.accelerator.unwrap_model(self.model)
        weights = self.accelerator.get_state_dict(self.model)
        if not self.is_world_process_zero():
            return None
        model = SelfMMModel(self.model.config)  # sharding has changed the class of the old one
        add_same_lora(model, self.model)
        model.load_state_dict(weights)
        return model.eval()

    def _whole_checkpoint(self, wanted: str | bool) -> Path:
        folder = Path(self.args.output_dir)
        checkpoint = checkpoints.to_resume(folder) if wanted is True else Path(wanted)
        if checkpoint is None:
            raise CheckpointError(f"There is no complete checkpoint in {folder} to resume from.")
        checkpoints.check(checkpoint)
        return checkpoint

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = self._get_output_dir(trial=trial)
        checkpoint = Path(folder) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # older ones stay until it is on the disk
        try:
            with checkpoints.written(checkpoint, begins=self.args.should_save):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate_checkpoints(folder, limit, self.state.best_model_checkpoint, use_mtime=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.args.save_only_model and self.args.should_save:
            checkpoints.seal(Path(output_dir))  # nothing more is written

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            # Before `Trainer` writes its state, which is the last file, and deletes older checkpoints.
            checkpoints.seal(Path(output_dir))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save and self.pseudo_labels is not None:
            state = {**self.pseudo_labels.state_dict(), "samples_per_step": torch.tensor(self._samples_per_step)}
            save_file(state, os.path.join(output_dir, PSEUDO_LABELS_FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        state = load_file(os.path.join(checkpoint, PSEUDO_LABELS_FILE))
        if (samples := int(state.pop("samples_per_step"))) != self._samples_per_step:
            raise CheckpointError(
                f"{checkpoint} comes from a run with {samples} samples per step, batch size x accumulated batches x "
                f"processes; this one has {self._samples_per_step}."
            )
        self.pseudo_labels.load_state_dict(state)

    @property
    def _samples_per_step(self) -> int:
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size


def stopped_early(state: TrainerState) -> bool:
    """Checks whether early stopping had ended the run that left `state`."""
    stored = state.stateful_callbacks.get("EarlyStoppingCallback", [])
    return any(
        one["attributes"]["early_stopping_patience_counter"] >= one["args"]["early_stopping_patience"]
        for one in (stored if isinstance(stored, list) else [stored])
    )


def unimodal_tasks(args: SelfMMTrainingArguments, modalities: list[str]) -> list[str]:
    """
    Returns the modalities whose own task is learned.

    Raises:
        ValueError: `args` name one that the model does not have.
    """
    wanted = modalities if args.unimodal_tasks is None else args.unimodal_tasks
    if unknown := set(wanted) - set(modalities):
        raise ValueError(f"unimodal_tasks: {sorted(unknown)} are none of the modalities {modalities}.")
    return wanted


def _with_every_modality(inputs: dict[str, torch.Tensor], config: Any, batch: int) -> dict[str, torch.Tensor]:
    """Adds each modality that the whole batch lacks, with length 0: processes that share weights need all of them."""
    device = next(iter(inputs.values())).device
    nothing = torch.zeros(batch, dtype=torch.long, device=device)
    filled = dict(inputs)
    for name in config.modalities:
        if not config.is_sequence(name) and not {"input_ids", "text_embeds"} & inputs.keys():
            filled["input_ids"] = filled["attention_mask"] = nothing.unsqueeze(-1)
        elif config.is_sequence(name) and name not in inputs:
            width = config.sequence_options(name)["input_dim"]
            filled |= {name: torch.zeros(batch, 1, width, device=device), f"{name}_lengths": nothing}
    return filled


class _Indexed(Dataset):
    """
    The samples with their positions, by which their generated labels are stored.

    Raises:
        TypeError: The samples have no positions.
    """

    def __init__(self, samples):
        numbered = hasattr(samples, "__len__") and hasattr(samples, "__getitem__")
        if isinstance(samples, IterableDataset) or not numbered:
            raise TypeError(
                "train_dataset must support len() and indexing, because generated labels are stored by index; got "
                f"{type(samples).__name__}. Wrap it in list(...)."
            )
        self.samples = samples

    def labels(self) -> NDArray[np.float32]:
        """
        Returns the labels of all samples, (samples,) or (samples, targets).

        Raises:
            ValueError: Some samples have none.
        """
        try:
            try:
                labels = self.samples["label"][:]  # a data set with columns reads no frames for this
            except (TypeError, IndexError):
                labels = [self.samples[row]["label"] for row in range(len(self))]
        except (KeyError, ValueError) as error:
            kind = type(self.samples).__name__
            raise ValueError(
                f"Each sample of train_dataset must have a label; in this {kind}, some have none."
            ) from error
        return np.array(labels, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.samples[index], "index": index}


class _Epochs(TrainerCallback):
    """Ends each epoch of the pseudo-labels with its last step, so that a checkpoint of that step includes it."""

    def __init__(self, trainer: SelfMMTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if not (args.load_best_model_at_end and state.best_global_step):
            return
        # `Trainer` knows it by its path, and continues without it if the folder of the run was moved. It may also be in
        # another folder, where the run began. Only its weights are needed.
        name, folder = f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}", Path(args.output_dir)
        places = [folder / name, checkpoints.aside(folder / name), Path(state.best_model_checkpoint or folder / name)]
        best = next((place for place in places if checkpoints.has_weights(place)), None)
        if best is None:
            raise CheckpointError(f"{places[0]}, the best checkpoint of the run so far, lacks weights.")
        state.best_model_checkpoint = str(best)

    def on_step_end(self, args, state, control, **kwargs):
        if state.epoch == round(state.epoch):
            self.trainer.pseudo_labels.end_epoch(round(state.epoch))

    def on_train_end(self, args, state, control, **kwargs):
        if state.epoch != round(state.epoch):  # stopped within an epoch
            self.trainer.pseudo_labels.end_epoch(math.ceil(state.epoch))
