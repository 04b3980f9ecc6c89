"""Runs the official Self-MM code, unmodified, from a checkout of thuiar/Self-MM, on an MMSA-layout file.

Uses its own configuration, loader, model, trainer and metrics. Replaces only what a checkout cannot know: the path of
the data, the folder of the text encoder and its width, and the CPU.

    python benchmarks/official.py --reference DIR --data_file F.pkl --text_encoder DIR --seeds 1111 1112 1113

The official loader opens pickles with full trust: give it only files you trust.
Needs scikit-learn, which the official metrics use. Prints one JSON line per seed.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig


@contextmanager
def checkout(reference: Path, text_encoder: Path) -> Iterator[Path]:
    """Makes the official modules importable, in a working folder where they find their text encoder."""
    sys.path.insert(0, str(reference.resolve()))
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        # The official code names its encoder by a path relative to the working folder.
        names = Path(folder) / "pretrained_model"
        names.mkdir()
        for language in ("bert_en", "bert_cn"):
            (names / language).symlink_to(text_encoder.resolve(), target_is_directory=True)
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def build(
    dataset: str, data_file: Path, text_encoder: Path, feature_dims: list[int], folder: Path, seed: int, **options
) -> tuple[argparse.Namespace, dict, torch.nn.Module, object]:
    """Makes the official options (those given changed), loaders, model and trainer, as `run.py` does."""
    from config.config_regression import ConfigRegression
    from data.load_data import MMDataLoader
    from models.AMIO import AMIO
    from trains.ATIO import ATIO
    from utils.functions import Storage

    given = Storage(modelName="self_mm", datasetName=dataset, train_mode="regression", num_workers=0)
    config = ConfigRegression(argparse.Namespace(**given)).get_config()
    text_width = AutoConfig.from_pretrained(text_encoder).hidden_size
    config.update(
        dataPath=str(data_file),
        text_out=text_width,
        feature_dims=(text_width, *feature_dims),
        device=torch.device("cpu"),
        model_save_path=str(folder / f"official-{seed}.pth"),
        seed=seed,
        cur_time=1,
        **options,
    )
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    loaders = MMDataLoader(config)
    config.train_samples = len(loaders["train"].dataset)
    return config, loaders, AMIO(config), ATIO().getTrain(config)


def run(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, float]:
    """Trains once as the official `run.py` does, and returns its test metrics."""
    start = time.perf_counter()
    options, loaders, model, trainer = build(
        args.dataset, args.data_file, args.text_encoder, args.feature_dims, folder, seed
    )
    trainer.do_train(model, loaders)
    model.load_state_dict(torch.load(options.model_save_path, weights_only=True))
    valid = trainer.do_test(model, loaders["valid"], mode="VALID")
    test = trainer.do_test(model, loaders["test"], mode="TEST")
    return {"seed": seed, "valid_loss": valid["Loss"], "seconds": time.perf_counter() - start} | test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of thuiar/Self-MM")
    parser.add_argument("--data_file", type=Path, required=True)
    parser.add_argument("--text_encoder", type=Path, required=True, help="a folder with a BERT model")
    parser.add_argument("--dataset", default="mosi", choices=["mosi", "mosei", "sims"])
    parser.add_argument("--feature_dims", type=int, nargs=2, required=True, metavar=("AUDIO", "VISION"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1111, 1112, 1113])
    args = parser.parse_args()
    args.data_file = args.data_file.resolve()
    args.text_encoder = args.text_encoder.resolve()
    with checkout(args.reference, args.text_encoder) as folder:
        for seed in args.seeds:
            print(json.dumps({k: float(v) for k, v in run(args, seed, folder).items()}), flush=True)


if __name__ == "__main__":
    main()
