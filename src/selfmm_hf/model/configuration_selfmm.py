"""Configuration of Self-MM (Yu et al., AAAI 2021, arXiv 2102.04830). This file travels to the Hub."""

import copy
import re
from collections.abc import Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, PreTrainedConfig

from .layers_selfmm import first_layers, read_layer
from .task_selfmm import PROBLEM_TYPES, REGRESSION, Task

if TYPE_CHECKING:
    # transformers tells the code of two folders apart by the files that this one names, and copies them with it.
    from .audio_features_selfmm import librosa33  # noqa: F401
    from .chart_selfmm import chart_svg  # noqa: F401
    from .container_selfmm import opened  # noqa: F401
    from .decoding_selfmm import decode_audio  # noqa: F401
    from .download_selfmm import downloaded  # noqa: F401
    from .edges_selfmm import Track  # noqa: F401
    from .face_landmarks_selfmm import FaceLandmarker  # noqa: F401
    from .feature_extraction_selfmm import SelfMMFeatureExtractor  # noqa: F401
    from .frame_times_selfmm import Clock  # noqa: F401
    from .loading_selfmm import load  # noqa: F401
    from .modeling_selfmm import SelfMMModel  # noqa: F401
    from .packing_selfmm import read_texts  # noqa: F401
    from .picture_parts_selfmm import svg  # noqa: F401
    from .picture_selfmm import sentiment_svg  # noqa: F401
    from .pipeline_selfmm import MultimodalSentimentPipeline  # noqa: F401
    from .processing_selfmm import SelfMMProcessor  # noqa: F401
    from .sound_selfmm import resample  # noqa: F401
    from .text_encoder_selfmm import encoder_of  # noqa: F401
    from .text_selfmm import tokenize  # noqa: F401
    from .transcription_selfmm import transcribed  # noqa: F401
    from .vision_features_selfmm import FaceFeatures  # noqa: F401

# What `pipeline` looks up in the configuration.
CUSTOM_PIPELINES = {
    "multimodal-sentiment": {"impl": "pipeline_selfmm.MultimodalSentimentPipeline", "pt": ["AutoModel"]}
}

# Whether this is the package's own code, whose pipeline needs no looking up: `trust_remote_code` would be asked for.
REGISTERED = not __name__.startswith("transformers_modules.")

# Used for a modality whose options are not given by name; the sizes are those of MOSI's audio.
SEQUENCE_DEFAULTS = {
    "hidden_size": 32,
    "num_layers": 1,
    "bidirectional": False,
    "dropout": 0.0,
    "pooling": "last",
    "output_dim": 16,
    "states": 1,
}
POOLINGS = ("last", "mean")
TEXT_POOLINGS = ("cls", "mean", "last")  # of a text encoder

# A configuration that asks for more is refused when it is read, before it fills the memory. The official model of MOSI
# has LSTMs and heads of 0.1 million parameters; the largest text encoders have 48 layers, 4,096 wide, 250,000 words.
MAX_WIDTH = 2**16  # of a frame, a state, a head
MAX_LAYERS = 100  # of an LSTM
MAX_MEMBERS = 100  # of an ensemble
MAX_NAMES = 1_000  # of modalities, or of targets
MAX_LETTERS = 200  # of the name of a target
MAX_LABEL_RANGE = 10**6
MAX_PARAMETERS = 10**9  # of all LSTMs and heads, those of all members together: 4 GB
MAX_TEXT_PARAMETERS = 2 * 10**10  # of the text encoder, about
# Of the options of the text encoder, by what they are called: the first that fits counts.
TEXT_BOUNDS = (
    (r"(^|_)eps(ilon)?$", 0.01),  # of a normalisation; the largest in use is a thousandth
    ("layer|group", 1_000),
    ("vocab|position|bucket|context", 2**24),
    ("size|dim|width|head|embd|label|^d_", 2**17),
)


class SelfMMConfig(PreTrainedConfig):
    r"""
    Configuration of a [`SelfMMModel`]: everything that decides its shape. The defaults are those of CMU-MOSI (official
    `config_regression.py`).

    A modality `m` other than a Transformer-encoded text is read by an LSTM and has the options `m_dim`,
    `m_hidden_size`, `m_num_layers`, `m_bidirectional`, `m_dropout`, `m_pooling` and `m_output_dim`. Each modality
    and the `fusion` have `m_head_dim` and `m_head_dropout`. Those of audio and vision are listed below; another
    modality (`modalities=["vision", "eye"]`, `eye_dim=6`) takes them as further keyword arguments.

    No width is above 65,536, no LSTM deeper than 100 layers, there are no more than 1,000 modalities or targets, and
    LSTMs and heads have a billion parameters at most in all. A text encoder has up to 1,000 layers and about 20
    billion parameters.

    Args:
        text_config (`dict` or [`PreTrainedConfig`], *optional*):
            Configuration of any Hugging Face text encoder, which is copied. Without it, text is absent or, given
            `text_dim`, a sequence of word vectors.
        modalities (`list[str]`, *optional*):
            Names of the modalities, in the order in which the fusion concatenates them. Defaults to
            `["text", "audio", "vision"]`, without text where neither `text_config` nor `text_dim` is given.
        audio_dim (`int`, defaults to 5): Width of one audio frame.
        vision_dim (`int`, defaults to 20): Width of one vision frame.
        audio_hidden_size (`int`, defaults to 32): Width of the audio LSTM.
        vision_hidden_size (`int`, defaults to 64): Width of the vision LSTM.
        audio_num_layers (`int`, defaults to 1): Layers of the audio LSTM.
        vision_num_layers (`int`, defaults to 1): Layers of the vision LSTM.
        audio_bidirectional (`bool`, defaults to `False`): Whether the audio LSTM reads both ways.
        vision_bidirectional (`bool`, defaults to `False`): Whether the vision LSTM reads both ways.
        audio_dropout (`float`, defaults to 0.0): Dropout in and after the audio LSTM.
        vision_dropout (`float`, defaults to 0.0): Dropout in and after the vision LSTM.
        audio_pooling (`str`, defaults to `"last"`):
            Which hidden state of the audio LSTM is read: the `"last"` one, as in the paper, or the `"mean"` of all.
        vision_pooling (`str`, defaults to `"last"`): The same for the vision LSTM.
        audio_states (`int`, defaults to 1):
            Number of hidden states of an audio encoder that stand side by side in a frame. With more than one, the LSTM
            reads their weighted mean, whose weights, a softmax, are learned. Columns that are left over when
            `audio_dim` is divided by it, such as `face` of vision, come first and stay as they are.
        vision_states (`int`, defaults to 1): The same for vision.
        audio_output_dim (`int`, defaults to 16): Width of the audio encoder's output `F_a`.
        vision_output_dim (`int`, defaults to 32): Width of the vision encoder's output `F_v`.
        fusion_head_dim (`int`, defaults to 128): Width `d_m` of the fusion representation.
        text_head_dim (`int`, defaults to 64): Width `d_t` of the text representation.
        audio_head_dim (`int`, defaults to 16): Width `d_a` of the audio representation.
        vision_head_dim (`int`, defaults to 32): Width `d_v` of the vision representation.
        fusion_head_dropout (`float`, defaults to 0.1): Dropout at the entrance of the fusion head.
        text_head_dropout (`float`, defaults to 0.0): Dropout at the entrance of the text head.
        audio_head_dropout (`float`, defaults to 0.1): Dropout at the entrance of the audio head.
        vision_head_dropout (`float`, defaults to 0.1): Dropout at the entrance of the vision head.
        text_pooling (`str`, *optional*):
            Which hidden state of the text encoder is read: that of the first token, `"cls"`, the `"mean"` of all
            tokens, or that of the `"last"` one. By default `"cls"`, as in the paper, for a model that is built here;
            [`SelfMMModel.from_text_encoder`], and so a training, takes what the encoder is made for. For word vectors,
            as for any sequence, `"last"`, the default, or `"mean"`.
        text_layer (`int` or `str`, defaults to -1):
            Which layer of the text encoder is read. `-1` is the last one. `6` is the sixth: the encoder ends there, and
            later layers are dropped; `-4` drops three. `"weighted"` reads all hidden states, from the embeddings on,
            in a weighted mean, whose weights, a softmax, are learned.
        freeze_text_encoder (`bool`, defaults to `False`):
            Whether the text encoder stays as it was loaded (no gradient, no dropout).
        members (`int`, defaults to 1):
            Number of models of this configuration, from several seeds, whose predictions an ensemble averages. It takes
            that many times the memory and the time of one. `selfmm benchmark ensemble` makes it.
        absent_modality (`str`, defaults to `"zero"`):
            What stands for a modality that a clip lacks: `"zero"`, or `"learned"`, a trained vector.
        label_range (`float`, defaults to 3.0):
            Labels lie in `[-label_range, label_range]`: 3 for MOSI and MOSEI, 1 for SIMS (official `H`).
        label_scales (`list[list[float]]`, *optional*):
            For a regression whose targets have scales of their own: the lowest and the highest label of each, such as
            `[[1, 5], [0, 3]]`. `label_range` is then ignored.
        problem_type (`str`, *optional*):
            `"regression"`, the default; `"multi_label_classification"`, several emotions that may come together; or
            `"single_label_classification"`, classes. See [`Task`].
        id2label (`dict[int, str]`, *optional*):
            Names of the targets, the emotions or the classes. One target, `sentiment`, by default.

    Raises:
        ValueError: An option has a value that no model can have, or one beyond these bounds.
    """

    model_type = "selfmm"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - the base class wants a plain class attribute
    keys_to_ignore_at_inference = ["representations", "present"]  # noqa: RUF012 - likewise

    def __init__(
        self,
        text_config: dict | PreTrainedConfig | None = None,
        modalities: list[str] | None = None,
        audio_dim: int = 5,
        vision_dim: int = 20,
        audio_hidden_size: int = 32,
        vision_hidden_size: int = 64,
        audio_num_layers: int = 1,
        vision_num_layers: int = 1,
        audio_bidirectional: bool = False,
        vision_bidirectional: bool = False,
        audio_dropout: float = 0.0,
        vision_dropout: float = 0.0,
        audio_pooling: str = "last",
        vision_pooling: str = "last",
        audio_states: int = 1,
        vision_states: int = 1,
        audio_output_dim: int = 16,
        vision_output_dim: int = 32,
        fusion_head_dim: int = 128,
        text_head_dim: int = 64,
        audio_head_dim: int = 16,
        vision_head_dim: int = 32,
        fusion_head_dropout: float = 0.1,
        text_head_dropout: float = 0.0,
        audio_head_dropout: float = 0.1,
        vision_head_dropout: float = 0.1,
        text_pooling: str | None = None,
        text_layer: int | str = -1,
        freeze_text_encoder: bool = False,
        members: int = 1,
        absent_modality: str = "zero",
        label_range: float = 3.0,
        label_scales: list[list[float]] | None = None,
        id2label: dict[int, str] | None = None,
        **kwargs,
    ):
        self.text_layer = read_layer(text_layer, "text_layer")
        if type(members) is not int or not 1 <= members <= MAX_MEMBERS:
            raise ValueError(f"members must be a number from 1 to {MAX_MEMBERS}, got {_short(members)}.")
        self.text_config = text_config = _read_text_config(text_config, members)
        if text_config is not None:
            text_config, self.text_layer = first_layers(text_config, self.text_layer)
            self.text_config = text_config
        if modalities is None:
            has_text = text_config is not None or kwargs.get("text_dim") is not None
            modalities = ["text", "audio", "vision"] if has_text else ["audio", "vision"]
        if not isinstance(modalities, list | tuple) or not all(isinstance(one, str) for one in modalities):
            raise ValueError(f"modalities must be a list of names, got {modalities!r}.")
        self.modalities = list(modalities)
        self.audio_dim = audio_dim
        self.vision_dim = vision_dim
        self.audio_hidden_size = audio_hidden_size
        self.vision_hidden_size = vision_hidden_size
        self.audio_num_layers = audio_num_layers
        self.vision_num_layers = vision_num_layers
        self.audio_bidirectional = audio_bidirectional
        self.vision_bidirectional = vision_bidirectional
        self.audio_dropout = audio_dropout
        self.vision_dropout = vision_dropout
        self.audio_pooling = audio_pooling
        self.vision_pooling = vision_pooling
        self.audio_states = audio_states
        self.vision_states = vision_states
        self.audio_output_dim = audio_output_dim
        self.vision_output_dim = vision_output_dim
        self.fusion_head_dim = fusion_head_dim
        self.text_head_dim = text_head_dim
        self.audio_head_dim = audio_head_dim
        self.vision_head_dim = vision_head_dim
        self.fusion_head_dropout = fusion_head_dropout
        self.text_head_dropout = text_head_dropout
        self.audio_head_dropout = audio_head_dropout
        self.vision_head_dropout = vision_head_dropout
        self.text_pooling = text_pooling or ("last" if text_config is None else "cls")
        self.freeze_text_encoder = freeze_text_encoder
        self.members = members
        self.absent_modality = absent_modality
        self.label_range = label_range
        self.label_scales = label_scales
        _check_targets(id2label, kwargs.get("num_labels"))
        if id2label is None and "num_labels" not in kwargs:
            id2label = {0: "sentiment"}
        if id2label is not None and "label2id" not in kwargs:
            kwargs["label2id"] = {name: int(index) for index, name in id2label.items()}
        kwargs.pop("custom_pipelines", None)
        if not REGISTERED:
            kwargs["custom_pipelines"] = copy.deepcopy(CUSTOM_PIPELINES)
        super().__init__(id2label=id2label, **kwargs)
        self._check()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        _refuse_kernels(config_dict)
        return super().from_dict(config_dict, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        # `pipeline` puts classes in the place of their names into its copy, which cannot be saved.
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}

    def sequence_options(self, modality: str) -> dict[str, int | float | bool | str]:
        """Options of the LSTM that reads `modality`: `input_dim` and the keys of `SEQUENCE_DEFAULTS`."""
        options = {key: getattr(self, f"{modality}_{key}", value) for key, value in SEQUENCE_DEFAULTS.items()}
        return {"input_dim": getattr(self, f"{modality}_dim", None), **options}

    def frame_width(self, modality: str) -> int:
        """Columns that the LSTM of `modality` reads: of several hidden states, their mean."""
        options = self.sequence_options(modality)
        return options["input_dim"] % options["states"] + options["input_dim"] // options["states"]

    def head_options(self, task: str) -> dict[str, int | float]:
        """Width and entrance dropout of the head of `task`, a modality or `fusion`."""
        return {
            "dim": getattr(self, f"{task}_head_dim", 16),
            "dropout": getattr(self, f"{task}_head_dropout", 0.0),
        }

    def of_member(self) -> "SelfMMConfig":
        """The configuration of one of the members."""
        config = copy.deepcopy(self)
        config.members = 1
        return config

    def is_sequence(self, modality: str) -> bool:
        """Whether an LSTM reads `modality`, rather than the text encoder."""
        return modality != "text" or self.text_config is None

    @property
    def sequences(self) -> list[str]:
        """The modalities that an LSTM reads, in their order."""
        return [modality for modality in self.modalities if self.is_sequence(modality)]

    @property
    def task(self) -> Task:
        """What is predicted: names, kind and scales."""
        names = tuple(self.id2label[number] for number in range(self.num_labels))
        if (kind := self.problem_type or REGRESSION) != REGRESSION:
            return Task(names, kind)
        same = [(-float(self.label_range), float(self.label_range))] * len(names)
        return Task(names, kind, tuple((float(low), float(high)) for low, high in self.label_scales or same))

    def _check(self) -> None:
        if not 0 < len(self.modalities) <= MAX_NAMES or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be 1 to {MAX_NAMES:,} names, each once, got {_short(self.modalities)}.")
        if reserved := {"fusion", "labels"}.intersection(self.modalities):
            raise ValueError(f"{sorted(reserved)} are no modalities: leave them out of `modalities`.")
        if self.text_config is not None and "text" not in self.modalities:
            raise ValueError(f"text_config is given, but modalities are {self.modalities}: add 'text', or drop it.")
        if self.absent_modality not in ("zero", "learned"):
            raise ValueError(f"absent_modality must be 'zero' or 'learned', got {self.absent_modality!r}.")
        number = isinstance(self.label_range, Real) and not isinstance(self.label_range, bool)
        if not number or not 0 < self.label_range <= MAX_LABEL_RANGE:
            raise ValueError(
                f"label_range must be a positive number, at most {MAX_LABEL_RANGE:,}, got {_short(self.label_range)}."
            )
        _check_scales(self.label_scales, self.problem_type or REGRESSION, self.num_labels)
        _ = self.task  # which checks itself
        if not isinstance(self.freeze_text_encoder, bool):
            raise ValueError(f"freeze_text_encoder must be true or false, got {_short(self.freeze_text_encoder)}.")
        if self.text_config is not None and self.text_pooling not in TEXT_POOLINGS:
            raise ValueError(f"text_pooling must be 'cls', 'mean' or 'last', got {_short(self.text_pooling)}.")
        if self.text_config is None and "text" in self.modalities and self.text_layer != -1:
            raise ValueError(f"text_layer is {self.text_layer}, but there is no text encoder: leave it out.")
        for modality in self.sequences:
            for key, value in self.sequence_options(modality).items():
                name = f"{modality}_dim" if key == "input_dim" else f"{modality}_{key}"
                self._check_option(name, value)
            if self.sequence_options(modality)["input_dim"] < (states := self.sequence_options(modality)["states"]):
                width = self.sequence_options(modality)["input_dim"]
                raise ValueError(f"{modality}_states is {states}, but {modality} has only {width} columns.")
        for task in ["fusion", *self.modalities]:
            for key, value in self.head_options(task).items():
                self._check_option(f"{task}_head_{key}", value)
        if (parameters := self._parameters()) > MAX_PARAMETERS:
            raise ValueError(
                f"The LSTMs and heads would have {parameters:,} parameters, expected {MAX_PARAMETERS:,} at most: make "
                "hidden_size, num_layers or head_dim smaller."
            )

    def _parameters(self) -> int:
        """How many parameters the LSTMs and the heads have, of all members."""
        count, widths = 0, {}
        for modality in self.modalities:
            if not self.is_sequence(modality):
                widths[modality] = getattr(self.text_config, "hidden_size", 0) or 0
                continue
            options = self.sequence_options(modality)
            hidden, width, directions = options["hidden_size"], self.frame_width(modality), 1 + options["bidirectional"]
            for _ in range(options["num_layers"]):
                count += directions * 4 * hidden * (width + hidden + 2)
                width = directions * hidden
            widths[modality] = options["output_dim"]
            count += (width + 1) * widths[modality]
        for task, width in {"fusion": sum(widths.values()), **widths}.items():
            dim = self.head_options(task)["dim"]
            count += (width + 1) * dim + (dim + 1) * dim + (dim + 1) * self.num_labels
        return count * self.members

    @staticmethod
    def _check_option(name: str, value) -> None:
        if name.endswith("_dropout"):
            if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}.")
        elif name.endswith("_bidirectional"):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false, got {value!r}.")
        elif name.endswith("_pooling"):
            if value not in POOLINGS:
                raise ValueError(f"{name} must be 'last' or 'mean', got {value!r}.")
        else:
            most = MAX_LAYERS if name.endswith("_num_layers") else MAX_WIDTH
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(f"{name} must be a positive integer, at most {most:,}, got {value!r}.")


def _check_targets(id2label: Any, num_labels: Any) -> None:
    if id2label is not None and not (isinstance(id2label, dict) and 1 <= len(id2label) <= MAX_NAMES):
        raise ValueError(f"id2label must name 1 to {MAX_NAMES:,} targets by number, got {_short(id2label)}.")
    names = [] if id2label is None else list(id2label.values())
    if odd := [name for name in names if not isinstance(name, str) or not 0 < len(name) <= MAX_LETTERS]:
        raise ValueError(f"id2label must name targets by strings of 1 to {MAX_LETTERS} letters, got {_short(odd[0])}.")
    if len(set(names)) < len(names):
        raise ValueError(f"id2label must give each target a different name, got {_short(id2label)}.")
    if names and sorted(map(str, id2label)) != sorted(map(str, range(len(names)))):
        raise ValueError(f"id2label must count the targets from 0 on, got {_short(list(id2label))}.")
    if num_labels is not None and not (type(num_labels) is int and 1 <= num_labels <= MAX_NAMES):
        raise ValueError(f"num_labels must be 1 to {MAX_NAMES:,}, got {num_labels!r}.")


def _check_scales(scales: Any, kind: Any, targets: int) -> None:
    if kind not in PROBLEM_TYPES:
        raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}; got {_short(kind)}.")
    if scales is None:
        return
    pairs = isinstance(scales, list | tuple) and len(scales) == targets
    for pair in scales if pairs else ():
        numbers = isinstance(pair, list | tuple) and len(pair) == 2 and not any(isinstance(one, bool) for one in pair)
        pairs = pairs and numbers and all(isinstance(one, Real) and abs(one) <= MAX_LABEL_RANGE for one in pair)
    if not pairs or kind != REGRESSION:
        raise ValueError(
            f"label_scales must be the lowest and the highest label of each of {targets} targets of a regression, at "
            f"most {MAX_LABEL_RANGE:,}; got {_short(scales)} for a {kind}."
        )


def _read_text_config(given: Any, members: int) -> PreTrainedConfig | None:
    """The configuration of the text encoder, within bounds before transformers makes anything of it."""
    if given is None:
        return None
    if not isinstance(given, dict | PreTrainedConfig):
        raise ValueError(f"text_config must be the configuration of a text encoder, got {_short(given)}.")
    for name, value in _numbers(given if isinstance(given, dict) else given.to_dict()):
        most = next((bound for pattern, bound in TEXT_BOUNDS if re.search(pattern, name)), None)
        if most is not None and not value <= most:
            raise ValueError(f"text_config: {name} must be at most {most:,}, got {value!r}.")
    config = given = copy.deepcopy(given)  # models write into theirs how attention is computed, and in which precision
    if isinstance(given, dict):
        _refuse_kernels(given)
        options = given
        kind = options.pop("model_type", "bert")
        try:
            config = AutoConfig.for_model(kind, **options)
        except Exception as error:  # values of a wrong type raise anything
            reason = " ".join(str(error).split())
            raise ValueError(f"text_config is no configuration of a text encoder: {reason[:300]}") from error
    layers, width, words = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size", "vocab_size"))
    if all(isinstance(one, int) for one in (layers, width, words)):
        about = members * (12 * layers * width**2 + words * width)
        if about > MAX_TEXT_PARAMETERS:
            raise ValueError(
                f"text_config: {layers} layers, {width:,} wide, of {words:,} words have about {about:,} parameters, "
                f"expected {MAX_TEXT_PARAMETERS:,} at most."
            )
    return config


def _refuse_kernels(options: dict[str, Any]) -> None:
    """What computes attention may be the name of a repository, whose code transformers would fetch and run."""
    for name, value in options.items():
        if "implementation" in str(name) and "/" in str(value):
            raise ValueError(f"{name} is {_short(value)}, code of a repository, which is not run: leave it out.")


def _numbers(options: dict[str, Any]) -> Iterator[tuple[str, Real]]:
    """The numbers of a configuration and of those within it, by name."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, Real) and not isinstance(value, bool):
            yield str(name), value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


SelfMMConfig.register_for_auto_class()  # saving it saves the code with it, for `trust_remote_code=True`

__all__ = ["SelfMMConfig"]
