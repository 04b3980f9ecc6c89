"""A whole training run: data, model, training, results, and the model folder."""

import importlib.util
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.torch import load_model
from transformers import PreTrainedTokenizerBase, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalPrediction
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..data import load_splits
from ..data.columns import MODALITIES, SPLITS
from ..data.masking import Tokens
from ..data.recipe import find_recipe
from ..data.synthetic import demo_text_config, demo_tokenizer
from ..data.targets import task_to_json
from ..environment import environment
from ..hub.model_folder import save_model_folder
from ..hub.push import Pushed, push_run, take_destination
from ..metrics import few_clips
from ..model.configuration_selfmm import SelfMMConfig
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.layers_selfmm import WEIGHTED
from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..model.task_selfmm import Task
from ..model.text_encoder_selfmm import check_tokens, load_tokenizer, readable_tokens
from ..storage.hub_names import check_name, take_from_hub
from ..storage.whole_files import write_json, write_text, writing
from ..task_metrics import metrics_of
from ..training import checkpoints
from ..training.arguments import SelfMMTrainingArguments
from ..training.collator import SelfMMCollator
from ..training.frozen_text import FrozenText
from ..training.missing_data import EpochOf, MissingData
from ..training.parameter_groups import parameter_groups
from ..training.processes import by_first_process, check_free, occupied
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
from .options import TAKEN_BY_ITSELF, RunOptions
from .plot import plot_run
from .results import hardware, predicted, predictions_table, pseudo_labels_table, results_of, write_parquet
from .screen import show_epochs

logger = logging.get_logger(__name__)


def task_options(task: Task) -> dict[str, Any]:
    """The options of [`SelfMMConfig`] that say what is predicted."""
    names = {"id2label": dict(enumerate(task.names))}
    if task.label_range is not None:
        return {"label_range": task.label_range, **({} if task.names == Task().names else names)}
    scales = {"label_scales": [list(scale) for scale in task.scales]} if task.scales else {}
    return {"problem_type": task.problem_type, **names, **scales}


class Run:
    """
    One training run. Making it reads the data and builds the model, so that whatever is wrong with the input shows
    before anything is written; `train` does the rest.

    Args:
        options: What is trained on what.
        model_options: Options of [`SelfMMConfig`]. Feature widths are read off the data where they are not given.
        args: Options of the training.
        test: Whether the test split is read, once training is over. Without, nothing can learn anything of it: it is
            not even loaded.

    Raises:
        ValueError: The options do not fit each other or the data, or the text encoder cannot be loaded.
    """

    def __init__(self, options: RunOptions, model_options: dict, args: SelfMMTrainingArguments, test: bool = True):
        self.options, self.args = options, args
        self.folder = Path(args.output_dir)
        self.resumes = (args.resume_from_checkpoint or "false").lower() not in ("false", "0", "no")
        self.checkpoint = by_first_process(self._checkpoint)
        _check_selection(args)
        modalities = model_options.get("modalities") or MODALITIES
        if options.text_encoder is not None and "text" in modalities:
            check_name(options.text_encoder, owner=False)  # before the data are read, which may take long
        self.splits = load_splits(
            options.dataset,
            options.data,
            options.data_config,
            options.data_revision,
            model_options.get("label_range"),
            SPLITS if test else ("train", "validation"),
            options.problem_type,
        )
        self.task = self.splits["train"].task
        if "modalities" not in model_options and (own := self._own_modalities()):
            modalities = model_options["modalities"] = own
        set_seed(args.seed)
        self._leave_out(modalities)
        if there := self._learnable(modalities):
            modalities = model_options["modalities"] = there
            self._leave_out(there)
        self.tokenizer = self._tokenizer() if "text" in modalities else None
        if options.preset_taken:
            self._tell_preset()
        for split, samples in self.splits.items():
            said = few_clips(split, len(samples))
            if said and split != "train" and args.should_log:
                logger.warning(said)
        if self.tokenizer is not None:
            for split, samples in self.splits.items():
                cut = samples.tokenize(self.tokenizer, options.max_text_tokens)
                if cut and args.should_log:
                    logger.warning(
                        f"{cut} of {len(samples)} texts of the {split} split have more than {options.max_text_tokens} "
                        "tokens and are cut; see --max_text_tokens."
                    )
        self.extractor = self._extractor()
        self.model = self._model(model_options)
        self.max_text_tokens = options.max_text_tokens if self.tokenizer is None else self._readable_tokens()
        parameter_groups(self.model, args, [])  # complains of prefixes that match nothing
        unimodal_tasks(args, self.model.config.modalities)
        self.unknown = Tokens.of(self.tokenizer) if options.max_missing_rate else None
        self.destination = take_destination(args)

    def _tell_preset(self) -> None:
        """Of an encoder that begins untrained, on word vectors, the preset's rate for a pretrained one is forgotten."""
        if self.args.should_log:
            logger.warning(f"No --config is given: the preset {TAKEN_BY_ITSELF} is used.")
        if self.tokenizer is None:
            for rates in (self.args.learning_rates, self.args.weight_decays):
                rates.pop("encoders.text", None)

    def _checkpoint(self) -> Path | None:
        """
        From where the run goes on, if from anywhere.

        Raises:
            ValueError: It can neither begin nor go on in its folder.
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
        Keeps other trainings out of the folder, as `train` does by itself: for what comes before and after it. May be
        nested, and entered only while `train` has not been called.

        Raises:
            FolderInUse: Another process is at work there.
            ValueError: One has been there since this run was made.
        """
        with occupied(self.folder):
            self.checkpoint = by_first_process(self._checkpoint)
            yield

    def _own_modalities(self) -> list[str]:
        """Those of data that have others than text, audio and vision, or text alone."""
        sequences = ["text" if name == "word_vectors" else name for name in self.splits["train"].widths]
        if sequences and not set(sequences) - set(MODALITIES):
            return []
        return list(dict.fromkeys([*["text"] * (self.options.text_encoder is not None), *sequences]))

    def _leave_out(self, modalities: list[str]) -> None:
        """Forgets what a preset or the data say of modalities that are not wanted."""
        there = ["text", *(name for name in self.splits["train"].widths if name != "word_vectors")]
        if unknown := set(modalities) - set(MODALITIES) - set(there):
            raise ValueError(f"{sorted(unknown)} are not modalities; expected some of {', '.join(there)}.")
        unwanted = {*MODALITIES, *there} - set(modalities)
        for rates in (self.args.learning_rates, self.args.weight_decays):
            for prefix in [prefix for prefix in rates if prefix.partition(".")[2] in unwanted]:
                del rates[prefix]
        columns = {"word_vectors" if name == "text" else name for name in unwanted}
        self.splits = {split: samples.without(columns) for split, samples in self.splits.items()}
        for name in set(modalities) - {"text"} - self.splits["train"].widths.keys():
            raise ValueError(f"The data have no {name}. Leave it out: --modalities {' '.join(there)}.")

    def _learnable(self, modalities: list[str]) -> list[str]:
        """
        What of `modalities` the training clips have, if it is not all of it: nothing can be learned of what none of
        them has, so that it would speak untrained in the test.
        """
        train = self.splits["train"]
        columns = {"text" if name == "word_vectors" else name: name for name in train.widths}
        lacking = [name for name in modalities if name in columns and not train.lengths(columns[name]).any()]
        there = [name for name in modalities if name not in lacking]
        if lacking and not there:
            raise ValueError(f"The training clips have no {', '.join(lacking)}: there is nothing to learn from.")
        for name in lacking if self.args.should_log else ():
            logger.warning(f"No training clip has {name}: it is left out, as by --modalities {' '.join(there)}.")
        return there if lacking else []

    def _readable_tokens(self) -> int:
        """
        How many tokens of a text are read at once.

        Raises:
            ValueError: The text encoder does not know all tokens of its tokenizer, or cannot read texts of this length.
        """
        encoder = self.model.encoders["text"]
        check_tokens(encoder, self.tokenizer)
        readable = readable_tokens(encoder, self.options.max_text_tokens)
        lengths = np.concatenate([samples.lengths("text") for samples in self.splits.values()])
        if longer := int((lengths > readable).sum()):
            raise ValueError(
                f"The text encoder reads {readable} tokens at most, and {longer} texts have more, up to "
                f"{lengths.max()}: cut them by --max_text_tokens {readable}, or name another text encoder."
            )
        return readable

    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        if self.options.text_encoder is not None:
            name, revision = self.options.text_encoder, self.options.text_encoder_revision
            if not take_from_hub(name, "the text encoder", revision, owner=False) and revision is not None:
                raise ValueError(f"--text_encoder_revision needs a repository, but {name} is a folder. Leave it out.")
            tokenizer = load_tokenizer(name, revision)
            if not any(text.strip() for text in self.splits["train"]["text"]):
                there = list(self.splits["train"].widths)
                instead = (
                    "train on the word vectors, without --text_encoder"
                    if "word_vectors" in there
                    else (f"leave the text out by --modalities {' '.join(there)}")
                )
                raise ValueError(f"The training clips have no words for a text encoder to read: {instead}.")
            return tokenizer
        if self.options.dataset == "demo":
            return demo_tokenizer()
        if "word_vectors" in self.splits["train"].widths:
            return None
        raise ValueError(f"The data set {self.options.dataset} needs --text_encoder, a repository or a folder.")

    def _extractor(self) -> SelfMMFeatureExtractor:
        """What computes the features of a new clip as those of the data were, normalised by the training split."""
        widths = {"text" if name == "word_vectors" else name: w for name, w in self.splits["train"].widths.items()}
        options = self.options
        extractor = find_recipe(options.dataset, options.data, options.data_revision)
        if extractor is None:
            given = {name: {"kind": "features", "dim": width} for name, width in widths.items()}
            return SelfMMFeatureExtractor(**{"audio": None, "vision": None, **given})
        for name in extractor.recipe.keys() - widths.keys():
            if extractor.others.pop(name, None) is None:
                setattr(extractor, name, None)
        for name in widths.keys() - extractor.recipe.keys():
            extractor.others[name] = {"kind": "features", "dim": widths[name]}
        for name, width in widths.items():
            if extractor.known_width(name) not in (None, width):
                raise ValueError(
                    f"The {name} features of {options.data} are {width} wide, but its recipe makes "
                    f"{extractor.known_width(name)} columns: they are not of this recipe."
                )
        train = self.splits["train"]
        extractor.fit_normalization({name: train.frames(name, row) for name in widths} for row in range(len(train)))
        for samples in self.splits.values():
            samples.extractor = extractor
        return extractor

    def _model(self, options: dict) -> SelfMMModel:
        options = {**task_options(self.task), **options}
        for column, width in self.splits["train"].widths.items():
            modality = "text" if column == "word_vectors" else column
            if options.setdefault(f"{modality}_dim", width) != width:
                source = self.options.data or self.options.dataset
                raise ValueError(
                    f"The {modality} features of {source} are {width} wide, but "
                    f"{modality}_dim is {options[f'{modality}_dim']}: leave it out, or take the right file."
                )
        for modality, recipe in self.extractor.recipe.items():
            if recipe.get("layer") == WEIGHTED:
                options[f"{modality}_states"] = recipe["states"]
        if self.tokenizer is not None and self.options.text_encoder is not None:
            name, revision = self.options.text_encoder, self.options.text_encoder_revision
            model = SelfMMModel.from_text_encoder(name, revision=revision, **options)
            pooling = model.config.text_pooling
            if "text_pooling" not in options and pooling != "cls" and self.args.should_log:
                logger.warning(f"{name} is made for text_pooling {pooling}, which is used. --text_pooling changes it.")
            return model
        text_config = None if self.tokenizer is None else demo_text_config()
        return SelfMMModel(SelfMMConfig(text_config=text_config, **options))

    def train(self) -> dict[str, Any]:
        """
        Trains, chooses the epoch with the best validation loss, then reads the test split, once. Leaves in the output
        folder `all_results.json`, `environment.json`, `predictions.parquet`, `pseudo_labels.parquet`,
        `trainer_state.json`, and `model/` and, where matplotlib is there, `run.png`; without the test split, neither of
        these two, which tell its results.

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
        outputs = {
            split: trainer.predict(samples, metric_key_prefix=split)
            for split, samples in splits.items()
            if split != "train"
        }
        self.model = trainer.whole_model()
        if not trainer.is_world_process_zero():
            return {}
        with writing(self.folder / TRAINER_STATE_NAME):
            trainer.save_state()
        modalities = self.model.config.modalities
        results = {
            "dataset": self.options.dataset,
            "text_encoder": self.options.text_encoder,
            "text_pooling": self.model.config.text_pooling if "text" in modalities else None,
            "convention": self.args.convention,
            "seed": self.args.seed,
            **_told(task),
            **results_of(self.splits, trainer, outputs, modalities),
        }
        processor = SelfMMProcessor(self.extractor, self.tokenizer, self.max_text_tokens)
        write_parquet(self.folder / PREDICTIONS_FILE, predictions_table(self.splits, outputs, modalities, task))
        write_parquet(self.folder / GENERATED_FILE, pseudo_labels_table(self.splits, trainer, modalities))
        if "test" in self.splits:
            if importlib.util.find_spec("matplotlib"):
                plot_run(self.folder, trainer.state.log_history, results["best_epoch"], self.splits)
            save_model_folder(self.folder / "model", self.model, processor, self._facts(results, trainer))
        self._environment["sessions"][-1]["seconds"] = round(time.monotonic() - started, 1)
        write_json(self.folder / ENVIRONMENT_FILE, self._environment)
        # JSON knows no NaN, which a correlation is where all predictions are equal.
        known = {name: None if value != value else value for name, value in results.items()}
        write_json(self.folder / RESULTS_FILE, known)
        return results

    def _read_texts(self, trainer: SelfMMTrainer, splits: dict[str, FrozenText]) -> None:
        """Once, where one process has the whole encoder; else they are read in each batch."""
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            return
        if self.checkpoint is not None:  # the encoder of then, whatever has become of its source
            load_model(self.model, self.checkpoint / SAFE_WEIGHTS_NAME)
        progress = not self.args.disable_tqdm and trainer.is_local_process_zero()
        for samples in splits.values():
            samples.read(self.model, trainer.data_collator, self.args.eval_batch_size, progress)

    def publish(self) -> Pushed | None:
        """
        Pushes the model where `--push_to_hub` asks for it, once, by one process, after `train`.

        Raises:
            PushError: That failed; the run is whole still.
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
        self._environment = {"data": self.data_fingerprint(), **_told(trainer.task), "sessions": sessions}
        write_json(self.folder / ENVIRONMENT_FILE, self._environment)

    def data_fingerprint(self) -> dict[str, str]:
        """By split: runs of other data have others."""
        return {split: samples.fingerprint() for split, samples in self.splits.items()}

    def _facts(self, results: dict, trainer: SelfMMTrainer) -> dict:
        """What the model card says of this run."""
        names = ("data", "data_config", "data_revision", "text_encoder_revision", "presets", "overrides")
        return {
            **results,
            **{name: getattr(self.options, name) for name in names},
            "sizes": {split: len(samples) for split, samples in self.splits.items()},
            "hardware": hardware(trainer),
        }


def _told(task: Task) -> dict[str, Any]:
    """A task other than one score, for files of the run."""
    return {} if task.label_range is not None else {"task": task_to_json(task)}


def _check_selection(args: SelfMMTrainingArguments) -> None:
    """
    Raises:
        ValueError: Something else than the validation loss would choose the model.
    """
    expected = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "selection_loss",
        "greater_is_better": False,
    }
    for name, value in expected.items():
        if getattr(args, name) != value:
            raise ValueError(
                f"A run keeps the model with the best validation loss, and says so of its results: {name} must be "
                f"{value}, got {getattr(args, name)}. `SelfMMTrainer` in Python takes any."
            )
    if args.eval_strategy == "no" or (args.eval_strategy == "epoch" and args.eval_delay >= args.num_train_epochs):
        raise ValueError("No evaluation would run, so no best model could be chosen: see eval_strategy and eval_delay.")
    if args.eval_strategy == "steps" == args.save_strategy and args.save_steps != args.eval_steps:
        raise ValueError(
            f"save_steps must be eval_steps, {args.eval_steps:g}, got {args.save_steps:g}: the best model may be that "
            "of any evaluation, and has to have been saved."
        )
