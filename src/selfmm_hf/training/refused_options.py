"""Refuses the options of `Trainer` that [`SelfMMTrainer`] would ignore or that would give wrong results."""

import inspect
from typing import Any

import torch
from transformers import TrainingArguments

SAME_STEPS = (
    "its steps would have fewer samples. For less memory divide per_device_train_batch_size, multiply "
    "gradient_accumulation_steps by the same number, and set fold_accumulation to false: the steps stay as they are"
)
SAVED_PRECISION = "predictions would come from another model than the saved one; bf16 computes in bfloat16"
NOT_EXACT = "a resumed run would not equal one that was not stopped"
IN_ORDER = "evaluations would not be in the order of their clips, and " + NOT_EXACT
WHOLE_SPLIT = "metrics need all predictions of a split"

# The values that each option may have, and why. Older versions of transformers lack some options.
VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    "auto_find_batch_size": ((False,), SAME_STEPS),
    "batch_eval_metrics": ((False,), WHOLE_SPLIT),
    "bf16_full_eval": ((False,), SAVED_PRECISION),
    "dataloader_drop_last": ((False,), "evaluations would leave out clips, too"),
    "dataloader_in_order": ((True,), NOT_EXACT),
    "dataloader_persistent_workers": ((False,), NOT_EXACT),
    "ddp_find_unused_parameters": (
        (True,),
        "where a batch of one process lacks a modality, the others would wait for ever",
    ),
    "enable_jit_checkpoint": ((False,), f"it saves within a step, and {NOT_EXACT}; save_strategy may be steps"),
    "eval_do_concat_batches": ((True,), WHOLE_SPLIT),
    "fp16_full_eval": ((False,), SAVED_PRECISION),
    "label_names": ((["labels"],), "the collator calls them so"),
    "label_smoothing_factor": ((0,), "labels are numbers, not classes"),
    "neftune_noise_alpha": ((None,), "texts lie in rows together, whose lengths would set the noise"),
    "prediction_loss_only": ((False,), "the validation loss is computed from the predictions"),
    "remove_unused_columns": ((False,), "the collator needs columns the model does not take"),
    "train_sampling_strategy": (("random", "sequential"), IN_ORDER),
    "use_liger_kernel": ((False,), "this model has no such kernels"),
}
OF_ACCELERATE: dict[str, tuple[tuple[Any, ...], str]] = {
    "even_batches": ((True,), "processes would wait for each other for ever"),
    "split_batches": ((False,), "batches would be smaller than per_device_train_batch_size"),
    "use_seedable_sampler": ((True,), NOT_EXACT),
}
# These replace the parameter groups, and so the learning rates and weight decays by module.
OWN_GROUPS = ("adalomo", "apollo", "galore", "lomo")


def check_options(args: TrainingArguments) -> None:
    """
    Checks the options of a training.
    Raises:
        ValueError: `args` have a value that would be ignored, or would make results wrong.
    """
    for place, options, prefix in ((args, VALUES, ""), (args.accelerator_config, OF_ACCELERATE, "accelerator_config.")):
        for name, (allowed, why) in options.items():
            if (value := getattr(place, name, allowed[0])) not in allowed:
                wanted = " or ".join(map(str, allowed))
                raise ValueError(f"{prefix}{name} must be {wanted}, got {value}: {why}.")
    if args.mixed_precision == "fp16" and args.device.type == "cpu":
        raise ValueError("fp16 is for GPUs, and a CPU would compute in float32 all the same: use float32 or bf16.")


def check_optimizer(args: TrainingArguments) -> None:
    """
    Checks the optimizer of arguments without `coupled_weight_decay`.

    Raises:
        ValueError: `optim` is not installed, or cannot have learning rates and weight decays by module.
    """
    from transformers import Trainer  # slow to import, and seldom needed

    problem = "it makes parameter groups of its own, so that learning_rates and weight_decays would be ignored"
    if not args.optim.value.startswith(OWN_GROUPS):
        try:
            made, options = Trainer.get_optimizer_cls_and_kwargs(args)
        except (ImportError, TypeError, ValueError) as error:
            problem = " ".join(str(error).split())
        else:
            if inspect.isclass(made) and issubclass(made, torch.optim.Optimizer) and "params" not in options:
                return
    raise ValueError(f"optim {args.optim.value} cannot be used: {problem}.")


def check_checkpointing(args: TrainingArguments, model: torch.nn.Module) -> None:
    """
    Raises:
        ValueError: `args` ask for gradient checkpointing, and `model` has no layers that can.
    """
    names = ("activation_checkpointing", "gradient_checkpointing")  # in newer and older versions of transformers
    wanted = next((name for name in names if getattr(args, name, False)), None)
    if wanted and not any(hasattr(module, "gradient_checkpointing") for module in model.modules()):
        raise ValueError(
            f"{wanted} is for the layers of a text encoder, and this model has none that can do it (as of MPNet and "
            "ALBERT): leave it out."
        )


def check_parts(
    args: Any,
    compute_loss_func: Any = None,
    optimizer_cls_and_kwargs: Any = None,
    optimizers: tuple[Any, Any] = (None, None),
    **others: Any,
) -> None:
    """
    Checks what a `Trainer` is made with.

    Raises:
        ValueError: The training would ignore one of them.
    """
    if compute_loss_func is not None:
        raise ValueError(
            "compute_loss_func would be ignored: the loss is that of the generated labels. A subclass may add to it in "
            "its own compute_loss, around that of SelfMMTrainer."
        )
    if optimizer_cls_and_kwargs is not None and args.coupled_weight_decay:
        raise ValueError("optimizer_cls_and_kwargs are for coupled_weight_decay=False: with it, the optimizer is Adam.")
    if optimizers[0] is not None and (args.learning_rates or args.weight_decays):
        raise ValueError(
            "learning_rates and weight_decays would be ignored, as the optimizer is made already: give its parameter "
            "groups theirs, or pass optimizer_cls_and_kwargs instead."
        )
