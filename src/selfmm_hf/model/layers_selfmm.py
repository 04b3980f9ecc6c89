"""Selects the hidden layers of a pretrained encoder. This file travels to the Hub."""

import copy
import re
from typing import Any

import torch
from transformers import PreTrainedConfig

WEIGHTED = "weighted"  # all layers, by weights that are learned


def read_layer(given: Any, option: str) -> int | str:
    """
    Reads an option: "weighted", -1, or the number of a layer, from the first one, 1, or the last one, -1, on.

    Raises:
        ValueError: It is no layer.
    """
    if given == WEIGHTED:
        return given
    if not re.fullmatch(r"-?[1-9][0-9]{0,2}", str(given)):
        short = repr(given)[:100]
        raise ValueError(f"{option} must be 'weighted', -1, or the number of a layer from 1 on, got {short}.")
    return int(given)


def first_layers(text_config: PreTrainedConfig, layer: int | str) -> tuple[PreTrainedConfig, int | str]:
    """
    The configuration of a text encoder that ends with a layer.

    Args:
        text_config: Of the whole one. It stays as it is.
        layer: As [`read_layer`] returns it.

    Returns:
        The configuration, and the layer, counted from the first one, where it is another than -1 or "weighted".

    Raises:
        ValueError: There is no such layer.
    """
    if layer in (-1, WEIGHTED):
        return text_config, layer
    there = getattr(text_config, "num_hidden_layers", None)
    kept = layer if layer > 0 else (there or 0) + 1 + layer
    if not isinstance(there, int) or not 1 <= kept <= there:
        raise ValueError(f"text_layer is {layer}, and the text encoder has {there} layers (num_hidden_layers).")
    if kept < there:
        text_config = copy.deepcopy(text_config)
        for name, value in list(vars(text_config).items()):  # `layer_types`, Longformer's `attention_window`
            if re.search("layer|window", name) and isinstance(value, list) and len(value) == there:
                setattr(text_config, name, value[:kept])
        text_config.num_hidden_layers = kept
    return text_config, kept


def chosen_states(states: tuple[torch.Tensor, ...], layer: int | str, name: str) -> tuple[torch.Tensor, ...]:
    """
    Selects the hidden states of one layer, or of all, from those of a model that is called `name`.

    Raises:
        ValueError: There is no such layer, or the states are not all of one shape, (batch, steps, width).
    """
    if not states or len({state.shape for state in states}) > 1 or states[0].ndim != 3:
        raise ValueError(f"the layers of {name} do not give one kind of hidden states: leave layer out, or -1")
    if layer != WEIGHTED and not -len(states) < layer < len(states):
        raise ValueError(f"layer is {layer}, and {name} has {len(states) - 1} layers")
    return states if layer == WEIGHTED else (states[layer],)


__all__ = ["WEIGHTED", "chosen_states", "first_layers", "read_layer"]
