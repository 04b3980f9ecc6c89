"""What a training shows: a bar while it works, and one line for each look at the validation split."""

from typing import Any

from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from ..metrics import METRIC_NAMES
from ..training.trainer import SelfMMTrainer

SHOWN = ("mae", "corr")


def show_epochs(trainer: SelfMMTrainer) -> None:
    """Has the trainer print lines instead of dictionaries."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_Bars)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Lines)


class _Bars(ProgressCallback):
    """Without what [`ProgressCallback`] prints."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass


class _Lines(TrainerCallback):
    """Prints a line for each evaluation."""

    def __init__(self):
        self.training_loss, self.best = float("nan"), float("inf")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        self.training_loss = logs.get("loss", self.training_loss)
        if "eval_selection_loss" not in logs or not state.is_world_process_zero:
            return
        loss = logs["eval_selection_loss"]
        better, self.best = loss < self.best, min(loss, self.best)
        metrics = [f"{METRIC_NAMES[name][1]} {logs[f'eval_{name}']:.3f}" for name in SHOWN if f"eval_{name}" in logs]
        figures = [f"loss {self.training_loss:.3f}", f"validation loss {loss:.4f}", *metrics]
        epoch = f"epoch {logs.get('epoch', 0):g} of {args.num_train_epochs:g}"
        with tqdm.external_write_mode():
            print(f"{epoch:<16}", *figures, *["best"] * better, sep="  ", flush=True)
