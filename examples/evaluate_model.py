# /// script
# requires-python = ">=3.11"
# dependencies = ["selfmm-hf[clips,evaluate]"]
# [tool.uv.sources]
# selfmm-hf = { path = "..", editable = true }
# ///
"""
Evaluate a saved model with the field's metrics, as a module of `evaluate`: together, and each modality alone.

    uv run examples/evaluate_model.py runs/demo/model
"""

import argparse

import evaluate
from transformers import pipeline

import selfmm_hf  # noqa: F401 - the pipeline then runs the package, and no code of the model's repository
from selfmm_hf.data.synthetic import demo_corpus
from selfmm_hf.resources import CONFIGS


def main(model: str, clips: int = 100) -> dict[str, dict[str, float]]:
    """Prints, and returns, the metrics of the test split of the synthetic corpus."""
    rows = list(demo_corpus(sizes={"test": clips})["test"].with_format("numpy"))
    pipe = pipeline("multimodal-sentiment", model=model)
    results = pipe([{name: row[name] for name in ("text", "audio", "vision")} for row in rows], batch_size=32)

    metric = evaluate.load(str(CONFIGS / "metrics" / "multimodal_sentiment"), "mosi")  # "sims" for labels in [-1, 1]
    labels = [float(row["label"]) for row in rows]
    scores = {"together": [result["score"] for result in results]}
    scores |= {name: [result["unimodal"][name] for result in results] for name in ("text", "audio", "vision")}
    found = {}
    for name, predictions in scores.items():
        found[name] = metric.compute(predictions=predictions, references=labels)
        print(f"{name:>9}", {key: round(value, 3) for key, value in found[name].items()})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Evaluate a model on the test split of the synthetic corpus.")
    parser.add_argument("model", help="folder of a model, or its repository on the Hub")
    main(parser.parse_args().model)
