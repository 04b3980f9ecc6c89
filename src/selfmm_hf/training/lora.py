"""Light finetuning of a text encoder: low-rank updates of its linear layers (LoRA, arXiv 2106.09685), by PEFT."""

import warnings

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..model.modeling_selfmm import SelfMMModel


def add_lora(model: SelfMMModel, rank: int, alpha: float | None = None) -> None:
    """
    Adds `B A alpha / rank` to the weight of each linear layer of the text encoder, whose own weights no longer learn.
    `B` starts at zero, so that the model's predictions do not change yet. [`merge_lora`] removes these layers again.

    Args:
        model: A model with a text encoder.
        rank: Rows of `A` and columns of `B`.
        alpha: Scale of the updates; twice the rank by default.

    Raises:
        ValueError: PEFT is not installed, there is no text encoder, or it is frozen or has updates already.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("LoRA needs PEFT, which is not installed: pip install 'peft>=0.19'") from error
    if model.config.text_config is None:
        raise ValueError("LoRA is for a text encoder, and this model has none: leave lora_rank out.")
    if model.config.freeze_text_encoder:
        raise ValueError("A text encoder is frozen or trained by LoRA: leave out freeze_text_encoder or lora_rank.")
    if lora_layers(model):
        raise ValueError("The text encoder has LoRA already: merge_lora comes first.")
    encoder = model.encoders["text"]
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules=linear)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # for GPT-2's layers, for which PEFT sets it
        inject_adapter_in_model(config, encoder)


def add_same_lora(model: SelfMMModel, other: SelfMMModel) -> None:
    """Adds LoRA as in `other`, if that has LoRA."""
    if lora_layers(other):
        config = other.encoders["text"].peft_config["default"]
        add_lora(model, config.r, config.lora_alpha)


def lora_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the layers that [`add_lora`] has put in the place of linear ones, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


@torch.no_grad()
def merge_lora(model: SelfMMModel) -> None:
    """Adds the updates to the weights; the text encoder is then like any other, and all of it may learn."""
    if not (layers := lora_layers(model)):
        return
    for name, layer in layers.items():
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    encoder = model.encoders["text"]
    del encoder.peft_config
    encoder.requires_grad_(True)
