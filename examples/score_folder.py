# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
Score a folder of clips: a table with a row for each, also for the ones that cannot be read.

    uv run examples/score_folder.py runs/demo/model spaces_demo/examples scores.csv

The words of `a.mp4` are in `a.txt`, if there is one. `selfmm predict FOLDER --output scores.csv` does the same.
"""

import argparse
import csv
from pathlib import Path

from transformers import pipeline

import selfmm_hf  # noqa: F401 - the pipeline then runs the package, and no code of the model's repository

CLIPS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".wav", ".flac", ".mp3"}


def main(model: str, folder: str, output: str) -> list[dict[str, str | float]]:
    """Writes and returns the rows."""
    pipe = pipeline("multimodal-sentiment", model=model)
    rows = []
    for clip in sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in CLIPS):
        words = clip.with_suffix(".txt")
        text = words.read_text("utf-8").strip() if words.is_file() else None
        try:
            result = pipe(str(clip), text=text, max_work_seconds=60)
        except (ValueError, OSError) as error:  # what is wrong with the clip, in one line
            rows.append({"clip": clip.name, "problem": str(error)})
            continue
        # A modality that the clip lacks has no score; `absent` says why.
        unimodal = {name: "" if score is None else round(score, 3) for name, score in result["unimodal"].items()}
        rows.append({"clip": clip.name, "score": round(result["score"], 3), "label": result["label"], **unimodal})
    with open(output, "w", encoding="utf-8", newline="") as file:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    print(Path(output).read_text("utf-8"))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Score a folder of clips into a table.")
    parser.add_argument("model", help="folder of a model, or its repository on the Hub")
    parser.add_argument("folder", help="of the clips; the words of a.mp4 are in a.txt")
    parser.add_argument("output", help="the table to write, such as scores.csv")
    main(**vars(parser.parse_args()))
