"""Why speech models hear each clip alone: what a padded batch does to its features, and what time it saves.

    python benchmarks/padded_sounds.py [--device cuda] [--sounds 8] [--layers 12]

Prints, for models with random weights, how much the hidden states of a sound of four seconds change if it is padded by
one second or by six, as in a batch with a longer one: root mean square of the change, divided by the standard deviation
of the states over time. Models whose feature extractor gives an attention mask get one. Then it prints how long several
sounds of four seconds take one after the other, and as one batch without padding: medians of three.
"""

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from clip_to_prediction import seconds
from transformers import (
    AutoModel,
    Data2VecAudioConfig,
    HubertConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
)
from transformers.utils import logging

RATE, SECONDS, REPEATS = 16000, 4, 3
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS: dict[str, tuple[Any, dict[str, Any], bool]] = {  # configuration, its options, whether there is a mask
    "WavLM base": (WavLMConfig, {}, False),
    "HuBERT base": (HubertConfig, {}, False),
    "data2vec base": (Data2VecAudioConfig, {}, True),
    "HuBERT, normalised by layer": (HubertConfig, LAYER_NORM, True),
}


def sound(number: int, length: float = SECONDS) -> np.ndarray:
    """(samples,) float32: a voice of eleven harmonics, three syllables a second, and noise."""
    times = np.arange(round(length * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(4 * times + number)) / RATE
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 12))
    noise = np.random.default_rng(number).standard_normal(len(times))
    return (0.2 * voice * np.sin(19 * times + number).clip(0) + 0.004 * noise).astype(np.float32)


def states(
    model: PreTrainedModel, extractor: Wav2Vec2FeatureExtractor, device: str, *sounds: np.ndarray
) -> torch.Tensor:
    """(sounds, states, width) on the CPU: of one batch, padded at the end."""
    inputs = extractor(list(sounds), sampling_rate=RATE, padding=True, return_tensors="pt").to(device)
    with torch.no_grad():
        return model(**inputs).last_hidden_state.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sounds", type=int, default=8, help="in the batch whose time is measured")
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    logging.set_verbosity_error()
    print("| model | change, padded by 1 s | by 6 s | one after the other, s | one batch, s |\n|---|---|---|---|---|")
    for name, (configuration, chosen, mask) in MODELS.items():
        torch.manual_seed(0)
        model = AutoModel.from_config(configuration(num_hidden_layers=options.layers, **chosen)).eval()
        hear = partial(
            states, model.to(options.device), Wav2Vec2FeatureExtractor(return_attention_mask=mask), options.device
        )
        alone = hear(sound(0))[0]
        changes = [
            (hear(sound(0), sound(1, SECONDS + more))[0, : len(alone)] - alone).square().mean().sqrt()
            / (alone - alone.mean(0)).square().mean().sqrt()
            for more in (1, 6)
        ]
        sounds = [sound(number) for number in range(options.sounds)]
        _, singly = seconds(lambda hear=hear, sounds=sounds: [hear(one) for one in sounds], REPEATS)
        _, together = seconds(partial(hear, *sounds), REPEATS)
        print(f"| {name} | {changes[0]:.6f} | {changes[1]:.6f} | {singly:.2f} | {together:.2f} |", flush=True)


if __name__ == "__main__":
    main()
