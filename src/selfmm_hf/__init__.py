"""Self-MM, multimodal sentiment analysis with self-supervised unimodal labels, as a Hugging Face model."""

from transformers import AutoConfig, AutoModel

from .configuration_selfmm import SelfMMConfig
from .modeling_selfmm import SelfMMModel, SelfMMOutput, SelfMMPreTrainedModel, multitask_loss
from .version import __version__

AutoConfig.register("selfmm", SelfMMConfig, exist_ok=True)
AutoModel.register(SelfMMConfig, SelfMMModel, exist_ok=True)
# Saving such a model saves its code with it, for `trust_remote_code=True`.
SelfMMConfig.register_for_auto_class()
SelfMMModel.register_for_auto_class("AutoModel")

__all__ = ["SelfMMConfig", "SelfMMModel", "SelfMMOutput", "SelfMMPreTrainedModel", "__version__", "multitask_loss"]
