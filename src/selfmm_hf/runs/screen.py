"""The terminal output of a training: a bar while it works, and one line for each evaluation on the validation split."""

from typing import Any

from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from ..metrics import METRIC_NAMES
from ..training.trainer import SelfMMTrainer

SHOWN = ("mae", "corr", "acc", "f1")


def show_epochs(trainer: SelfMMTrainer) -> None:
    """Has the trainer print lines instead of dictionaries."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_Bars)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Lines)


class _Bars(ProgressCallback):
    """Shows the bars of [`ProgressCallback`], but not the logs that it prints."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass


class _Lines(TrainerCallback):
    """Prints a line for each evaluation."""

    training_loss: float | None = None  # the last one that was logged

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
        loss, epoch = logs["eval_selection_loss"], logs["epoch"]
        # The evaluation before training, by `eval_on_start`, is never the best.
        best = epoch > 0 and (state.best_metric is None or loss < state.best_metric)
        trained = [] if self.training_loss is None else [f"loss {self.training_loss:.3f}"]
        metrics = [f"{METRIC_NAMES[name][1]} {logs[f'eval_{name}']:.3f}" for name in SHOWN if f"eval_{name}" in logs]
        figures = [*trained, f"validation loss {loss:.4f}", *metrics, *["best"] * best]
        with tqdm.external_write_mode():
            print(f"{f'epoch {epoch:g} of {args.num_train_epochs:g}':<16}", *figures, sep="  ", flush=True)
