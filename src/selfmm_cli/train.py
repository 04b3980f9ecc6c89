"""`selfmm train`, which is also `train.py`, and `selfmm demo`."""

import gc
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import typer

from .errors import end_in_one_line, need
from .push import print_pushed
from .training_options import print_all_help, print_help

if TYPE_CHECKING:
    from selfmm_hf.runs.run import Run

ABOUT_TRAINING = """Train a model. Options on the command line override those of --config.

--convention says how unimodal labels are generated and weighted: `default`, by the rule whose labels came nearest to
known true labels; `paper`, by the equations of the paper; `official`, as in the official code. To report Self-MM as
published, use `official`."""
ABOUT_DEMO = """Train on the synthetic corpus, draw the run, load the saved model in a fresh process, and predict.

Takes the options of `selfmm train`, except --dataset and --data."""
TRAINER = "The options of transformers' Trainer can be given, too: see --help-all. A few are refused, with the reason."


def train(context: typer.Context) -> None:
    """Train a model from a preset or a YAML file, and options that override it."""
    if _helped(context.args, "train", ABOUT_TRAINING):
        return
    with _trained(context.args):
        pass
    from accelerate import PartialState

    # Otherwise a process that ends first may abort: the group has threads, and cycles of trained objects hold it.
    gc.collect()
    PartialState().destroy_process_group()


def demo(context: typer.Context) -> None:
    """Train on the synthetic corpus, load the saved model in a fresh process, and predict."""
    if _helped(context.args, "demo", ABOUT_DEMO):
        return
    need("matplotlib", "plots")
    from .demo import show

    with _trained(["--config", "demo", "--overwrite_output_dir", *context.args, "--dataset", "demo"]) as run:
        show(run.folder, run.splits)


def _helped(arguments: list[str], command: str, text: str) -> bool:
    if "--help" in arguments or "-h" in arguments:
        print_help(f"selfmm {command}", text, TRAINER)
    elif "--help-all" in arguments:
        print_all_help()
    else:
        return False
    return True


@contextmanager
def _trained(arguments: list[str]):
    """Yields a run that has been trained and printed; pushes it afterwards, if wanted. Keeps its folder until then."""
    with ExitStack() as alone:
        with end_in_one_line():
            from transformers.utils import logging

            from selfmm_hf.runs.options import read_options
            from selfmm_hf.runs.run import Run

            logging.disable_progress_bar()  # of each file that is loaded or saved; that of the training stays
            run = Run(*read_options(arguments))
            alone.enter_context(run.alone())
        # A full disk or the like ends in its message; anything else that goes wrong in training, in a traceback.
        with end_in_one_line((OSError,), status=1):
            results = run.train()
        _print_results(results, run)
        yield run
        with end_in_one_line():
            pushed = run.publish()
        if pushed is not None:
            print_pushed(pushed)


def lines_of(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Groups metrics by lines of the screen: "", "constant" and each target, as `joy` or `joy, constant`."""
    from selfmm_hf.metrics import kind_and_target

    lines: dict[str, dict[str, float]] = {}
    for metric, value in metrics.items():
        kind, target = kind_and_target(metric.removeprefix("constant_"))
        line = ", ".join([target] * bool(target) + ["constant"] * metric.startswith("constant_"))
        lines.setdefault(line, {})[kind] = value
    return lines


def _print_results(results: dict[str, Any], run: "Run") -> None:
    from selfmm_hf.metrics import FEW_CLIPS

    for split in ("validation", "test") if results else ():
        metrics = {k.removeprefix(f"{split}_"): v for k, v in results.items() if k.startswith(f"{split}_")}
        clips = len(run.splits[split])
        few = f"  ({clips} clips: too few)" if clips < FEW_CLIPS else ""
        for target, found in lines_of(metrics).items():
            shown = {name: "undefined" if value != value else f"{value:.4f}" for name, value in found.items()}
            line = "  ".join(f"{name} {value}" for name, value in shown.items())
            print(f"{split:>10}  {target and target + '  '}{line}{few}")
            split = few = ""
    if results:
        chosen = f"epoch {results['best_epoch']} of {results['epochs']}"
        print(f"The validation split chose the model of {chosen}. Everything is in {run.folder}")
