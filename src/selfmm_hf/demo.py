"""What `selfmm demo` shows of the model that it has trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from .data import Samples, Splits
from .data.columns import MODALITIES, UNIMODAL_LABELS
from .plots import plot_run

# Runs in a process of its own, in which the package cannot be imported: what a stranger has.
STRANGER = """
import json, sys
sys.modules["selfmm_hf"] = None
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
tokenizer = None
if "text" in model.config.modalities:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
answers = []
for clip in json.load(sys.stdin):
    tokens = tokenizer(clip["text"], return_tensors="pt") if tokenizer else {}
    frames = {name: torch.tensor([clip[name]]) for name in ("audio", "vision") if name in model.config.modalities}
    with torch.no_grad():
        output = model(**tokens, **frames)
    unimodal = {name: value.item() for name, value in output.unimodal_logits.items()}
    answers.append({"fusion": output.logits.item(), **unimodal})
json.dump(answers, sys.stdout)
"""


def show(folder: Path, splits: Splits) -> None:
    """Draws the run, and asks the saved model about some test clips in a fresh process."""
    results = json.loads((folder / "all_results.json").read_text())
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    print("\nGenerated unimodal labels against the known ones (correlation, mean absolute error):")
    for modality in [name for name in MODALITIES if f"fused_label_{name}_mae" in results]:
        values = [
            f"{results[f'{kind}_label_{modality}_corr']:.3f}, {results[f'{kind}_label_{modality}_mae']:.3f}"
            for kind in ("generated", "fused")
        ]
        print(f"{modality:>8}: {values[0]}   (the fused label instead: {values[1]})")

    clips = _telling_clips(splits["test"])
    print(f"\n{folder / 'model'}, loaded by AutoModel with trust_remote_code=True in a fresh process:")
    for clip, answer in zip(clips, predict_as_stranger(folder / "model", clips), strict=True):
        said = ", ".join(f"{name} {answer[name]:+.1f}" for name in MODALITIES if name in answer)
        print(f"  {answer['fusion']:+.1f} (label {clip['label']:+.1f}; {said})  {clip['situation']}: {clip['text']!r}")
    print(f"\nThe picture of the run: {plot_run(folder, history, results['best_epoch'], splits)}")


def predict_as_stranger(folder: Path, clips: list[dict]) -> list[dict[str, float]]:
    """Predictions of the model in `folder` by a process without this package."""
    given = [
        {"text": clip["text"], "audio": clip["audio"].tolist(), "vision": clip["vision"].tolist()} for clip in clips
    ]
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder)], input=json.dumps(given), capture_output=True, text=True
    )
    if process.returncode:
        raise RuntimeError(f"{folder} does not load in a fresh process:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout)


def _telling_clips(samples: Samples) -> list[dict]:
    """The clip of each situation with the widest range of unimodal sentiments."""
    clips = samples.dataset.with_format("numpy")
    by_range = sorted(clips, key=lambda clip: np.ptp([clip[label] for label in UNIMODAL_LABELS.values()]))
    telling = {clip["situation"]: clip for clip in by_range}.values()
    return [clip | {"text": str(clip["text"])} for clip in telling]  # not numpy's kind of string
