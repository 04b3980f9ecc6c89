# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips,plots]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
A callback that plots the generated labels after each epoch, and logs how far they have moved and how true they are.

What it logs goes wherever `--report_to` sends the curves: tensorboard, trackio or wandb; by default nowhere.
In the first epochs, the labels are those of the whole clip: the default convention moves them when it has evidence.

    uv run --with tensorboard examples/plot_labels.py --report_to tensorboard
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from transformers import TrainerCallback

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.data import Samples, fit_processor
from selfmm_hf.data.synthetic import demo_corpus, demo_text_config, demo_tokenizer
from selfmm_hf.labels.quality import correlation, true_labels

SIZES = {"train": 300, "validation": 60}


class PlotLabels(TrainerCallback):
    """
    After each epoch: a picture of the labels of each modality, their mean distance from the annotated label (`moved`),
    and their correlation with the true labels of the modality (`quality`).

    Args:
        folder: Where the pictures go.
        truth: The true labels by modality; empty if nobody knows them.
    """

    def __init__(self, folder: Path, truth: dict[str, np.ndarray]):
        self.folder, self.truth = folder, truth
        self.trainer: SelfMMTrainer | None = None  # set once there is one

    def on_epoch_end(self, args, state, control, **kwargs):
        labels = self.trainer.pseudo_labels.labels
        modalities = [name for name in labels if name != "fusion"]
        figure = Figure(figsize=(3 * len(modalities), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(modalities)), modalities, strict=True):
            axes.plot(labels["fusion"][:, 0], labels[name][:, 0], ".", alpha=0.4)
            axes.set(title=name, xlabel="annotated label", ylabel="generated label", xlim=(-3, 3), ylim=(-3, 3))
        figure.savefig(self.folder / f"labels-{round(state.epoch):02}.png")
        moved = {f"moved/{name}": float((labels[name] - labels["fusion"]).abs().mean()) for name in modalities}
        quality = {f"quality/{name}": correlation(labels[name].numpy(), true) for name, true in self.truth.items()}
        self.trainer.log(moved | quality)


def main(
    folder: str = "runs/plots", sizes: dict[str, int] = SIZES, epochs: int = 14, report_to: str = "none"
) -> list[dict[str, float]]:
    """Returns what was logged."""
    splits = {split: Samples(rows) for split, rows in demo_corpus(sizes=sizes).items()}
    fit_processor(splits, demo_tokenizer())
    model = SelfMMModel(SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41))
    arguments = SelfMMTrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        gradient_accumulation_steps=1,
        learning_rates={"encoders.text": 5e-4},
        report_to=report_to,
        use_cpu=True,
        disable_tqdm=True,
    )
    Path(folder).mkdir(parents=True, exist_ok=True)
    plot = PlotLabels(Path(folder), true_labels(splits["train"], model.config.modalities))
    trainer = SelfMMTrainer(
        model, arguments, train_dataset=splits["train"], eval_dataset=splits["validation"], callbacks=[plot]
    )
    plot.trainer = trainer
    trainer.train()
    print(*sorted(map(str, Path(folder).glob("labels-*.png"))), sep="\n")
    return trainer.state.log_history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Plot the generated labels after each epoch.")
    parser.add_argument("--report_to", default="none", help="tensorboard, trackio or wandb; none by default")
    main(**vars(parser.parse_args()))
