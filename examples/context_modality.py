# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
The utterances before each text as a modality of its own, beside text, audio and vision.

    uv run examples/context_modality.py my_data with_context sentence-transformers/all-MiniLM-L6-v2
    selfmm train --dataset custom --data with_context --text_encoder sentence-transformers/all-MiniLM-L6-v2 \
        --freeze_text_encoder true --output_dir runs/with_context

The table of my_data has the columns `video` and `position`. The new folder is a copy of my_data, in which each clip
gets `context/ID.npy`: a vector for each of the eight utterances before it in its video and split, in order. The first
clip of a video has no file, so the modality is absent.
"""

import argparse
import csv
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def main(data: str, output: str, text_encoder: str, utterances: int = 8) -> int:
    """Writes the data set, and returns how many clips have a context."""
    with Path(data, "table.csv").open(encoding="utf-8-sig", newline="") as file:  # Excel writes a mark at the begin
        rows = list(csv.DictReader(file))
    vectors = sentence_vectors(text_encoder, [row["text"] for row in rows])
    shutil.copytree(data, output)
    videos = defaultdict(list)
    for number, row in enumerate(rows):
        videos[row["video"], row["split"]].append(number)
    written = 0
    for clips in videos.values():
        clips.sort(key=lambda number: float(rows[number]["position"]))
        for place, number in enumerate(clips):
            if before := clips[max(0, place - utterances) : place]:
                file = Path(output, "context", f"{rows[number]['id']}.npy")
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, vectors[before])
                written += 1
    print(f"{output}: {written} of {len(rows)} clips have a context")
    return written


@torch.no_grad()
def sentence_vectors(name: str, texts: list[str], batch: int = 64) -> np.ndarray:
    """(texts, width) float32: the means of the tokens' last hidden states, of length 1."""
    tokenizer, encoder = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
    vectors = []
    for begin in range(0, len(texts), batch):
        tokens = tokenizer(texts[begin : begin + batch], padding=True, truncation=True, return_tensors="pt")
        mask = tokens["attention_mask"].unsqueeze(-1)
        means = (encoder(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
        vectors.append(torch.nn.functional.normalize(means, dim=-1).numpy())
    return np.concatenate(vectors)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Add the utterances before each text as a modality.")
    parser.add_argument("data", help="folder with a table.csv that has video and position")
    parser.add_argument("output", help="the folder to write, which does not exist")
    parser.add_argument("text_encoder", help="model that makes a vector of an utterance")
    parser.add_argument("--utterances", type=int, default=8, help="how many before each text")
    main(**vars(parser.parse_args()))
