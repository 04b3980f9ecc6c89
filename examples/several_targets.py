# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
Several targets: valence and arousal, each on a scale of its own, with labels generated for each modality and target.

The synthetic corpus knows sentiment alone; its strength stands for arousal here. A table with the columns
`label:valence` and `label:arousal` needs none of this code: see docs/data.md.

    uv run examples/several_targets.py
"""

import argparse

import numpy as np
from datasets import Dataset, List, Value

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.data import Samples, fit_processor
from selfmm_hf.data.synthetic import demo_corpus, demo_text_config, demo_tokenizer
from selfmm_hf.model.task_selfmm import Task

SIZES = {"train": 200, "validation": 40}
TASK = Task(names=("valence", "arousal"), scales=((-1.0, 1.0), (1.0, 5.0)))


def two_labels(rows: Dataset) -> Dataset:
    """Valence in [-1, 1] and arousal in [1, 5] from sentiment in [-3, 3]."""
    sentiment = np.array(rows["label"][:])
    labels = np.stack([sentiment / 3, 1 + 4 * np.abs(sentiment) / 3], axis=1).astype(np.float32)  # (clips, targets)
    rows = rows.remove_columns(["label", "label_text", "label_audio", "label_vision"])
    return rows.add_column("label", labels.tolist(), feature=List(Value("float32")))


def main(folder: str = "runs/targets", sizes: dict[str, int] = SIZES, epochs: int = 8) -> np.ndarray:
    """Prints the error of each target, and returns the predictions, (clips, targets)."""
    splits = {split: Samples(two_labels(rows), task=TASK) for split, rows in demo_corpus(sizes=sizes).items()}
    fit_processor(splits, demo_tokenizer())
    config = SelfMMConfig(
        text_config=demo_text_config(),
        audio_dim=33,
        vision_dim=41,
        id2label=dict(enumerate(TASK.names)),
        label_scales=[list(scale) for scale in TASK.scales],
    )
    arguments = SelfMMTrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        gradient_accumulation_steps=1,
        learning_rates={"encoders.text": 5e-4},
        use_cpu=True,
        disable_tqdm=True,
    )
    data = {"train_dataset": splits["train"], "eval_dataset": splits["validation"]}
    trainer = SelfMMTrainer(SelfMMModel(config), arguments, **data)
    trainer.train()
    predictions = trainer.predict(splits["validation"]).predictions[0]
    errors = np.abs(predictions - splits["validation"].labels).mean(0)
    print({name: round(float(error), 3) for name, error in zip(TASK.names, errors, strict=True)})
    return predictions


if __name__ == "__main__":
    argparse.ArgumentParser(description="Train on valence and arousal.").parse_args()
    main()
