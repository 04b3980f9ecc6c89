# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
An encoder of your own in place of the LSTM of one modality: here attention over the frames of the face.

Another text encoder needs no code: `SelfMMModel.from_text_encoder(NAME)`, or `--text_encoder NAME`.

    uv run examples/own_encoder.py
"""

import argparse

import torch
from torch import nn

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.data import Samples, fit_processor
from selfmm_hf.data.synthetic import demo_corpus, demo_text_config, demo_tokenizer

SIZES = {"train": 200, "validation": 40}


class AttentionEncoder(nn.Module):
    """(batch, frames, width) -> (batch, output_dim): a mean of the frames, weighted by a learned question."""

    def __init__(self, width: int, output_dim: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, 1))
        self.project = nn.Linear(width, output_dim)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        padding = torch.arange(frames.shape[1], device=frames.device) >= lengths.unsqueeze(1)  # (batch, frames)
        scores = self.score(frames).squeeze(-1).masked_fill(padding, -torch.inf)
        return self.project((scores.softmax(-1).unsqueeze(-1) * frames).sum(1))


def main(folder: str = "runs/encoder", sizes: dict[str, int] = SIZES, epochs: int = 8) -> SelfMMModel:
    """Trains the model, and returns it."""
    splits = {split: Samples(rows) for split, rows in demo_corpus(sizes=sizes).items()}
    fit_processor(splits, demo_tokenizer())
    config = SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41)
    model = SelfMMModel(config)
    model.encoders["vision"] = AttentionEncoder(config.vision_dim, config.vision_output_dim)
    arguments = SelfMMTrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        gradient_accumulation_steps=1,
        learning_rates={"encoders.text": 5e-4, "encoders.vision": 2e-3},  # by the names of the modules
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = SelfMMTrainer(model, arguments, train_dataset=splits["train"], eval_dataset=splits["validation"])
    trainer.train()
    print(f"validation loss {trainer.state.best_metric:.4f}")
    # `from_pretrained` knows the LSTM only: keep the weights, and put them into a model that is made in the same way.
    torch.save(model.state_dict(), f"{folder}/weights.pt")
    return model


if __name__ == "__main__":
    argparse.ArgumentParser(description="Train with an encoder of your own for the face.").parse_args()
    main()
