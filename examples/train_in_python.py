# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
Train in Python: samples, a model, `SelfMMTrainer`, and a folder that `pipeline` loads.

    uv run examples/train_in_python.py          # or: python examples/train_in_python.py
"""

import argparse
from pathlib import Path

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.data import Samples, fit_processor
from selfmm_hf.data.synthetic import demo_corpus, demo_text_config, demo_tokenizer
from selfmm_hf.metrics import mosi_metrics

SIZES = {"train": 300, "validation": 60, "test": 60}


def main(folder: str = "runs/example", sizes: dict[str, int] = SIZES, epochs: int = 8) -> dict[str, float]:
    """Trains, prints the metrics of the test split, and saves `folder`/model."""
    splits = {split: Samples(rows) for split, rows in demo_corpus(sizes=sizes).items()}
    processor = fit_processor(splits, demo_tokenizer())  # tokenizes and normalises; does the same with new clips
    model = SelfMMModel(SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41))
    arguments = SelfMMTrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        gradient_accumulation_steps=1,
        learning_rates={"encoders.text": 5e-4},  # this text encoder starts untrained; a pretrained one takes 5e-5
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = SelfMMTrainer(model, arguments, train_dataset=splits["train"], eval_dataset=splits["validation"])
    trainer.train()  # ends with the epoch whose validation loss was best

    predictions = trainer.predict(splits["test"]).predictions[0]
    metrics = mosi_metrics(predictions[:, 0], splits["test"].labels)
    print({name: round(float(value), 4) for name, value in metrics.items()})

    for part in (model, processor):  # with the code that travels along
        part.save_pretrained(Path(folder) / "model")
    print(f"pipeline('multimodal-sentiment', model='{folder}/model', trust_remote_code=True) loads it.")
    return metrics


if __name__ == "__main__":
    argparse.ArgumentParser(description="Train in Python, and save a model that `pipeline` loads.").parse_args()
    main()
