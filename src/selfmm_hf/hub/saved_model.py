"""A saved model with its processor, as every command loads it: whole, able to read, or refused in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, cached_file, logging

from ..model.configuration_selfmm import SelfMMConfig
from ..model.loading_selfmm import reading, reason
from ..model.modeling_selfmm import SelfMMModel
from ..model.pipeline_selfmm import MultimodalSentimentPipeline
from ..model.processing_selfmm import SelfMMProcessor
from ..quiet_terminal import silent
from ..storage.hub_names import take_from_hub
from .saved_example import EXAMPLE_FILE, check_example


def load_model(name: str | os.PathLike, revision: str | None = None) -> tuple[SelfMMModel, SelfMMProcessor]:
    """
    A model in eval mode, on the CPU, and its processor, by the package's own code: none is taken from the repository.

    Args:
        name: Folder of a model or of its run, or a repository on the Hub.
        revision: Of the repository.

    Raises:
        ValueError: There is no such thing, it cannot be loaded, its parts do not belong together, it cannot read, or
            it does not say what it said when it was saved.
    """
    name = str(model_of(Path(name)))
    take_from_hub(name, "the model", revision)
    try:
        with _quiet():
            if _file(name, revision, ADAPTER_CONFIG_NAME):  # with peft, transformers takes the weights that this names
                raise ValueError(f"it holds an adapter, {ADAPTER_CONFIG_NAME}: merge it into the model, and save that")
            with reading("config.json"):
                config = SelfMMConfig.from_pretrained(name, revision=revision)
            with reading("the weights"):
                model = SelfMMModel.from_pretrained(name, config=config, revision=revision)
            processor = SelfMMProcessor.from_pretrained(name, revision=revision)
            processor.fit(model)
            if example := _file(name, revision, EXAMPLE_FILE):  # what others saved, or earlier versions, has none
                with reading(EXAMPLE_FILE):
                    check_example(example, model, processor)
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"{name} cannot be loaded as a model with its processor: {reason(error)}") from error
    return model, processor


def load_pipeline(
    name: str | os.PathLike,
    revision: str | None = None,
    transcriber: str | None = None,
    window_seconds: float | None = None,
    max_seconds: float | None = None,
) -> MultimodalSentimentPipeline:
    """
    The pipeline of what [`load_model`] loads.

    Args:
        transcriber, window_seconds: As the pipeline takes them.
        max_seconds: Longer clips are refused; by default the model's own limit.
    """
    if transcriber is not None:
        take_from_hub(transcriber, "the transcriber", owner=False)
    model, processor = load_model(name, revision)
    if max_seconds is not None:
        processor.feature_extractor.max_seconds = max_seconds
    return MultimodalSentimentPipeline(
        model, processor=processor, transcriber=transcriber, window_seconds=window_seconds
    )


def model_of(folder: Path) -> Path:
    """The model of a run, where `folder` is that of a run; else `folder`."""
    model = folder / "model"
    return model if (model / CONFIG_NAME).is_file() and not (folder / CONFIG_NAME).is_file() else folder


def _file(name: str, revision: str | None, file: str) -> Path | None:
    """A file of the model, where it has it."""
    here = cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if here is None else Path(here)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what transformers and tokenizers tell of files on the way to the one error that says it all."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with silent():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
