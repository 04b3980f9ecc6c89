"""Options of a Self-MM training run."""

import importlib.util
import json
import math
import os
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ..labels.conventions import CONVENTIONS
from .refused_options import check_optimizer, check_options


@dataclass
class SelfMMTrainingArguments(TrainingArguments):
    r"""
    [`TrainingArguments`] with the defaults of the official code (`config_regression.py`) and Self-MM's own options.
    Options that Self-MM cannot follow are refused, see `refused_options.py`.

    Args:
        convention (`str`, defaults to `"default"`):
            How unimodal labels are generated and weighted: `"default"`, `"paper"` or `"official"`, see [`Convention`].
        unimodal_tasks (`list[str]`, *optional*):
            The modalities that have a task of their own besides the fusion, by default all. Without a value, none:
            plain supervised fusion (paper, ablation). The `unimodal_logits` of the other modalities mean nothing.
        agreement_weight (`float`, *optional*):
            Weight in [0, 1] of a clip whose modalities agree, instead of the convention's; 1 for no weight adjustment.
        momentum (`bool`, *optional*):
            Whether labels move by momentum over the epochs, instead of what the convention says.
        learning_rates (`dict[str, float]`, *optional*):
            Learning rate by module prefix, such as `{"encoders.text": 5e-5}`; the longest prefix wins. All other
            parameters have `learning_rate`, but a pretrained text encoder that no prefix matches has 5e-5 at most, and
            its LoRA 2e-4: more would destroy what it knows. A prefix that matches nothing is an error.
        weight_decays (`dict[str, float]`, *optional*): Weight decay by module prefix, likewise.
        coupled_weight_decay (`bool`, defaults to `True`):
            Weight decay as L2 inside `torch.optim.Adam`, as in the official code. With `False`, the optimizer is
            `optim`, by default AdamW.
        fold_accumulation (`bool`, *optional*):
            Compute the accumulated batches of a step as one batch, which is faster, if the result is the same. (The
            official and paper conventions update labels batch by batch.) By default only on a CPU, because a GPU may
            lack the memory.
        early_stopping_patience (`int`, defaults to 8):
            Number of epochs without a better validation loss after which training stops; 0 for never.
    """

    convention: str = "default"
    unimodal_tasks: list[str] | None = None
    agreement_weight: float | None = None
    momentum: bool | None = None
    learning_rates: dict | str | None = None
    weight_decays: dict | str | None = None
    coupled_weight_decay: bool = True
    fold_accumulation: bool | None = None
    early_stopping_patience: int = 8

    optim: str | None = field(
        default=None, metadata={"help": "Optimizer, with --coupled_weight_decay false; by default AdamW."}
    )
    output_dir: str | None = field(
        default="runs/train", metadata={"help": "Folder for checkpoints, results and the model."}
    )
    seed: int = field(default=1111, metadata={"help": "Random seed; 1111 to 1115 in the official code."})
    learning_rate: float = field(
        default=1e-3, metadata={"help": "Learning rate of all parameters without one of their own."}
    )
    num_train_epochs: float = field(
        default=100.0, metadata={"help": "Number of epochs at most; early stopping may end sooner."}
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Batch size per device in training."})
    gradient_accumulation_steps: int = field(default=4, metadata={"help": "Batches per optimizer step."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Learning rate schedule."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Gradient norm to clip at; 0 for no clipping."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on the validation split."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to write a checkpoint."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints to keep: the best and the last."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Keep the model that is best on the validation split."}
    )
    metric_for_best_model: str | None = field(
        default="selection_loss", metadata={"help": "Validation metric that determines the best model."}
    )
    greater_is_better: bool | None = field(
        default=False, metadata={"help": "Whether a higher value of this metric is better."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Whether a resumed run also resumes early stopping."}
    )
    remove_unused_columns: bool | None = field(
        default=False,
        metadata={"help": "Must be false: the collator needs columns that the model does not take."},
    )
    ddp_find_unused_parameters: bool | None = field(
        default=True,
        metadata={"help": "Must be true: a batch may lack a modality, whose parameters are then unused."},
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Hide losses that are not finite from the log; each step then waits for the device."},
    )
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "Must stay as it is."})

    def __post_init__(self):
        _check_deepspeed(self.deepspeed)
        own = self.optim, self.optim_args, self.optim_target_modules
        if self.coupled_weight_decay and own != (None, None, None):
            raise ValueError(
                "optim, optim_args and optim_target_modules are for coupled_weight_decay false: with it, the optimizer "
                "is Adam, as in the official code."
            )
        self.optim = self.optim or TrainingArguments.optim
        super().__post_init__()
        if self.device.type == "cpu":  # one of several processes may have "cpu:0", to which torch 2.10 loads no tensors
            self._setup_devices = torch.device("cpu")
        if self.convention == "official" and self.mixed_precision == "fp16":  # `accelerate launch` may set it, too
            raise ValueError("The official convention skips optimizer steps, which fp16 cannot: use float32 or bf16.")
        check_options(self)
        if self.coupled_weight_decay:
            self.optim = None  # the log shows what was asked for
        else:
            check_optimizer(self)
        if self.hub_token is not None:
            raise ValueError(
                "hub_token would be written into checkpoints: set the environment variable HF_TOKEN, or log in by "
                "`hf auth login`."
            )
        positive = ("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size")
        for name in (*positive, "gradient_accumulation_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}.")
        for name in ("learning_rate", "weight_decay", "early_stopping_patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more, got {getattr(self, name)}.")
        if self.device.type in ("cpu", "mps"):
            self.dataloader_pin_memory = False  # nothing to pin for, and PyTorch warns
        if self.convention not in CONVENTIONS:
            raise ValueError(f"convention must be one of {sorted(CONVENTIONS)}, got {self.convention!r}.")
        if self.agreement_weight is not None and not 0 <= self.agreement_weight <= 1:
            raise ValueError(f"agreement_weight must be in [0, 1], got {self.agreement_weight}.")
        if (wanted := int(os.environ.get("WORLD_SIZE", 1))) != self.world_size:
            raise ValueError(
                f"This is one of {wanted} processes, but each would train on its own: there is no GPU for it. Two or "
                "more processes on a CPU need --use_cpu true."
            )
        for name in ("learning_rates", "weight_decays"):
            setattr(self, name, _rates(name, getattr(self, name)))

    @property
    def folds(self) -> bool:
        """Whether the batches of a step are run as one, where the result is the same."""
        return self.device.type == "cpu" if self.fold_accumulation is None else self.fold_accumulation

    def folded(self) -> "SelfMMTrainingArguments":
        """Returns the same arguments with the batches of a step as one. The log still shows what was asked for."""
        args = copy(self)
        args._given = self
        args.per_device_train_batch_size *= args.gradient_accumulation_steps
        args.gradient_accumulation_steps = 1
        return args

    @property
    def given(self) -> "SelfMMTrainingArguments":
        """These arguments, as they were before they were folded."""
        return vars(self).get("_given", self)

    def to_dict(self) -> dict[str, Any]:
        return super(SelfMMTrainingArguments, self.given).to_dict()

    def to_sanitized_dict(self) -> dict[str, Any]:
        return super(SelfMMTrainingArguments, self.given).to_sanitized_dict()


def _check_deepspeed(given: dict | str | None) -> None:
    """
    Checks what DeepSpeed is asked for.

    Args:
        given: The option `deepspeed`: a configuration, also as JSON, or the path of its file. Without it, `accelerate
            launch` may ask for DeepSpeed by environment variables.

    Raises:
        ValueError: DeepSpeed is asked for, but is not installed or would split the weights.
    """
    launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("true", "1", "yes", "y", "on", "t")
    if given is None and not launched:
        return
    config: Any = given
    if given is None:
        config = {"zero_optimization": {"stage": os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")}}
        if (file := os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")) != "none":
            config = file
    try:
        if isinstance(config, str):
            config = json.loads(config if config.lstrip().startswith("{") else Path(config).read_text("utf-8"))
        zero, tensors = (config.get(name) or {} for name in ("zero_optimization", "tensor_parallel"))
        splits = str(zero.get("stage")) == "3" or int(tensors.get("autotp_size", 0)) > 1
        own = [name for name in ("optimizer", "scheduler") if config.get(name)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"deepspeed must be a configuration of DeepSpeed or its JSON file: {error}") from error
    if splits:
        raise ValueError(
            "DeepSpeed may not split the weights between processes, as ZeRO-3 and tensor parallelism do: they would "
            "be missing from the saved model. Use ZeRO stage 1 or 2, or FSDP: hub_configs/accelerate/fsdp.yaml."
        )
    if own:
        raise ValueError(
            f"DeepSpeed's configuration may not have its own {own[0]}, for which learning_rates, weight_decays and the "
            "like would be ignored: leave it out."
        )
    if importlib.util.find_spec("deepspeed") is None:
        raise ValueError("DeepSpeed is asked for, but not installed: pip install deepspeed.")


def _rates(name: str, value: dict | str | None) -> dict[str, float]:
    try:
        rates = json.loads(value) if isinstance(value, str) else value or {}
        # PyYAML reads 5e-3 as a string
        rates = {prefix: float(rate) for prefix, rate in rates.items()}
        if not all(0 <= rate < math.inf for rate in rates.values()):
            raise ValueError("not finite or negative")
        return rates
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{name} must map prefixes to finite numbers, 0 or more, as {{"encoders.text": 5e-5}}, got {value!r}.'
        ) from error
