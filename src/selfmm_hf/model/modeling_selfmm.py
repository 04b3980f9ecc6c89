"""Self-MM (Yu et al., AAAI 2021, arXiv 2102.04830), section "Methodology". This file travels to the Hub.

The model holds no pseudo-labels: they are training state, kept by the trainer of the `selfmm-hf` package.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from .configuration_selfmm import SelfMMConfig
from .layers_selfmm import WEIGHTED, read_layer
from .packing_selfmm import by_length, may_look, mean, one_of_each, read_texts
from .task_selfmm import Task
from .text_encoder_selfmm import encoder_of, load_text_encoder, tells_segments

if TYPE_CHECKING:  # transformers copies the files that this one names, but not those that they name
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
    from .picture_parts_selfmm import svg  # noqa: F401
    from .picture_selfmm import sentiment_svg  # noqa: F401
    from .pipeline_selfmm import MultimodalSentimentPipeline  # noqa: F401
    from .processing_selfmm import SelfMMProcessor  # noqa: F401
    from .sound_selfmm import resample  # noqa: F401
    from .text_selfmm import tokenize  # noqa: F401
    from .transcription_selfmm import transcribed  # noqa: F401
    from .vision_features_selfmm import FaceFeatures  # noqa: F401

PARTS = 64  # of long texts, encoded at once


@dataclass
class SelfMMOutput(ModelOutput):
    """
    Output of [`SelfMMModel`].

    Args:
        loss (`torch.FloatTensor` of shape `()`, returned when `labels` are given): See [`multitask_loss`].
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`):
            The prediction `y_m`, on the scale of the labels, not clipped to it; of a classification, log-odds, from
            which [`Task.predictions`] makes probabilities.
        unimodal_logits (`dict[str, torch.FloatTensor]`):
            The prediction of each modality alone, `y_s`, each of shape `(batch, num_labels)`. It means nothing where
            `present` is false.
        representations (`dict[str, torch.FloatTensor]`):
            `F*` of `fusion` and of each modality, each of shape `(batch, head_dim)`: the label generation's input. Of
            an ensemble, those of its members side by side.
        present (`dict[str, torch.BoolTensor]`): Whether a clip has the modality, each of shape `(batch,)`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    unimodal_logits: dict[str, torch.FloatTensor] | None = None
    representations: dict[str, torch.FloatTensor] | None = None
    present: dict[str, torch.BoolTensor] | None = None


def multitask_loss(
    outputs: SelfMMOutput,
    labels: torch.Tensor,
    unimodal_labels: dict[str, torch.Tensor] | None = None,
    unimodal_weights: dict[str, torch.Tensor] | None = None,
    num_items: torch.Tensor | float | None = None,
    sample_weights: torch.Tensor | None = None,
    task: Task | None = None,
) -> torch.Tensor:
    r"""
    The loss of the paper, `L = 1/N sum ( |y_m_hat - y_m| + sum_s W_s |y_s_hat - y_s| )`; of a classification, with
    cross-entropies in the place of absolute errors.

    Args:
        labels: `y_m`, as [`Task.targets`] takes them: of a regression, `(batch,)` or `(batch, num_labels)`.
        unimodal_labels: `y_s` of each modality, `(batch, num_labels)`. `y_m` where they are not given, as in the
            paper's first epoch.
        unimodal_weights: `W_s`, shaped likewise, `(batch, 1)` of a single-label classification. 1 where they are not
            given.
        num_items: `N`, the number of labels in all the accumulated batches. This batch's where it is not given.
            A modality that a clip lacks has no loss, but counts in `N`.
        sample_weights: By how much each clip counts in all tasks, (batch,). 1 where they are not given.
        task: Of the model; a regression where it is not given.
    """
    task = Task(("",) * outputs.logits.shape[-1]) if task is None else task
    if len(labels) != len(outputs.logits):
        raise ValueError(f"labels must be one per clip, {len(outputs.logits)}, got {len(labels)}.")
    labels = task.targets(labels).to(outputs.logits.dtype)
    counted = 1.0 if sample_weights is None else sample_weights.unsqueeze(-1)
    errors = task.losses(outputs.logits, labels)
    total = (errors * counted).sum()
    for modality, logits in outputs.unimodal_logits.items():
        target = labels if unimodal_labels is None else unimodal_labels[modality].view_as(logits).to(logits.dtype)
        error = task.losses(logits, target) * outputs.present[modality].unsqueeze(-1)
        if unimodal_weights is not None:
            error = error * unimodal_weights[modality].view_as(error)
        total = total + (error * counted).sum()
    return total / (errors.numel() if num_items is None else num_items)


class SelfMMSequenceEncoder(nn.Module):
    """An LSTM over the real frames of a sequence; the last hidden state or the mean, dropout, a linear layer: `F_s`."""

    def __init__(
        self,
        input_dim: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
        pooling: str,
        output_dim: int,
    ):
        super().__init__()
        self.lstm = nn.LSTM(
            input_dim,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden_size * (1 + bidirectional), output_dim)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """`frames` (batch, frames, input_dim), `lengths` (batch,), at least 1; gives (batch, output_dim)."""
        frames = frames.to(self.lstm.weight_ih_l0.dtype)
        # bfloat16 autocast breaks LSTMs on many CPUs, and there is nothing to gain at these widths.
        with torch.autocast(frames.device.type, enabled=False):
            if self.lstm.bidirectional:
                pooled = self._read_both_ways(frames, lengths)
            elif may_look(frames):
                pooled = by_length(lengths, lambda clips, longest: self._read(frames[clips, :longest], lengths[clips]))
            else:
                pooled = self._read(frames, lengths)
        return self.projection(self.dropout(pooled))

    def _read(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Frames after the last real one change no state before them: much faster than packed."""
        states = self.lstm(frames)[0]  # (batch, frames, hidden_size)
        if self.pooling == "mean":
            return _mean(states, lengths)
        return one_of_each(states, lengths.to(states.device) - 1)

    def _read_both_ways(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
        # The zeros it would begin with anyway, of which torch's ONNX exporter cannot find out how many there are.
        zeros = frames.new_zeros(2 * self.lstm.num_layers, frames.shape[0], self.lstm.hidden_size)
        states, (hidden, _) = self.lstm(packed, (zeros, zeros))
        if self.pooling == "mean":
            return _mean(pad_packed_sequence(states, batch_first=True)[0], lengths)
        return hidden[-2:].transpose(0, 1).flatten(1)  # (batch, 2 * hidden_size), of (layers * 2, batch, hidden_size)


def _mean(states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Of the first `lengths`, (batch,), of `states`, (batch, frames, dim); gives (batch, dim)."""
    return mean(states, torch.arange(states.shape[1], device=states.device) < lengths.to(states.device).unsqueeze(-1))


class SelfMMHead(nn.Module):
    """One task: `F* = ReLU(W1 dropout(F) + b1)`, a second ReLU layer, as in the official code, and `y = W2 F + b2`."""

    def __init__(self, input_dim: int, dim: int, dropout: float, num_labels: int):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense_1 = nn.Linear(input_dim, dim)
        self.dense_2 = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, num_labels)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`features` (batch, input_dim); returns `F*` (batch, dim) and `y` (batch, num_labels)."""
        representation = self.dense_1(self.dropout(features)).relu()
        return representation, self.out(self.dense_2(representation).relu())


class SelfMMPreTrainedModel(PreTrainedModel):
    config_class = SelfMMConfig
    base_model_prefix = "selfmm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # What some versions and conversions save, and no text is read by.
    _keys_to_ignore_on_load_unexpected = [r"^encoders\.text\.pooler\.", r"position_ids$"]  # noqa: RUF012 - the base class wants a list

    def _init_weights(self, module: nn.Module) -> None:
        # PyTorch's own initialisation, which the official code relies on; text encoders bring theirs.
        if isinstance(module, nn.LSTM):
            bound = 1 / math.sqrt(module.hidden_size)
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
        elif isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.in_features)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.ParameterDict):  # `absent`, `layer_weights`
            for parameter in module.values():
                init.zeros_(parameter)


class SelfMMModel(SelfMMPreTrainedModel):
    """
    Encoders of each modality, a fusion head over their concatenation, and one head per modality.

    With `config.members` above 1, it is an ensemble instead: so many such models, `members`, the mean of whose
    predictions it predicts.

    Any subset of the modalities may be missing, for a whole batch (the argument left out) or for single clips
    (a length of 0, or an attention mask of zeros): see `config.absent_modality`.
    """

    pretrained_text = False  # whether `from_text_encoder` has loaded the text encoder

    def __init__(self, config: SelfMMConfig):
        super().__init__(config)
        self.encoders = nn.ModuleDict()
        self.members = nn.ModuleList(
            SelfMMModel(config.of_member()) for _ in range(config.members) if config.members > 1
        )
        widths, stacked = {}, {}
        for modality in () if self.members else config.modalities:
            if config.is_sequence(modality):
                options = {**config.sequence_options(modality), "input_dim": config.frame_width(modality)}
                if (states := options.pop("states")) > 1:
                    stacked[modality] = states
                self.encoders[modality] = SelfMMSequenceEncoder(**options)
                widths[modality] = options["output_dim"]
            else:
                self.encoders[modality] = encoder_of(
                    AutoModel.from_config(config.text_config, dtype=torch.get_default_dtype(), trust_remote_code=False)
                )
                widths[modality] = config.text_config.hidden_size
                if config.text_layer == WEIGHTED:
                    stacked[modality] = config.text_config.num_hidden_layers + 1
                self._no_split_modules = _layers(self.encoders[modality])  # the units of FSDP
        self.widths = widths
        # How much each hidden state counts, before the softmax: zeros, from which all count alike.
        self.layer_weights = nn.ParameterDict({name: nn.Parameter(torch.zeros(n)) for name, n in stacked.items()})
        self.absent = nn.ParameterDict()
        if config.absent_modality == "learned":
            self.absent.update({modality: nn.Parameter(torch.zeros(width)) for modality, width in widths.items()})
        inputs = {} if self.members else {"fusion": sum(widths.values()), **widths}
        self.heads = nn.ModuleDict(
            {
                task: SelfMMHead(width, **config.head_options(task), num_labels=config.num_labels)
                for task, width in inputs.items()
            }
        )
        self.post_init()
        self._start_in_the_middle()
        self._freeze()

    @torch.no_grad()
    def _start_in_the_middle(self) -> None:
        """Predictions of a new model lie around the middle of each scale, which is 0 for sentiment, not around 0."""
        middles = [(low + high) / 2 for low, high in self.config.task.scales]
        if any(middles):
            for head in self.heads.values():
                head.out.bias += torch.tensor(middles, dtype=head.out.bias.dtype, device=head.out.bias.device)

    @classmethod
    def from_pretrained(cls, *args, output_loading_info: bool = False, **kwargs):
        """
        As in transformers, but incomplete weights are refused, rather than filled with random ones.

        Raises:
            ValueError: Weights are missing, of another model, of another shape, or not finite.
        """
        # Shapes that do not match come into the report by this, for one message.
        kwargs = {**kwargs, "ignore_mismatched_sizes": True, "output_loading_info": True}
        model, report = super().from_pretrained(*args, **kwargs)
        if problem := next(_faults(model, report), None):
            raise ValueError(f"The weights are not those of config.json: {problem}.")
        return (model, report) if output_loading_info else model

    @classmethod
    def from_text_encoder(
        cls, name_or_path: str, attn_implementation: str | None = None, revision: str | None = None, **options
    ) -> "SelfMMModel":
        """
        A new model around a pretrained text encoder, in float32 and, as from `from_pretrained`, in eval mode.

        Args:
            name_or_path: A Hub repository or a folder that `AutoModel` can load. Of an encoder-decoder, the encoder is
                taken, and of a Self-MM model, its text encoder.
            attn_implementation: The text encoder's attention implementation, its own default where not given.
            revision: Of the repository.
            options: Further options of [`SelfMMConfig`]. Where `text_pooling` is none of them, the encoder decides: a
                Self-MM model pools as its configuration says, a model of sentence-transformers as its
                `1_Pooling/config.json` says, a causal decoder by its `"last"` token, any other by `"cls"`.

        Raises:
            ValueError: The text encoder cannot be loaded, or texts cannot be read by it, or not by this pooling.
        """
        if options.get("members", 1) != 1:
            raise ValueError("An ensemble is made of trained models, not of a text encoder: leave members out.")
        how = options.pop("text_pooling", None), read_layer(options.get("text_layer", -1), "text_layer")
        encoder, text_config, pooling = load_text_encoder(name_or_path, revision, attn_implementation, *how)
        layer = {"text_layer": text_config.num_hidden_layers} if isinstance(how[1], int) and how[1] != -1 else {}
        options = {**options, "text_config": text_config, "text_pooling": pooling, **layer}
        model = cls(cls.config_class(**options))
        model.encoders["text"] = encoder
        model.pretrained_text = True
        model.config.text_config = text_config
        if os.path.isdir(name_or_path):
            model.config.text_config._name_or_path = ""  # a path on this machine, which would be saved
        return model.eval()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        audio: torch.FloatTensor | None = None,
        audio_lengths: torch.LongTensor | None = None,
        vision: torch.FloatTensor | None = None,
        vision_lengths: torch.LongTensor | None = None,
        text_embeds: torch.FloatTensor | None = None,
        labels: torch.FloatTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_dict: bool | None = None,
        context_mask: torch.Tensor | None = None,
        **sequences: torch.Tensor | None,
    ) -> SelfMMOutput | tuple:
        r"""
        Args:
            input_ids, attention_mask, token_type_ids: What the text encoder's tokenizer gives, `(batch, tokens)`, or,
                of texts that are read in parts, `(batch, parts, tokens)`. `token_type_ids` are ignored by encoders that
                have none. Padding may stand on either side.
            audio, vision: Frames, `(batch, frames, audio_dim)` and `(batch, frames, vision_dim)`, padded at the end.
            audio_lengths, vision_lengths: Number of real frames, `(batch,)`, in `[0, frames]`; all, where not given.
            text_embeds: Instead of `input_ids`, the output of [`encode_text`] for them.
            labels: Fused labels `y_m`, `(batch,)` or `(batch, num_labels)`; of a single-label classification, the
                numbers of the classes, `(batch,)`, or probabilities. The unimodal tasks learn `y_m` too, as in the
                first epoch of the paper; for generated labels use the package's `SelfMMTrainer`.
            num_items_in_batch: Number of labels in all the accumulated batches, from the `Trainer`.
            context_mask: Of the shape of `input_ids`, 1 for the tokens of earlier utterances: the text's own tokens
                attend to them, but they are not read themselves.
            sequences: `name` and `name_lengths` of further modalities of the configuration.

        Raises:
            ValueError: No modality is given, a name is unknown, or frames have another width than the model's.
        """
        sequences.update(audio=audio, audio_lengths=audio_lengths, vision=vision, vision_lengths=vision_lengths)
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        predict = self._predict_together if self.members else self._predict
        output = predict({**tokens, "context_mask": context_mask}, text_embeds, sequences)
        if labels is not None:
            # A new output: a loss set on the old one would come last in `to_tuple`.
            output = SelfMMOutput(
                multitask_loss(output, labels, None, None, num_items_in_batch, None, self.config.task),
                *output.to_tuple(),
            )
        return output if return_dict is not False else output.to_tuple()

    def _predict_together(
        self, tokens: dict[str, torch.Tensor | None], text_embeds: torch.Tensor | None, sequences: dict
    ) -> SelfMMOutput:
        """The mean of the predictions of an ensemble's members."""
        input_ids, attention_mask, _, context_mask = tokens.values()
        self._check_inputs(input_ids, attention_mask, context_mask, text_embeds, sequences)
        count, task = len(self.members), self.config.task
        embeds = [None] * count if text_embeds is None else text_embeds.chunk(count, -1)
        outputs = [member._predict(tokens, own, sequences) for member, own in zip(self.members, embeds, strict=True)]
        unimodal = {name: [one.unimodal_logits[name] for one in outputs] for name in self.config.modalities}
        states = {name: [one.representations[name] for one in outputs] for name in outputs[0].representations}
        return SelfMMOutput(
            logits=task.mean_logits(torch.stack([one.logits for one in outputs])),
            unimodal_logits={name: task.mean_logits(torch.stack(logits)) for name, logits in unimodal.items()},
            representations={name: torch.cat(values, -1) for name, values in states.items()},
            present=outputs[0].present,
        )

    def _predict(
        self, tokens: dict[str, torch.Tensor | None], text_embeds: torch.Tensor | None, sequences: dict
    ) -> SelfMMOutput:
        """The prediction of a model that is no ensemble; see [`forward`]."""
        input_ids, attention_mask, _, context_mask = tokens.values()
        batch, device = self._check_inputs(input_ids, attention_mask, context_mask, text_embeds, sequences)
        features, present = {}, {}
        for modality in self.config.modalities:
            if self.config.is_sequence(modality):
                frames, lengths = sequences.get(modality), sequences.get(f"{modality}_lengths")
                encoded, present[modality] = self._encode_sequence(modality, frames, lengths)
            elif text_embeds is not None:
                encoded, present[modality] = text_embeds.to(self.dtype), text_embeds.flatten(1).any(-1)
            else:
                encoded, present[modality] = self._encode_text(**tokens)
            if encoded is not None and not self.config.is_sequence(modality):
                encoded = self._weighted(modality, encoded)
            if encoded is None:  # absent from the whole batch
                present[modality] = torch.zeros(batch, dtype=torch.bool, device=device)
                encoded = torch.zeros(batch, self.widths[modality], dtype=self.dtype, device=device)
            absent = self.absent[modality] if modality in self.absent else encoded.new_zeros(())
            features[modality] = torch.where(present[modality].unsqueeze(-1), encoded, absent.to(encoded.dtype))

        # Under autocast the encoders may differ in precision.
        dtype = features[self.config.modalities[0]].dtype
        features["fusion"] = torch.cat([features[name].to(dtype) for name in self.config.modalities], dim=-1)
        tasks = {task: self.heads[task](features[task]) for task in ["fusion", *self.config.modalities]}
        return SelfMMOutput(
            logits=tasks["fusion"][1].float(),
            unimodal_logits={task: tasks[task][1].float() for task in self.config.modalities},
            representations={task: representation for task, (representation, _) in tasks.items()},
            present=present,
        )

    @torch.no_grad()
    def encode_text(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        context_mask: torch.Tensor | None = None,
    ) -> torch.FloatTensor:
        """
        `F_t`, (batch, hidden_size), zeros where there is no text: `text_embeds` for as long as the encoder stays. Where
        the layers are weighted, the states to be weighted, (batch, layers + 1, hidden_size). Of an ensemble, those of
        its members side by side.
        """
        if self.members:
            columns = input_ids, attention_mask, token_type_ids, context_mask
            return torch.cat([member.encode_text(*columns) for member in self.members], -1)
        encoded, present = self._encode_text(input_ids, attention_mask, token_type_ids, context_mask)
        if encoded is None:
            return torch.zeros(len(input_ids), *self.text_shape, dtype=self.dtype, device=input_ids.device)
        return torch.where(present.view(-1, *(1 for _ in self.text_shape)), encoded, 0.0)

    @property
    def text_shape(self) -> tuple[int, ...]:
        """Of what [`encode_text`] makes of a text."""
        if self.members:
            *layers, width = self.members[0].text_shape
            return *layers, width * len(self.members)
        layers = (len(self.layer_weights["text"]),) if "text" in self.layer_weights else ()
        return *layers, self.widths["text"]

    def _encode_text(
        self, input_ids, attention_mask, token_type_ids, context_mask
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What stands for each text, (batch, *text_shape), and which clips have text."""
        if input_ids is None or input_ids.shape[1] == 0:
            return None, None
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if input_ids.ndim == 3:
            return self._encode_parts(input_ids, attention_mask, token_type_ids, context_mask)
        # Encoders count positions from the first column, wherever a tokenizer puts its padding: real tokens come first.
        begin = attention_mask.bool().int().argmax(-1, keepdim=True)
        order = (begin + torch.arange(input_ids.shape[1], device=input_ids.device)) % input_ids.shape[1]
        input_ids, attention_mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        own = attention_mask.bool()
        if context_mask is not None:
            context_mask = context_mask.gather(1, order)
            own = own & ~context_mask.bool()
        present = own.any(-1)  # (batch,)
        # Attention over no token at all is not defined: let those clips see one, and drop the outcome.
        one = torch.zeros_like(attention_mask)
        one[:, 0] = 1
        attention_mask = torch.where(present.unsqueeze(-1), attention_mask, one)
        encoder = self.encoders["text"]
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if context_mask is not None:
            inputs["context_mask"] = context_mask.masked_fill(~present.unsqueeze(-1), 0)
        if token_type_ids is not None and tells_segments(encoder):
            inputs["token_type_ids"] = token_type_ids.gather(1, order)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_text_encoder):
            every = "text" in self.layer_weights
            return read_texts(encoder, **inputs, pooling=self.config.text_pooling, every_layer=every), present

    def _weighted(self, modality: str, states: torch.Tensor) -> torch.Tensor:
        """Of hidden states (..., states, width) their learned mean, (..., width); else what is given."""
        if modality not in self.layer_weights:
            return states
        return torch.einsum("s,...sd->...d", self.layer_weights[modality].softmax(0).to(states.dtype), states)

    def _encode_parts(
        self, input_ids, attention_mask, token_type_ids, context_mask
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Of texts in parts, (batch, parts, tokens): the mean of what the parts give, weighted by their tokens."""
        own = attention_mask if context_mask is None else attention_mask * (1 - context_mask)
        tokens = own.sum(-1).float()  # (batch, parts)
        shares = tokens / tokens.sum(-1, keepdim=True).clamp(min=1)
        clips, parts = tokens.nonzero(as_tuple=True)
        if not len(clips):
            return None, None
        given = input_ids, attention_mask, token_type_ids, context_mask
        columns = [one if one is None else one[clips, parts] for one in given]
        states = []
        for begin in range(0, len(clips), PARTS):
            some = [one if one is None else one[begin : begin + PARTS] for one in columns]
            states.append(self._encode_text(*some)[0])
        weighted = torch.cat(states) * shares[clips, parts].view(-1, *(1 for _ in self.text_shape)).to(states[0].dtype)
        return weighted.new_zeros(len(input_ids), *self.text_shape).index_add(0, clips, weighted), tokens.any(-1)

    def _encode_sequence(self, modality, frames, lengths) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if frames is None or frames.shape[1] == 0:
            return None, None
        if lengths is None:
            lengths = torch.full((len(frames),), frames.shape[1], device=frames.device)
        if lengths.shape != frames.shape[:1] or (
            may_look(lengths) and (lengths.min() < 0 or lengths.max() > frames.shape[1])
        ):
            raise ValueError(
                f"{modality}_lengths must be {len(frames)} numbers in [0, {frames.shape[1]}], got {lengths.tolist()}."
            )
        present = lengths.to(frames.device) > 0
        # A NaN in the padding would reach the gradients. A clip without frames is read as a zero, the outcome dropped.
        padding = torch.arange(frames.shape[1], device=frames.device) >= lengths.to(frames.device).unsqueeze(-1)
        frames = frames.masked_fill(padding.unsqueeze(-1), 0.0)
        if modality in self.layer_weights:
            number = len(self.layer_weights[modality])
            first, states = frames.split([frames.shape[-1] % number, frames.shape[-1] // number * number], -1)
            frames = torch.cat([first, self._weighted(modality, states.unflatten(-1, (number, -1)))], -1)
        return self.encoders[modality](frames, lengths.clamp(min=1)), present

    def _check_inputs(
        self, input_ids, attention_mask, context_mask, text_embeds, sequences: dict
    ) -> tuple[int, torch.device]:
        known = self.config.sequences
        inputs = {name: sequences[name] for name in known if sequences.get(name) is not None}
        unknown = {
            name
            for name, value in sequences.items()
            if value is not None and name.removesuffix("_lengths") not in known
        }
        texts = {"input_ids": input_ids, "text_embeds": text_embeds}
        texts = {name: value for name, value in texts.items() if value is not None}
        if "text" in self.config.modalities and not self.config.is_sequence("text"):
            inputs |= texts
        else:
            unknown |= texts.keys()
        if unknown:
            raise ValueError(
                f"This model has the modalities {self.config.modalities} and cannot take {sorted(unknown)}."
            )
        if not inputs:
            raise ValueError(f"Give at least one of the modalities {self.config.modalities}; none came.")
        if len(texts) > 1:
            raise ValueError("Give either input_ids or text_embeds, which are made of them.")
        for name, value in inputs.items():
            if name == "input_ids":
                shape, fits = "(batch, tokens) or (batch, parts, tokens)", value.ndim in (2, 3)
            elif name == "text_embeds":
                shape, fits = f"(batch, {', '.join(map(str, self.text_shape))})", value.shape[1:] == self.text_shape
            else:
                width = self.config.sequence_options(name)["input_dim"]
                shape, fits = f"(batch, frames, {width})", value.ndim == 3 and value.shape[2] == width
            if not fits:
                raise ValueError(f"{name} must be of shape {shape}, got {tuple(value.shape)}.")
        sizes = {name: len(value) for name, value in inputs.items()}
        if len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise ValueError(f"All modalities must have the same number of clips, at least one, got {sizes}.")
        if input_ids is not None and attention_mask is not None and attention_mask.shape != input_ids.shape:
            shapes = f"{tuple(attention_mask.shape)} and {tuple(input_ids.shape)}"
            raise ValueError(f"attention_mask and input_ids must have the same shape, got {shapes}.")
        if context_mask is not None and (input_ids is None or context_mask.shape != input_ids.shape):
            raise ValueError("context_mask must be of the shape of input_ids, which it belongs to.")
        first = next(iter(inputs.values()))
        return len(first), first.device

    @property
    def text_encoders(self) -> list[nn.Module]:
        """The text encoder, if there is one; of an ensemble, those of all members."""
        if self.members:
            return [encoder for member in self.members for encoder in member.text_encoders]
        return [self.encoders["text"]] if self.config.text_config is not None else []

    def _freeze(self) -> None:
        for encoder in self.text_encoders if self.config.freeze_text_encoder else ():
            encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SelfMMModel":
        super().train(mode)
        self._freeze()  # here too: loaded parameters are new ones, and `from_pretrained` ends with `eval()`
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoders[0].get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoders["text"].set_input_embeddings(value)


def _faults(model: SelfMMModel, report: dict) -> Iterator[str]:
    """What is wrong with loaded weights, given what transformers reports of them."""
    missing, vectors = set(report["missing_keys"]), {f"absent.{modality}" for modality in model.absent}
    if vectors <= missing:  # a model without learned vectors may get them: they are zeros
        missing -= vectors
    mismatched = [one if isinstance(one, str) else one[0] for one in report["mismatched_keys"]]
    for problem, names in (
        ("is missing", missing),
        ("is in the file, and not in the model", report["unexpected_keys"]),
        ("is of another shape", mismatched),
    ):
        yield from (f"{name} {problem}" for name in sorted(names))
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.is_meta and not value.isfinite().all():
            yield f"{name} is not finite"


def _layers(encoder: nn.Module) -> set[str]:
    """The classes of its layers. Not its `_no_split_modules`: many have none, some name one around the embeddings."""
    return {type(module).__name__ for module in encoder.modules() if isinstance(module, GradientCheckpointingLayer)}


SelfMMModel.register_for_auto_class("AutoModel")

__all__ = ["SelfMMModel", "SelfMMOutput", "SelfMMPreTrainedModel", "multitask_loss"]
