"""
Self-MM, multimodal sentiment analysis with self-supervised unimodal labels, as a Hugging Face model.

Importing the package registers the model, its processor and its pipeline with transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .model.configuration_selfmm import SelfMMConfig
from .model.feature_extraction_selfmm import SelfMMFeatureExtractor
from .model.modeling_selfmm import SelfMMModel, SelfMMOutput, SelfMMPreTrainedModel, multitask_loss
from .model.pipeline_selfmm import MultimodalSentimentPipeline
from .model.processing_selfmm import SelfMMProcessor
from .version import __version__

if TYPE_CHECKING:
    from .data import load_splits
    from .hub.saved_model import load_model
    from .training.arguments import SelfMMTrainingArguments
    from .training.collator import SelfMMCollator
    from .training.trainer import SelfMMTrainer

AutoConfig.register("selfmm", SelfMMConfig, exist_ok=True)
AutoModel.register(SelfMMConfig, SelfMMModel, exist_ok=True)
AutoFeatureExtractor.register(SelfMMConfig, SelfMMFeatureExtractor, exist_ok=True)
AutoProcessor.register(SelfMMConfig, SelfMMProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline("multimodal-sentiment", MultimodalSentimentPipeline, pt_model=AutoModel)

# Imported when they are asked for: scoring a clip needs no trainer.
_LAZY = {
    "SelfMMCollator": ".training.collator",
    "SelfMMTrainer": ".training.trainer",
    "SelfMMTrainingArguments": ".training.arguments",
    "load_model": ".hub.saved_model",
    "load_splits": ".data",
}

__all__ = [
    "MultimodalSentimentPipeline",
    "SelfMMCollator",
    "SelfMMConfig",
    "SelfMMFeatureExtractor",
    "SelfMMModel",
    "SelfMMOutput",
    "SelfMMPreTrainedModel",
    "SelfMMProcessor",
    "SelfMMTrainer",
    "SelfMMTrainingArguments",
    "__version__",
    "load_model",
    "load_splits",
    "multitask_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
