"""Makes one model of several seeds, which predicts the mean of their predictions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..hub.model_folder import save_model_folder
from ..hub.saved_model import load_model
from ..metrics import metric_name, metric_text, reported
from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..runs.folder import OPTIONS_FILE
from ..runs.options import read_options
from ..runs.stored import StoredRun
from ..task_metrics import main_metric
from .sweep import read_sweep, run_folder
from .sweep_runs import is_done
from .table_markdown import row, rule

SPLITS = ("validation", "test")
NOT_SHARED = ("_name_or_path", "architectures", "dtype")  # these depend on how a model was made and loaded


@dataclass
class Ensemble:
    """
    The runs of one configuration, and what they predict together.

    Args:
        configuration: Its name in the sweep.
        runs: The runs by seed.
        together: The ensemble in the form of a run, with the mean of the predictions.
    """

    configuration: str
    runs: dict[int, StoredRun]
    together: StoredRun

    @classmethod
    def read(cls, folder: Path, configuration: str | None = None) -> "Ensemble":
        """
        Reads the runs of one configuration of a sweep.

        Args:
            folder: Folder of a sweep.
            configuration: Its name in the sweep; not needed if there is only one.

        Raises:
            ValueError: There is no such sweep or configuration, one of its runs is not done, or it has only one.
        """
        sweep = read_sweep(folder)
        names = ", ".join(sweep.configurations)
        if configuration is None and len(sweep.configurations) > 1:
            raise ValueError(f"{folder} has the configurations {names}: name one of them with --configuration.")
        name = configuration or next(iter(sweep.configurations))
        if name not in sweep.configurations:
            raise ValueError(f"{folder} has no configuration {name!r}; expected one of {names}.")
        seeds = range(sweep.first_seed, sweep.first_seed + sweep.seeds)
        if undone := [seed for seed in seeds if not is_done(run_folder(folder, name, seed))]:
            raise ValueError(
                f"{name}, seed {undone[0]}, is not done, and an ensemble needs all seeds: resume the sweep with the "
                "same `selfmm benchmark run`."
            )
        if len(seeds) < 2:
            raise ValueError(f"{folder} has one seed, and an ensemble needs two: `selfmm benchmark run --seeds 5`.")
        runs = {seed: StoredRun.read(run_folder(folder, name, seed)) for seed in seeds}
        first = runs[seeds[0]]
        for seed, run in runs.items():
            if not first.same_clips(run) or not np.array_equal(first.predictions["label"], run.predictions["label"]):
                raise ValueError(f"{name}: the seeds {seeds[0]} and {seed} have different clips or labels.")
        mean = np.mean([run.predictions["fusion"] for run in runs.values()], axis=0)
        return cls(name, runs, replace(first, predictions=first.predictions | {"fusion": mean}))

    def save(self, folder: Path) -> SelfMMModel:
        """
        Writes a model folder, whole or not at all.

        Args:
            folder: A new folder.

        Raises:
            ValueError: The folder exists, or the runs' models do not belong together.
        """
        if folder.exists():
            raise ValueError(f"{folder} exists already; name a new folder.")
        model, processor = self._load()
        save_model_folder(folder, model, processor, self._facts())
        return model

    def _load(self) -> tuple[SelfMMModel, SelfMMProcessor]:
        whole, first = None, None
        for number, run in enumerate(self.runs.values()):
            model, processor = load_model(run.folder / "model")
            if whole is None or first is None:
                config = model.config.of_member()
                config.members = len(self.runs)
                whole, first = SelfMMModel(config), processor
            elif _of(model, processor) != _of(whole.members[0], first):
                raise ValueError(
                    f"The models of {run.folder} and of the other seeds have different configurations or recipes."
                )
            whole.members[number].load_state_dict(model.state_dict())
        return whole.eval(), first

    def _facts(self) -> dict[str, Any]:
        """Returns the facts for the model card, see `Run._facts`."""
        one = self.together
        options = read_options(["--config", str(one.folder / OPTIONS_FILE)])[0]
        names = ("data", "data_config", "data_revision", "text_encoder_revision", "presets", "overrides")
        kept = ("dataset", "text_encoder", "convention", "lora_rank", "lora_alpha", "lora_parameters")
        kept += ("text_encoder_parameters",)
        return {
            **{name: one.results[name] for name in kept if name in one.results},
            **{name: getattr(options, name) for name in names},
            **{f"{split}_{name}": value for split in SPLITS for name, value in one.metrics(split).items()},
            "seeds": list(self.runs),
            "sizes": {"train": len(one.train_ids), **{split: len(one.of_split(split)["id"]) for split in SPLITS}},
            "hardware": one.environment["sessions"][-1]["device"],
        }

    def lines(self) -> Iterator[str]:
        """Yields the metrics of each seed, their mean, and those of the ensemble, in Markdown, and which is better."""
        for split in SPLITS:
            alone = {seed: run.metrics(split) for seed, run in self.runs.items()}
            rows = {f"seed {seed}": metrics for seed, metrics in alone.items()}
            own = self.together.metrics(split)
            rows["mean of the seeds"] = {name: float(np.mean([one[name] for one in alone.values()])) for name in own}
            rows["ensemble"] = own
            names = reported([f"{split}_{name}" for name in own], split)
            yield row(split, *(metric_name(name)[1] for name in names))
            yield rule(len(names) + 1)
            for title, metrics in rows.items():
                yield row(title, *(metric_text(name, metrics[name]) for name in names))
            yield ""
        yield self._verdict()

    def _verdict(self) -> str:
        """Compares the ensemble with the seeds, by validation alone."""
        metric = main_metric(self.together.task)
        sign = 1 if metric == "mae" else -1
        alone = {seed: sign * run.metrics("validation")[metric] for seed, run in self.runs.items()}
        own = sign * self.together.metrics("validation")[metric]
        better = sum(own < value for value in alone.values())
        return (
            f"On validation, the {metric_name(metric)[1]} of the ensemble is better than that of {better} of "
            f"{len(alone)} seeds. It takes {len(alone)} times the memory and the time of one."
        )


def _of(model: SelfMMModel, processor: SelfMMProcessor) -> tuple[Any, ...]:
    """Returns what all members must have in common."""
    tokenizer = processor.tokenizer
    words = None if tokenizer is None else (tokenizer.get_vocab(), tokenizer.model_max_length)
    config = {key: value for key, value in model.config.to_dict().items() if key not in NOT_SHARED}
    return config, processor.to_dict(), processor.feature_extractor.to_dict(), words
