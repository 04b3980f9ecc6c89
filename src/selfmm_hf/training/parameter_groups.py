"""Learning rates and weight decays by module, and the highest learning rate of a pretrained text encoder."""

from typing import Any

import torch

from .arguments import SelfMMTrainingArguments
from .lora import lora_layers

TEXT = "encoders.text."

# Rate of a pretrained text encoder for which none is named: that of the official code for all of its data sets.
TEXT_RATE = 5e-5
# Rate of its LoRA, which starts at zero: that of QLoRA (arXiv 2305.14314) for models of up to 13 billion parameters.
LORA_RATE = 2e-4
# The highest rate with which the authors of BERT fine-tuned its small models (README of google-research/bert).
HIGHEST_TEXT_RATE = 3e-4


def parameter_groups(
    model: torch.nn.Module, args: SelfMMTrainingArguments, decay_names: list[str]
) -> list[dict[str, Any]]:
    """
    Groups parameters by learning rate and weight decay. In the text encoder, biases and normalisation layers (those not
    in `decay_names`) have no weight decay; everywhere else they have it, as in the official code. A pretrained text
    encoder for which no rate is named learns at `TEXT_RATE` at most, its LoRA at `LORA_RATE`.

    Raises:
        ValueError: A prefix of `learning_rates` or `weight_decays` matches no parameter.
    """
    groups: dict[tuple[float, float], list] = {}
    used = set()

    def value(rates: dict[str, float], otherwise: float, name: str) -> float:
        prefixes = [prefix for prefix in rates if name == prefix or name.startswith(f"{prefix}.")]
        used.update(prefixes)
        return rates[max(prefixes, key=len)] if prefixes else otherwise

    decay_names = set(decay_names)
    text_rate = min(args.learning_rate, _usual_rate(model)) if _text_is_pretrained(model) else args.learning_rate
    for name, parameter in model.named_parameters():
        rate = value(args.learning_rates, text_rate if name.startswith(TEXT) else args.learning_rate, name)
        decay = value(args.weight_decays, args.weight_decay, name)
        if name.startswith(TEXT) and name not in decay_names:
            decay = 0.0
        if parameter.requires_grad:
            groups.setdefault((rate, decay), []).append(parameter)
    if unused := {*args.learning_rates, *args.weight_decays} - used:
        modules = sorted(name for name, _ in model.named_modules() if name.count(".") <= 1 and name)
        raise ValueError(f"No parameter of the model begins with {sorted(unused)}. Its modules are {modules}.")
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def text_rate_warning(
    model: torch.nn.Module, groups: list[dict[str, Any]], args: SelfMMTrainingArguments
) -> str | None:
    text = {id(parameter) for name, parameter in model.named_parameters() if name.startswith(TEXT)}
    rates = [group["lr"] for group in groups if any(id(parameter) in text for parameter in group["params"])]
    if not rates or not _text_is_pretrained(model):
        return None
    usual, lora = _usual_rate(model), bool(lora_layers(model))
    if lora and max(rates) <= TEXT_RATE < args.learning_rate:
        return (
            f"LoRA learns at {max(rates):g}, the rate of a whole text encoder. It begins at zero, and {usual:g} is "
            'usual, as in learning_rates={"encoders.text": 2e-4}.'
        )
    if max(rates) > HIGHEST_TEXT_RATE and not lora:
        return (
            f"The pretrained text encoder learns at {max(rates):g}, which destroys what it knows: {TEXT_RATE:g} is "
            'usual, as in learning_rates={"encoders.text": 5e-5}.'
        )
    if max(rates) == usual < args.learning_rate and not any(TEXT.startswith(f"{one}.") for one in args.learning_rates):
        return (
            f"{'LoRA of the' if lora else 'The'} pretrained text encoder learns at {usual:g}, because "
            f"learning_rate, {args.learning_rate:g}, would destroy what it knows; "
            'learning_rates={"encoders.text": ...} sets another rate.'
        )
    return None


def _usual_rate(model: torch.nn.Module) -> float:
    """Returns the usual rate of a pretrained text encoder."""
    return LORA_RATE if lora_layers(model) else TEXT_RATE


def _text_is_pretrained(model: torch.nn.Module) -> bool:
    """Checks whether the text encoder came with weights, alone or with the whole model."""
    model = getattr(model, "module", model)
    words = "text" in model.config.modalities and not model.config.is_sequence("text")
    return words and (model.pretrained_text or bool(model.name_or_path))
