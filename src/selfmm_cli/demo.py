"""Shows what the model of `selfmm demo` predicts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from selfmm_hf.data import Samples, Splits
from selfmm_hf.data.columns import MODALITIES, UNIMODAL_LABELS
from selfmm_hf.data.synthetic import utterance
from selfmm_hf.data.synthetic.clip import render
from selfmm_hf.pages.predictions import sentiment_html
from selfmm_hf.storage.whole_files import write_text

# Runs in a process of its own that cannot import the package, like a stranger's.
STRANGER = """
import json, sys
sys.modules["selfmm_hf"] = None
from transformers import pipeline
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
pipe = pipeline("multimodal-sentiment", model=sys.argv[1], trust_remote_code=True)
answers = [pipe(clip["file"], text=clip["text"], window_seconds=1.0) for clip in json.load(sys.stdin)]
json.dump(answers, sys.stdout)
"""


def show(folder: Path, splits: Splits) -> None:
    """Runs the saved model on some clips of the test split, in a fresh process, and prints the results."""
    results = json.loads((folder / "all_results.json").read_text("utf-8"))
    print("\nGenerated unimodal labels against the known ones (correlation, mean absolute error):")
    for modality in [name for name in MODALITIES if f"fused_label_{name}_mae" in results]:
        values = [
            f"{results[f'{kind}_label_{modality}_corr']:.3f}, {results[f'{kind}_label_{modality}_mae']:.3f}"
            for kind in ("generated", "fused")
        ]
        print(f"{modality:>8}: {values[0]}   (the fused label instead: {values[1]})")

    clips = telling_clips(splits["test"], folder / "clips")
    answers = predict_as_stranger(folder / "model", clips)
    print(f"\nClips, and what {folder / 'model'} says of them, loaded by `pipeline` in a fresh process:")
    for clip, answer in zip(clips, answers, strict=True):
        said = ", ".join(f"{name} {value:+.1f}" for name, value in answer["unimodal"].items() if value is not None)
        print(f"  {answer['score']:+.1f} (label {clip['label']:+.1f}; {said})  {clip['file']}: {clip['text']!r}")
    page = folder / "clips" / "predictions.html"
    scored = [(Path(clip["file"]).name, one) for clip, one in zip(clips, answers, strict=True)]
    write_text(page, sentiment_html(scored))
    print(f"\nTheir page: {page}")
    print(f"The picture of the run: {folder / 'run.png'}")


def predict_as_stranger(folder: Path, clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the predictions of the model in `folder` from a process without this package."""
    given = [{"file": clip["file"], "text": clip["text"]} for clip in clips]
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder)],
        input=json.dumps(given),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if process.returncode:
        raise RuntimeError(f"{folder} does not load in a fresh process:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout)


def telling_clips(samples: Samples, folder: Path) -> list[dict[str, Any]]:
    """Renders, for each situation, the utterance with the widest range of unimodal sentiments."""
    folder.mkdir(exist_ok=True)
    spreads = np.ptp([samples[label] for label in UNIMODAL_LABELS.values()], axis=0)
    rows = {samples["situation"][row]: int(row) for row in np.argsort(spreads)}
    clips = []
    for situation, row in sorted(rows.items()):
        one, file = utterance(0, "test", row), folder / f"{situation.replace(' ', '_')}.mp4"
        render(one, file)
        file.with_suffix(".txt").write_text(one.text + "\n", encoding="utf-8")  # for `selfmm predict`
        clips.append({"file": str(file), "text": one.text, "label": one.label, "situation": situation})
    return clips
