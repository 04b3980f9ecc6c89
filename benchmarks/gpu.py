"""How fast does a GPU train, and do its losses, labels and centres agree with those of the CPU?

    python benchmarks/gpu.py [--reference DIR] [--device cuda]

Needs no download: the weights are random, in the sizes of BERT-base, and the data have CMU-MOSI's shapes. Trains in
float32, with TF32, in bf16, and in bf16 compiled, and prints the median of clips per second over the epochs after the
first, the ratio to float32, the peak memory, and the TFLOP/s of the text encoder (6 operations a weight and token,
padding included). With --reference, a checkout of thuiar/Self-MM, the official code runs on the same device, too. Then
sound passes through a speech model of WavLM-base's size, and pictures through an image model of CLIP-B's, as in
`selfmm extract --device cuda` with one process: prints how many seconds and pictures per second. Finally, a short
training without dropout runs on the device and on the CPU, in float32: prints the largest difference of a loss, a
generated label and a class centre. Exit status 0 if none is above 1e-3.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from data_preparation import SHAPES, WORDS, write_file
from training_speed import selfmm_run
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    TrainerCallback,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
)

from selfmm_hf.model.audio_features_selfmm import AudioEncoder
from selfmm_hf.model.vision_features_selfmm import ImageEncoder
from selfmm_hf.training.collator import SelfMMCollator
from selfmm_hf.training.trainer import SelfMMTrainer

VARIANTS = {
    "float32": [],
    "TF32": ["tf32=true"],
    "bf16": ["bf16=true"],
    "bf16, compiled": ["bf16=true", "torch_compile=true"],
}
TOLERANCE = 1e-3


def write_encoder(folder: Path, layers: int) -> None:
    """Writes BERT-base with random weights, or fewer layers of it."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={token: number for number, token in enumerate(tokens)}).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(num_hidden_layers=layers)).save_pretrained(folder)


class Epochs(TrainerCallback):
    """Times each epoch, with the device's work done."""

    def __init__(self, device: str):
        self.device, self.seconds, self.begun = device, [], 0.0

    def on_epoch_begin(self, *_, **__):
        self.begun = self._now()

    def on_epoch_end(self, *_, **__):
        self.seconds.append(self._now() - self.begun)

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def trained(args: argparse.Namespace, device: str, options: list[str], epochs: int, dropout: bool = True):
    """Trains; returns the trainer and its epochs."""
    with tempfile.TemporaryDirectory() as folder:
        place = ["use_cpu=true"] * (device == "cpu")
        run = selfmm_run(SimpleNamespace(**vars(args), options=[*options, *place]), folder)
        run.args.num_train_epochs = epochs
        if not dropout:
            for module in run.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        collator = SelfMMCollator(tuple(run.model.config.sequences), run.tokenizer.pad_token_id)
        watch = Epochs(device)
        trainer = SelfMMTrainer(
            run.model, run.args, train_dataset=run.splits["train"], data_collator=collator, callbacks=[watch]
        )
        trainer.train()
    return trainer, watch


def measure(args: argparse.Namespace, device: str, epochs: int) -> float:
    """Prints a row for each variant; returns the clips per second in float32."""
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072) * args.layers / 12
    first = None
    for name, options in VARIANTS.items():
        if device == "cpu" and name != "float32":
            continue
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        _, watch = trained(args, device, options, epochs)
        rate = args.rows / statistics.median(watch.seconds[1:])
        first = first or rate
        memory = f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MB" if device == "cuda" else "-"
        flops = 6 * weights * SHAPES[args.shapes].tokens * rate / 1e12
        print(
            f"{name:>15}: {rate:8.0f} clips/s, {rate / first:.2f} times float32, {memory}, {flops:.1f} TFLOP/s",
            flush=True,
        )
    return first


def measure_official(args: argparse.Namespace, ours: float) -> None:
    command = [sys.executable, Path(__file__).with_name("training_speed.py"), "--reference", args.reference, "--kinds",
               "official", "--text_encoder", args.text_encoder, "--rows", args.rows, "--test_rows", args.test_rows,
               "--goal", 0]  # fmt: skip
    printed = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", check=True).stdout
    print(f"official code: {printed.strip()}\nours in float32: {ours:.0f} clips/s", flush=True)


def measure_extraction(args: argparse.Namespace, folder: Path) -> None:
    """Measures clips of 5 s with 10 pictures, one after the other; the first does not count."""
    speech, image = folder / "speech", folder / "image"
    WavLMModel(WavLMConfig(num_hidden_layers=args.layers)).save_pretrained(speech)
    Wav2Vec2FeatureExtractor().save_pretrained(speech)
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 32}
    CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=args.layers, **sizes)).save_pretrained(image)
    CLIPImageProcessor().save_pretrained(image)
    random = np.random.default_rng(0)
    sound = random.uniform(-1, 1, 5 * 16000).astype(np.float32)
    pictures = [random.integers(0, 256, (360, 640, 3), np.uint8) for _ in range(10)]
    for what, units, encoder, clip in (
        ("WavLM-base, seconds of sound", 5, AudioEncoder(speech, device=args.device), sound),
        ("CLIP-B/32, pictures", 10, ImageEncoder(image, device=args.device), pictures),
    ):
        encoder(clip)
        begin = time.perf_counter()
        for _ in range(args.clips):
            encoder(clip)  # returns its features to the CPU, so it has done its work
        print(f"{what} per second: {units * args.clips / (time.perf_counter() - begin):.1f}", flush=True)


def agree(args: argparse.Namespace, device: str) -> bool:
    """Checks that a short training on the device equals that on the CPU."""
    found = [trained(args, place, [], 3, dropout=False)[0] for place in (device, "cpu")]
    losses = [[one["loss"] for one in trainer.state.log_history if "loss" in one] for trainer in found]
    labels = [torch.stack(list(trainer.pseudo_labels.history)).cpu().float() for trainer in found]
    centres = [
        torch.cat([trainer.pseudo_labels.centres(task).flatten().cpu().float() for task in ("fusion", "text", "audio")])
        for trainer in found
    ]
    differences = {
        "loss": max(abs(one - other) for one, other in zip(*losses, strict=True)),
        "label": float((labels[0] - labels[1]).abs().nan_to_num().max()),
        "centre": float((centres[0] - centres[1]).abs().nan_to_num().max()),
    }
    print(f"{device} and CPU, largest difference: {json.dumps({k: float(f'{v:.2g}') for k, v in differences.items()})}")
    return max(differences.values()) <= TOLERANCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=1284, help="training clips")
    parser.add_argument("--agree_rows", type=int, default=128, help="of the comparison with the CPU")
    parser.add_argument("--clips", type=int, default=40, help="of the extraction")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    shared = {"shapes": "mosi", "batch": 16, "accumulation": 4, "seed": 1111, "test_rows": 32}
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder, "encoder")
        write_encoder(encoder, args.layers)
        given = argparse.Namespace(**shared, **vars(args), text_encoder=encoder)
        for rows, file in ((args.rows, "speed.pkl"), (args.agree_rows, "agree.pkl")):
            counts = {"train": rows, "valid": given.test_rows, "test": given.test_rows}
            write_file(Path(folder, file), counts, SHAPES["mosi"])
        given.data_file = Path(folder, "speed.pkl")
        rate = measure(given, args.device, args.epochs)
        if args.reference:
            measure_official(given, rate)
        measure_extraction(args, Path(folder))
        given.data_file = Path(folder, "agree.pkl")
        fine = agree(given, args.device)
    sys.exit(int(not fine))


if __name__ == "__main__":
    main()
