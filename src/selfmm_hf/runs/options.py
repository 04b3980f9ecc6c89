"""The options of a training run: a YAML file, overridden on the command line."""

import dataclasses
import difflib
import inspect
import json
import math
import os
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from ..model.configuration_selfmm import SelfMMConfig
from ..model.processing_selfmm import MAX_CONTEXT
from ..resources import named
from ..storage.scrub import scrub
from ..training.arguments import SelfMMTrainingArguments
from .folder import UNLEARNED_OPTIONS

# The data set, and the preset of the same name, for which no --config has to be given.
TAKEN_BY_ITSELF = "custom"
PRESETS = named()
MAX_LORA_RANK = 1024


@dataclass
class RunOptions:
    """
    The options for the data, the text encoder and LoRA.

    Args:
        dataset: `demo`, the corpus that the project generates, `mosi`, `mosei`, `sims`, `simsv2`, `iemocap` or
            `custom`.
        data: The published feature file (no code in it is ever run), a folder that `selfmm data prepare` wrote, a
            folder of your own, or a data set repository on the Hub.
        data_config: `aligned` or `unaligned`, if `data` has both; for a table with subjects, a fold such as `fold1of5`.
        data_revision: Revision of the data set's repository.
        problem_type: `single_label_classification` makes classes of IEMOCAP's emotions, or learns the classes negative,
            neutral and positive of MOSI, MOSEI and SIMS. By default, the data determine the task.
        text_encoder: Repository or folder of a pretrained text encoder with its tokenizer, or of a Self-MM model, whose
            text encoder is taken. Without it, `demo` trains a small one.
        text_encoder_revision: Revision of the text encoder's repository.
        max_text_tokens: Longer texts are truncated; at least 3, for one word between the special tokens.
        context_utterances: Number of utterances before a text, of the same video and split, that the text encoder sees,
            too; only the tokens of the text itself are pooled. Ids must be like `VIDEO$_$3` or `VIDEO/3`, or a table of
            your own must have the columns `video` and `position`.
        lora_rank: Train LoRA of this rank in all linear layers of the pretrained text encoder, instead of all its
            weights; 0 for no LoRA. The saved model has the updates merged into its weights. Needs the extra `peft`.
        lora_alpha: The updates of LoRA are multiplied by this and divided by the rank; by default twice the rank.
        max_missing_rate: Train with missing data, as LNLN does: for each modality, half of the clips are complete. The
            others miss each token or frame with a rate that is drawn for the clip, up to this one; 1 in LNLN, 0 for
            complete data. The validation data miss as much, the same parts in each epoch; the results are of complete
            data. See `selfmm robustness`.
        overwrite_output_dir: Delete the results of an earlier run in `output_dir` first.

    Attributes:
        given: All options, of the model and the training too, that are not the defaults, as a file for `--config` has
            them; without those that say what becomes of an earlier run.
        presets: Name and text of each configuration file, without names of local folders, for the model card.
        overrides: The options of the command line that belong to the recipe, likewise.
        preset_taken: Whether the preset was taken without being named.
    """

    dataset: str = "demo"
    data: str | None = None
    data_config: str | None = None
    data_revision: str | None = None
    problem_type: str | None = None
    text_encoder: str | None = None
    text_encoder_revision: str | None = None
    max_text_tokens: int = 50
    context_utterances: int = 0
    lora_rank: int = 0
    lora_alpha: float | None = None
    max_missing_rate: float = 0.0
    overwrite_output_dir: bool = False
    presets: list[tuple[str, str]] = field(default_factory=list, init=False)
    overrides: list[str] = field(default_factory=list, init=False)
    preset_taken: bool = field(default=False, init=False)
    given: dict[str, Any] = field(init=False, default_factory=dict)


def _model_options() -> type:
    """Makes a dataclass of the options that [`SelfMMConfig`] documents; those not given keep its defaults."""
    parameters = inspect.signature(SelfMMConfig.__init__).parameters.values()
    hints = typing.get_type_hints(SelfMMConfig.__init__)
    left_out = {"self", "text_config", "id2label", "label_scales", "members", "kwargs"}
    fields = [(one.name, hints[one.name] | None, None) for one in parameters if one.name not in left_out]
    return dataclasses.make_dataclass("ModelOptions", fields)


ModelOptions = _model_options()


class _Parser(HfArgumentParser):
    """Raises errors instead of printing the usage of some 200 options."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


class _Merged:
    """Reads JSON objects, from a file or an option; each one adds to those before it and overrides them."""

    def __init__(self):
        self.merged: dict[str, Any] = {}

    def __call__(self, text: str) -> dict[str, Any]:
        self.merged.update(json.loads(text))
        return dict(self.merged)

    def __repr__(self) -> str:
        return "JSON object"


def option_parser() -> HfArgumentParser:
    """Returns the parser of all options: data, model and training; Self-MM's come before those of the Trainer."""
    parser = _Parser(
        (RunOptions, ModelOptions, SelfMMTrainingArguments),
        allow_abbrev=False,
        usage="selfmm train [--config FILE.yaml or PRESET] [--option value ...], likewise train.py and selfmm demo",
        description="Options of the data and the text encoder, then of the model, then of the training: Self-MM's own, "
        "and after them those of every Trainer of transformers.",
    )
    parser.add_argument("--config", help="YAML file or preset of options; those on the command line override it")
    for action in parser._actions:
        if action.dest in ("learning_rates", "weight_decays"):
            action.type = _Merged()
        if action.dest == "unimodal_tasks":
            action.nargs = "*"
    return parser


def read_options(arguments: list[str]) -> tuple[RunOptions, dict[str, Any], SelfMMTrainingArguments]:
    """
    Reads `--config`, a YAML file or the name of one of `PRESETS`, and the options that override it. For a data set of
    one's own, `--dataset custom`, the preset `custom` is read where none is named.

    Returns:
        The options of the run, those of the model (fields of [`SelfMMConfig`]), and those of the training.

    Raises:
        ValueError: A key or option is unknown or its value is of the wrong type; the nearest right one is named.
    """
    parser = option_parser()
    configs = _Parser((), add_help=False, allow_abbrev=False)
    configs.add_argument("--config", action="append", default=[])
    files, overrides = configs.parse_known_args(arguments)
    preset_taken = not files.config and _named(overrides, "--dataset") == TAKEN_BY_ITSELF
    if preset_taken:
        files.config = [str(PRESETS[TAKEN_BY_ITSELF])]  # never a file of that name
    known = [action.dest for action in parser._actions if action.dest not in ("help", "config")]
    from_files = [argument for file in files.config for argument in _from_yaml(_file(file), known)]
    parsed, unknown = parser.parse_known_args([*from_files, *overrides])
    if unknown:
        name = unknown[0].split("=")[0]
        hint = _nearest(name.lstrip("-").replace("-", "_"), known) if name.startswith("--") else ""
        raise ValueError(f"Unrecognized option {name}.{hint and ' Did you mean --' + hint + '?'} See --help.")
    run, model, args = parser.parse_dict(vars(parsed), allow_extra_keys=True)
    run.preset_taken = preset_taken
    defaults, left_out = parser.parse_args([]), {"overwrite_output_dir", "resume_from_checkpoint"}
    changed = (key for key in known if getattr(parsed, key) != getattr(defaults, key))
    run.given = {key: getattr(parsed, key) for key in changed if key not in left_out}
    if run.max_text_tokens < 3:
        raise ValueError(f"max_text_tokens must be at least 3, got {run.max_text_tokens}.")
    if not 0 <= run.context_utterances <= MAX_CONTEXT:
        raise ValueError(f"context_utterances must be in [0, {MAX_CONTEXT}], got {run.context_utterances}.")
    if not 0 <= run.lora_rank <= MAX_LORA_RANK:
        raise ValueError(f"lora_rank must be in [0, {MAX_LORA_RANK}], got {run.lora_rank}.")
    if run.lora_alpha is not None and not (run.lora_rank and 0 < run.lora_alpha < math.inf):
        problem = f"a positive number, got {run.lora_alpha}" if run.lora_rank else "left out without lora_rank"
        raise ValueError(f"lora_alpha must be {problem}.")
    if not 0 <= run.max_missing_rate <= 1:
        raise ValueError(f"max_missing_rate must be in [0, 1], got {run.max_missing_rate}.")
    run.presets = [(file.name, scrub(file.read_text("utf-8-sig"))) for file in map(_file, files.config)]
    run.overrides = list(_recipe(overrides))
    return run, {name: value for name, value in vars(model).items() if value is not None}, args


def _named(arguments: list[str], option: str) -> str | None:
    """Returns the value of an option on the command line."""
    parser = _Parser((), add_help=False, allow_abbrev=False)
    parser.add_argument(option, nargs="?", dest="value")
    return parser.parse_known_args(arguments)[0].value


def _recipe(arguments: list[str]) -> Iterator[str]:
    """Yields the options that say how a model was made, not where it was stored."""
    told = True
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            name, equals, value = "", "", argument
        else:
            told = not UNLEARNED_OPTIONS.fullmatch(name.lstrip("-").replace("-", "_"))
        if told:
            # Not Path.exists, which raises an error if a value, such as a long JSON object, is too long for a name.
            value = Path(value).resolve().name if os.path.exists(value) else scrub(value)
            yield name + equals + value


def find_file(name: str, known: dict[str, Path], missing: str) -> Path:
    """
    Returns a file, or the one of the `known` files that has this name.

    Raises:
        ValueError: It is neither. `missing` begins the message, which ends with the names of the `known` files.
    """
    if Path(name).is_file():
        return Path(name)
    if name not in known:
        raise ValueError(f"{missing} {', '.join(known)}.")
    return known[name]


def _file(name: str) -> Path:
    return find_file(name, PRESETS, f"There is no configuration file {name}, and the presets are")


def read_map(file: Path, what: str) -> dict[Any, Any]:
    """
    Reads the map in a YAML file; an empty file gives an empty map.

    Raises:
        ValueError: It holds something else; the message says `what` it should hold.
    """
    try:
        values = yaml.safe_load(file.read_text("utf-8-sig")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold {what}, got {type(values).__name__}.")
    return values


def _from_yaml(file: Path, known: list[str]) -> list[str]:
    """Reads the options of a file as arguments."""
    options = read_map(file, "options as `key: value`")
    for key in options:
        if key not in known:
            hint = _nearest(str(key), known)
            raise ValueError(f"{file}: unrecognized option {key}.{hint and ' Did you mean ' + hint + '?'}")
    return as_arguments(options)


def as_arguments(options: dict[str, Any]) -> list[str]:
    """Turns the options of a YAML file into arguments of the command line; leaves out those that are `None`."""
    arguments = []
    for key, value in options.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{key}", *(json.dumps(one) if isinstance(one, dict | bool) else str(one) for one in values)]
    return arguments


def _nearest(name: str, known: list[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")
