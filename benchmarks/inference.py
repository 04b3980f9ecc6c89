"""How fast is a model under torch, as an ONNX file and with its text encoder in 8 bits, and what do the 8 bits cost?

    python benchmarks/inference.py RUN [--threads 2] [--batches 1 32] [--repetitions 5]

RUN is what `selfmm train` has left; its options name the data, whose whole test split all three predict in turns, in
this one process. The model's processor makes batches beforehand, which is not timed; the first turn of each is not
counted. "sorted" are batches of texts of similar lengths: the files compute padding, which the model under torch skips.
Prints clips per second, medians, the mean absolute error, and how far scores are from those under torch: in 8 bits,
they depend on the batch, whose largest value sets the scale.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
import onnxruntime
import torch
import yaml
from data_preparation import machine

from selfmm_hf import load_model
from selfmm_hf.conversion.to_onnx import export
from selfmm_hf.data import load_splits
from selfmm_hf.model.modeling_selfmm import SelfMMModel
from selfmm_hf.model.processing_selfmm import SelfMMProcessor
from selfmm_hf.runs.folder import OPTIONS_FILE

Batch = dict[str, torch.Tensor]


def test_split(run: Path, model: SelfMMModel, processor: SelfMMProcessor) -> tuple[list[dict], np.ndarray]:
    """Returns clips as `processor.pad` takes them, and their labels (clips,)."""
    options = {"dataset": "demo", **yaml.safe_load((run / OPTIONS_FILE).read_text(encoding="utf-8"))}
    where = [options.get(name) for name in ("data", "data_config", "data_revision")]
    samples = load_splits(options["dataset"], *where, model.config.label_range)["test"]
    texts = samples["text"] if processor.tokenizer is not None else [""] * len(samples)
    clips = [{**samples[row], "text": text.strip()} for row, text in enumerate(texts)]
    return clips, np.float32(samples["label"])


def by_torch(model: SelfMMModel) -> Callable[[Batch], np.ndarray]:
    def predict(batch: Batch) -> np.ndarray:
        with torch.no_grad():
            return model(**batch).logits.numpy()

    return predict


def by_onnx(file: Path, threads: int) -> Callable[[Batch], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda batch: session.run(["logits"], {name: batch[name].numpy() for name in names})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `selfmm train` has written")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="clips in a batch")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, processor = load_model(str(args.run / "model"), None)
    clips, labels = test_split(args.run, model, processor)

    with tempfile.TemporaryDirectory() as folder:
        predictors, sizes = {"torch": by_torch(model)}, {"torch": 4 * model.num_parameters()}
        for kind in ("ONNX float32", "ONNX int8"):
            file = Path(folder, f"{kind}.onnx")
            list(export(str(args.run / "model"), file, int8=kind == "ONNX int8"))
            predictors[kind], sizes[kind] = by_onnx(file, args.threads), file.stat().st_size

    by_length = sorted(range(len(clips)), key=lambda row: len(clips[row]["text"]))
    orders = {f"{size}": (size, range(len(clips))) for size in args.batches}
    orders |= {f"{size} sorted": (size, by_length) for size in args.batches if size > 1}
    speeds: dict[str, list[float]] = {kind: [] for kind in predictors}
    errors: dict[str, list[float]] = {kind: [] for kind in predictors}
    moved: dict[str, list[float]] = {kind: [] for kind in predictors}
    for size, rows in orders.values():
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [dict(processor.pad([clips[row] for row in part])) for part in parts]
        seconds: dict[str, list[float]] = {kind: [] for kind in predictors}
        scores: dict[str, np.ndarray] = {}
        for _ in range(args.repetitions + 1):
            for kind, predict in predictors.items():
                begin = time.perf_counter()
                predictions = [predict(batch) for batch in batches]
                seconds[kind].append(time.perf_counter() - begin)
                scores[kind] = np.concatenate(predictions)[:, 0]
        for kind, times in seconds.items():
            speeds[kind].append(len(clips) / statistics.median(times[1:]))
            errors[kind].append(float(np.abs(scores[kind] - labels[list(rows)]).mean()))
            moved[kind].append(float(np.abs(scores[kind] - scores["torch"]).mean()))

    results = json.loads((args.run / "all_results.json").read_text(encoding="utf-8"))
    print(f"{machine('transformers', 'onnx', 'onnxruntime')}; load average {os.getloadavg()[0]:.1f}")
    print(
        f"{len(clips)} test clips, {args.threads} threads, medians of {args.repetitions} turns; "
        f"the run itself found a mean absolute error of {results['test_mae']:.4f}\n"
    )
    for title, table, form in (
        ("clips/s, batches of", speeds, ".0f"),
        ("MAE", errors, ".4f"),
        ("mean change of score", moved, ".4f"),
    ):
        print(f"{title:<22}" + "".join(f"{name:>12}" for name in orders))
        for kind, values in table.items():
            print(f"{kind:<22}" + "".join(f"{value:>12{form}}" for value in values))
        print()
    print("MB: " + ", ".join(f"{kind} {size / 1e6:.1f}" for kind, size in sizes.items()))


if __name__ == "__main__":
    main()
