"""A whole training run: data, model, training, results, and the model folder."""

import importlib.util
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_model
from transformers import set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalPrediction
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..data.columns import SPLITS
from ..data.masking import Tokens
from ..data.targets import task_to_json
from ..environment import environment
from ..hub.model_card import PICTURE
from ..hub.model_folder import save_model_folder
from ..hub.push import Pushed, push_run, take_destination
from ..model.processing_selfmm import SelfMMProcessor
from ..storage.whole_files import write_json, write_text, writing
from ..task_metrics import metrics_of
from ..training import checkpoints
from ..training.arguments import SelfMMTrainingArguments
from ..training.collator import SelfMMCollator
from ..training.frozen_text import FrozenText
from ..training.lora import merge_lora
from ..training.missing_data import EpochOf, MissingData
from ..training.parameter_groups import parameter_groups
from ..training.processes import by_first_process, check_free, occupied
from ..training.refused_options import check_checkpointing
from ..training.trainer import SelfMMTrainer, unimodal_tasks
from .folder import (
    ENVIRONMENT_FILE,
    GENERATED_FILE,
    OPTIONS_FILE,
    PREDICTIONS_FILE,
    RESULTS_FILE,
    check_new,
    check_writable,
    checkpoint_of,
    delete_run,
)
from .inputs import read_inputs
from .network import build_model, tokens_at_once
from .options import TAKEN_BY_ITSELF, RunOptions
from .plot import plot_run
from .results import hardware, predicted, predictions_table, pseudo_labels_table, results_of, write_parquet
from .screen import show_epochs

logger = logging.get_logger(__name__)


class Run:
    """
    One training run. Making it reads the data and builds the model, so that errors in the input show before anything is
    written; `train` does the rest.

    Args:
        options: Options for the data, the text encoder and LoRA.
        model_options: Options of [`SelfMMConfig`]. Feature widths are read off the data where they are not given.
        args: Options of the training.
        test: Whether the test split is read once training is over. If not, it is not even loaded, so that nothing can
            learn from it.

    Raises:
        ValueError: The options do not fit each other or the data, or the text encoder cannot be loaded.
    """

    def __init__(self, options: RunOptions, model_options: dict, args: SelfMMTrainingArguments, test: bool = True):
        args = copy(args)  # changed here, while the caller may use it for another run
        self.options, self.args = options, args
        self.folder = Path(args.output_dir)
        self.resumes = (args.resume_from_checkpoint or "false").lower() not in ("false", "0", "no")
        self.checkpoint = by_first_process(self._checkpoint)
        _check_selection(args)
        modalities, label_range = (model_options.get(name) for name in ("modalities", "label_range"))
        self.inputs = read_inputs(options, modalities, label_range, SPLITS if test else SPLITS[:2], self._tell)
        self.splits, self.tokenizer = self.inputs.splits, self.inputs.tokenizer
        self._adjust_rates()
        set_seed(args.seed)
        self.model = build_model(options, model_options, self.inputs, self._tell)
        self.max_text_tokens = tokens_at_once(self.model, options, self.inputs)
        parameter_groups(self.model, args, [])  # raises an error for prefixes that match nothing
        check_checkpointing(args, self.model)
        unimodal_tasks(args, self.model.config.modalities)
        self.unknown = Tokens.of(self.tokenizer) if options.max_missing_rate else None
        self.destination = take_destination(args)

    def _tell(self, message: str) -> None:
        if self.args.should_log:
            logger.warning(message)

    def _adjust_rates(self) -> None:
        """Drops the rates of modalities that are not learned from."""
        if self.options.preset_taken:
            self._tell(f"No --config is given: the preset {TAKEN_BY_ITSELF} is used.")
        for name in ("learning_rates", "weight_decays"):
            rates = getattr(self.args, name).items()
            kept = {one: rate for one, rate in rates if one.partition(".")[2] not in self.inputs.left_out}
            setattr(self.args, name, kept)

    def _checkpoint(self) -> Path | None:
        """
        Finds the checkpoint from which the run resumes, if there is one.

        Raises:
            ValueError: The run can neither start nor resume in its folder.
        """
        check_writable(self.folder)
        check_free(self.folder)
        if self.resumes:
            wanted = self.args.resume_from_checkpoint
            return checkpoint_of(self.folder, wanted, self.options.given, self.args.num_train_epochs)
        if not self.options.overwrite_output_dir:
            check_new(self.folder)
        return None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """
        Keeps other trainings out of the folder. `train` does so itself; this is for what comes before and after it. May
        be nested, but must be entered before `train` is called.

        Raises:
            FolderInUse: Another process is at work there.
            ValueError: Another process has been there since this run was made.
        """
        with occupied(self.folder):
            self.checkpoint = by_first_process(self._checkpoint)
            yield

    def train(self) -> dict[str, Any]:
        """
        Trains, chooses the epoch with the best validation loss, then reads the test split, once. Leaves in the output
        folder `all_results.json`, `environment.json`, `predictions.parquet`, `pseudo_labels.parquet` and
        `trainer_state.json`; if the test split is read, also `model/` and, if matplotlib is installed, `run.png`.

        Returns:
            What `all_results.json` holds.

        Raises:
            FolderInUse, ValueError: See [`alone`].
        """
        with self.alone():
            return self._train()

    def _train(self) -> dict[str, Any]:
        task = self.model.config.task

        def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
            return metrics_of(task, predicted(task, prediction.predictions[0]), prediction.label_ids)

        pad = 0 if self.tokenizer is None else self.tokenizer.pad_token_id
        splits, callbacks = self.splits, []
        rate = self.options.max_missing_rate
        frozen = self.tokenizer is not None and self.model.config.freeze_text_encoder and not rate
        if frozen:
            splits = {split: FrozenText(samples) for split, samples in self.splits.items()}
        train, validation = splits["train"], splits["validation"]
        if rate:
            train, validation = (
                MissingData(samples, self.unknown, rate, self.args.seed) for samples in (train, validation)
            )
            callbacks = [EpochOf(train)]
        trainer = SelfMMTrainer(
            self.model,
            self.args,
            train_dataset=train,
            eval_dataset=validation,
            callbacks=callbacks,
            data_collator=SelfMMCollator(tuple(self.model.config.sequences), pad),
            compute_metrics=compute_metrics,
        )
        show_epochs(trainer)
        started = time.monotonic()
        by_first_process(lambda: self._prepare_folder(trainer))
        if frozen:
            self._read_texts(trainer, splits)
        trainer.train(resume_from_checkpoint=None if self.checkpoint is None else str(self.checkpoint))
        lora = self._lora()
        if not trainer.is_fsdp_enabled:  # so that the results are those of the saved model
            merge_lora(self.model)
        outputs = {split: trainer.predict(samples, metric_key_prefix=split) for split, samples in splits.items()}
        self.model = trainer.whole_model()
        if not trainer.is_world_process_zero():
            return {}
        merge_lora(self.model)
        with writing(self.folder / TRAINER_STATE_NAME):
            trainer.save_state()
        modalities = self.model.config.modalities
        judged = {split: output for split, output in outputs.items() if split != "train"}
        results = {
            "dataset": self.options.dataset,
            "text_encoder": self.options.text_encoder,
            "text_pooling": self.model.config.text_pooling if "text" in modalities else None,
            **lora,
            "convention": self.args.convention,
            "seed": self.args.seed,
            "task": task_to_json(task),
            **results_of(self.splits, trainer, judged, modalities),
        }
        context = self.options.context_utterances
        processor = SelfMMProcessor(self.inputs.extractor, self.tokenizer, self.max_text_tokens, context)
        write_parquet(self.folder / PREDICTIONS_FILE, predictions_table(self.splits, outputs, modalities, task))
        write_parquet(self.folder / GENERATED_FILE, pseudo_labels_table(self.splits, trainer, modalities))
        if "test" in self.splits:
            if importlib.util.find_spec("matplotlib"):
                plot_run(self.folder, trainer.state.log_history, results["best_epoch"], self.splits)
            facts = self._facts(results, trainer)
            save_model_folder(self.folder / "model", self.model, processor, facts, self.folder / PICTURE)
        self._environment["sessions"][-1]["seconds"] = round(time.monotonic() - started, 1)
        write_json(self.folder / ENVIRONMENT_FILE, self._environment)
        write_json(self.folder / RESULTS_FILE, results)
        return results

    def _lora(self) -> dict[str, float]:
        """Returns what the results say of LoRA, if it is used."""
        if not self.options.lora_rank:
            return {}
        parameters = list(self.model.encoders["text"].parameters())
        return {
            "lora_rank": self.options.lora_rank,
            "lora_alpha": self.options.lora_alpha or 2 * self.options.lora_rank,
            "lora_parameters": sum(one.numel() for one in parameters if one.requires_grad),
            "text_encoder_parameters": sum(one.numel() for one in parameters if not one.requires_grad),
        }

    def _read_texts(self, trainer: SelfMMTrainer, splits: dict[str, FrozenText]) -> None:
        """Reads the texts once, if one process has the whole encoder; otherwise each batch reads its own."""
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            return
        if self.checkpoint is not None:  # the encoder as it was then, even if its source has changed
            load_model(self.model, self.checkpoint / SAFE_WEIGHTS_NAME)
        progress = not self.args.disable_tqdm and trainer.is_local_process_zero()
        for samples in splits.values():
            samples.read(self.model, trainer.data_collator, self.args.eval_batch_size, progress)

    def publish(self) -> Pushed | None:
        """
        Pushes the model, once, from one process, after `train`, if `--push_to_hub` asks for it.

        Raises:
            PushError: Pushing failed; the run is still whole.
        """
        if self.destination is None or self.args.process_index != 0:
            return None
        return push_run(self.folder, self.destination)

    def _prepare_folder(self, trainer: SelfMMTrainer) -> None:
        if self.options.overwrite_output_dir and not self.resumes:
            delete_run(self.folder)
        for line in checkpoints.clear(self.folder):
            logger.warning(line)
        if self.resumes:
            logger.warning(f"Resuming from {self.checkpoint or 'the beginning: no checkpoint had been completed'}.")
        self.folder.mkdir(parents=True, exist_ok=True)
        given = yaml.safe_dump(self.options.given, allow_unicode=True)
        write_text(self.folder / OPTIONS_FILE, given)
        file = self.folder / ENVIRONMENT_FILE
        before = json.loads(file.read_text("utf-8"))["sessions"] if self.resumes and file.is_file() else []
        device = {
            "device": hardware(trainer),
            "resumed_from": self.checkpoint and self.checkpoint.name,
            "seconds": None,
        }
        sessions = [*before, environment() | device]
        self._environment = {"data": self.data_fingerprint(), "task": task_to_json(trainer.task), "sessions": sessions}
        write_json(self.folder / ENVIRONMENT_FILE, self._environment)

    def data_fingerprint(self) -> dict[str, str]:
        """Returns a fingerprint of each split; other data have others."""
        return {split: samples.fingerprint() for split, samples in self.splits.items()}

    def _facts(self, results: dict, trainer: SelfMMTrainer) -> dict:
        """Returns what the model card says of this run."""
        names = ("data", "data_config", "data_revision", "text_encoder_revision", "presets", "overrides")
        return {
            **results,
            **{name: getattr(self.options, name) for name in names},
            "sizes": {split: len(samples) for split, samples in self.splits.items()},
            "hardware": hardware(trainer),
            "processes": trainer.accelerator.num_processes,
        }


def _check_selection(args: SelfMMTrainingArguments) -> None:
    """
    Raises:
        ValueError: Something other than the validation loss would choose the model.
    """
    expected = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "selection_loss",
        "greater_is_better": False,
    }
    for name, value in expected.items():
        if getattr(args, name) != value:
            raise ValueError(
                f"{name} must be {value}, got {getattr(args, name)}: a run always keeps the model with the lowest "
                "validation loss. `SelfMMTrainer` in Python takes any."
            )
    if args.eval_strategy == "no" or (args.eval_strategy == "epoch" and args.eval_delay >= args.num_train_epochs):
        raise ValueError("No evaluation would run, so no best model could be chosen: see eval_strategy and eval_delay.")
    if args.eval_strategy == "steps" == args.save_strategy and args.save_steps != args.eval_steps:
        raise ValueError(
            f"save_steps must be eval_steps, {args.eval_steps:g}, got {args.save_steps:g}: the model of any evaluation "
            "may be the best, so each of them must be saved."
        )
