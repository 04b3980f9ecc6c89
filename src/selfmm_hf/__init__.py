"""Self-MM, multimodal sentiment analysis with self-supervised unimodal labels, as a Hugging Face model."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor

from .configuration_selfmm import SelfMMConfig
from .feature_extraction_selfmm import SelfMMFeatureExtractor
from .modeling_selfmm import SelfMMModel, SelfMMOutput, SelfMMPreTrainedModel, multitask_loss
from .processing_selfmm import SelfMMProcessor
from .version import __version__

AutoConfig.register("selfmm", SelfMMConfig, exist_ok=True)
AutoModel.register(SelfMMConfig, SelfMMModel, exist_ok=True)
AutoFeatureExtractor.register(SelfMMConfig, SelfMMFeatureExtractor, exist_ok=True)
AutoProcessor.register(SelfMMConfig, SelfMMProcessor, exist_ok=True)

__all__ = [
    "SelfMMConfig",
    "SelfMMFeatureExtractor",
    "SelfMMModel",
    "SelfMMOutput",
    "SelfMMPreTrainedModel",
    "SelfMMProcessor",
    "__version__",
    "multitask_loss",
]
