"""Loads a saved model with its processor, as every command does, or refuses it in one line."""

import os
from pathlib import Path

from transformers.utils import CONFIG_NAME

from ..model.configuration_selfmm import SelfMMConfig
from ..model.loading_selfmm import check_whole, file_of, quiet, reading, reason
from ..model.modeling_selfmm import SelfMMModel
from ..model.pipeline_selfmm import MultimodalSentimentPipeline
from ..model.processing_selfmm import SelfMMProcessor
from ..quiet_terminal import silent
from ..storage.hub_names import take_from_hub
from .saved_example import EXAMPLE_FILE, check_example


def load_model(name: str | os.PathLike, revision: str | None = None) -> tuple[SelfMMModel, SelfMMProcessor]:
    """
    Loads a model, in eval mode and on the CPU, and its processor, by the package's own code; the repository's is not
    run.

    Args:
        name: Folder of a model or of its run, or a repository on the Hub.
        revision: Revision of the repository.

    Raises:
        ValueError: There is no such thing, it cannot be loaded, its parts do not belong together, it cannot read,
            or its output differs from its output when it was saved.
    """
    name = str(model_of(Path(name)))
    take_from_hub(name, "the model", revision)
    try:
        with quiet(), silent():
            check_whole(name, revision)
            with reading("config.json"):
                config = SelfMMConfig.from_pretrained(name, revision=revision)
            with reading("the weights"):
                model = SelfMMModel.from_pretrained(name, config=config, revision=revision)
            processor = SelfMMProcessor.from_pretrained(name, revision=revision)
            processor.fit(model)
            if example := file_of(name, EXAMPLE_FILE, revision):  # earlier versions, and others, saved none
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
    Loads the pipeline of a model as [`load_model`] loads it.

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
    """Returns the folder of the model, if `folder` is that of a run; else `folder`."""
    model = folder / "model"
    return model if (model / CONFIG_NAME).is_file() and not (folder / CONFIG_NAME).is_file() else folder
