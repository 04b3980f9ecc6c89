# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
A convention of your own: how unimodal labels are generated, and how much each clip counts.

Trains the same model twice, and compares the generated labels with what the corpus knows of each modality.

    uv run examples/custom_convention.py
"""

import argparse
from dataclasses import replace

import torch

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.data import Samples, fit_processor
from selfmm_hf.data.synthetic import demo_corpus, demo_text_config, demo_tokenizer
from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.labels.quality import correlation, true_labels

SIZES = {"train": 300, "validation": 60}
# The paper's formula, but clamped to the scale, and clips in agreement keep a tenth of their weight.
MINE = replace(CONVENTIONS["paper"], clamp=True, agreement_weight=0.1)


def main(folder: str = "runs/convention", sizes: dict[str, int] = SIZES, epochs: int = 14) -> dict[str, dict]:
    """Prints, and returns, the correlation of the generated labels with the true ones by convention and modality."""
    splits = {split: Samples(rows) for split, rows in demo_corpus(sizes=sizes).items()}
    fit_processor(splits, demo_tokenizer())
    found = {}
    for name, convention in (("mine", MINE), ("default", CONVENTIONS["default"])):
        torch.manual_seed(0)
        model = SelfMMModel(SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41))
        arguments = SelfMMTrainingArguments(
            output_dir=f"{folder}/{name}",
            num_train_epochs=epochs,
            gradient_accumulation_steps=1,
            learning_rates={"encoders.text": 5e-4},
            save_strategy="no",
            load_best_model_at_end=False,
            early_stopping_patience=0,
            use_cpu=True,
            disable_tqdm=True,
        )
        data = {"train_dataset": splits["train"], "eval_dataset": splits["validation"]}
        trainer = SelfMMTrainer(model, arguments, **data, convention=convention)
        trainer.train()
        generated = trainer.pseudo_labels.labels  # by modality, (clips, targets); `fusion` is the annotated label
        truth = true_labels(splits["train"], model.config.modalities)
        found[name] = {one: correlation(generated[one].numpy(), truth[one]) for one in truth}
        print(name, {one: round(value, 3) for one, value in found[name].items()})
    return found


if __name__ == "__main__":
    argparse.ArgumentParser(description="Compare a convention of your own with the default one.").parse_args()
    main()
