"""Exports a model as one ONNX file, which runs without torch."""

import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from ..hub.saved_model import load_model
from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..model.task_selfmm import Task
from ..model.text_encoder_selfmm import tells_segments
from ..quiet_terminal import silent
from ..storage.whole_files import beside, move

OPSET = 17
CHECKED = (1, 2, 7)  # clips in the batches on which a file is held against the model; traced with 3
SEEDS = range(4)  # with a batch of each size for each, every modality is absent from a batch of one
TOLERANCE = 1e-4  # of half a scale, or of a unit of log-odds
MOST_BYTES = 2**31  # protobuf takes no more
FRAMES = 40


def export(name: str, file: Path, revision: str | None = None, int8: bool = False) -> Iterator[str]:
    """
    Writes a model as an ONNX file, checks it, and yields lines that report on it.

    Args:
        name: Folder of a model or of its run, or a repository on the Hub.
        file: An earlier one is replaced.
        revision: Of the repository.
        int8: Whether the weights of the text encoder are stored in 8 bits.

    Raises:
        ValueError: The model cannot be loaded or exported, or the file does not say the same. There is no file then.
    """
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise ValueError(f"{file} is a folder, or would lie in one that does not exist; name a file by --output.")
    model, processor = load_model(name, revision)
    model = model.float()  # it may have been saved in half precision
    if int8 and model.config.text_config is None:
        raise ValueError("--int8 is for the text encoder, and this model has none; leave it out.")
    with beside(file) as folder:
        whole, small = folder / "float32.onnx", folder / "int8.onnx"
        write_onnx(whole, model, processor)
        difference = largest_difference(whole, model, processor)
        smallest = min(((high - low) / 2 for low, high in model.config.task.scales), default=1.0)
        if not difference <= TOLERANCE * smallest:
            raise ValueError(f"The file's predictions differ from the model's by {difference:.2g}; nothing is written.")
        yield f"float32: {_size(whole)}; differs from the model by {difference:.1e} at most, on random batches"
        if int8:
            quantize(whole, small)
            describe(small, model.config.task)
            difference = largest_difference(small, model, processor)
            yield f"int8:    {_size(small)}; differs from the model by {difference:.1e} at most, on random batches"
        move(small if int8 else whole, file)
    yield f"{file}: of {', '.join(input_names(model, processor))}"


def input_names(model: SelfMMModel, processor: SelfMMProcessor) -> list[str]:
    """What the file takes: the arguments of `forward` that the processor gives."""
    names = []
    for modality in model.config.modalities:
        if model.config.is_sequence(modality):
            names += [modality, f"{modality}_lengths"]
        else:
            names += ["input_ids", "attention_mask"]
            given = [] if processor.tokenizer is None else processor.tokenizer.model_input_names
            if "token_type_ids" in given and tells_segments(model.text_encoders[0]):
                names.append("token_type_ids")
            names += ["context_mask"] if processor.context_utterances else []
    return names


def write_onnx(file: Path, model: SelfMMModel, processor: SelfMMProcessor) -> None:
    """
    Writes a model in float32: inputs by the names of `forward`, batch, tokens and frames of any number; outputs
    `logits` and `<modality>_logits`, each (batch, num_labels); and what they are (see [`describe`]).
    """
    if (size := sum(one.numel() * one.element_size() for one in model.parameters())) >= MOST_BYTES:
        raise ValueError(f"An ONNX file holds less than 2 GiB, and this model has {size / 2**30:.1f}.")
    inputs = random_batch(model, processor, clips=3, seed=1)
    outputs = ["logits", *(f"{modality}_logits" for modality in model.config.modalities)]
    axes = {name: {0: "batch"} for name in [*inputs, *outputs]}
    for name in inputs:
        if not name.endswith("_lengths"):
            axes[name][1] = f"{name}_frames" if name in model.config.sequences else "tokens"
    try:
        with silent():  # the tracer warns of all that it cannot know to be right, and prints the graph where it fails
            # Not by torch.export, `dynamo=True`: it unrolls an LSTM to as many frames as it was shown.
            torch.onnx.export(
                _Flat(model, list(inputs)).eval(),  # else the exporter leaves the model in training mode
                tuple(inputs.values()),
                str(file),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except RuntimeError as error:  # also what the exporter calls its own
        raise ValueError(f"torch cannot write this model as ONNX: {error}") from error
    describe(file, model.config.task)


def describe(file: Path, task: Task) -> None:
    """Writes `problem_type`, and as JSON `names` and `scales`, into the metadata of a file."""
    graph = onnx.load(file)
    values = {"problem_type": task.problem_type, "names": json.dumps(task.names), "scales": json.dumps(task.scales)}
    onnx.helper.set_model_props(graph, values)
    onnx.save(graph, file)


class _Flat(nn.Module):
    """A model of which inputs and outputs are tuples, the former in the order of `names`."""

    def __init__(self, model: SelfMMModel, names: list[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inputs = dict(zip(self.names, values, strict=True))
        for modality in self.model.config.sequences:
            # One more frame of padding: where no clip of a batch has any, the LSTM of the file must still read one.
            inputs[modality] = nn.functional.pad(inputs[modality], (0, 0, 0, 1))
        output = self.model(**inputs)
        return output.logits, *output.unimodal_logits.values()


def random_batch(model: SelfMMModel, processor: SelfMMProcessor, clips: int, seed: int) -> dict[str, torch.Tensor]:
    """
    Inputs by name: tokens (clips, tokens), frames (clips, frames, width) and their lengths (clips,).

    Lengths are mixed; of a few clips, each modality is absent from one or none, by the seed.
    """
    random = torch.Generator().manual_seed(seed)
    batch, modalities = {}, model.config.modalities
    for number, modality in enumerate(modalities):
        tokens = not model.config.is_sequence(modality)
        lengths = torch.randint(1, 1 + (processor.max_text_tokens if tokens else FRAMES), (clips,), generator=random)
        lengths *= (torch.arange(clips) + number + seed) % (1 + max(clips, len(modalities))) > 0
        longest = int(lengths.max())
        if tokens:
            longest = max(longest, 2)  # no text gives [CLS] and [SEP]
            batch["attention_mask"] = (torch.arange(longest) < lengths.unsqueeze(1)).long()
            size = model.config.text_config.vocab_size
            batch["input_ids"] = torch.randint(size, (clips, longest), generator=random)
            batch["token_type_ids"] = torch.zeros(clips, longest, dtype=torch.long)
            batch["context_mask"] = (torch.arange(longest) < lengths.unsqueeze(1) // 2).long()
        else:
            width = model.config.sequence_options(modality)["input_dim"]
            batch[modality] = torch.randn(clips, longest, width, generator=random)
            batch[f"{modality}_lengths"] = lengths
    return {name: batch[name] for name in input_names(model, processor)}


def quantize(file: Path, out: Path) -> None:
    """Writes `out`, in which the text encoder multiplies in 8 bits, and looks its words up in them."""
    # Products and look-ups with weights are the text encoder's alone: all else is LSTM and Gemm, and stays as it is.
    nodes = [node.name for node in onnx.load(file).graph.node if node.op_type in ("MatMul", "Gather")]
    with silent():
        quantize_dynamic(
            file,
            out,
            nodes_to_quantize=nodes,
            per_channel=True,  # as small and as fast as with one scale for a matrix, and not half as far off
            reduce_range=True,  # weights of 7 bits: CPUs without VNNI would overflow at 8
            weight_type=QuantType.QInt8,
        )


def largest_difference(file: Path, model: SelfMMModel, processor: SelfMMProcessor) -> float:
    """Of any logit between file and model, on random batches."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]  # the exporter drops what makes no difference
    largest = 0.0
    for clips, seed in ((clips, seed) for clips in CHECKED for seed in SEEDS):
        batch = random_batch(model, processor, clips, seed)
        with torch.no_grad():
            output = model(**batch)
        expected = torch.stack([output.logits, *output.unimodal_logits.values()])
        try:
            found = session.run(None, {name: batch[name].numpy() for name in names})
        except Exception as error:  # onnxruntime's have no class in common
            raise ValueError(f"The file does not run on all batches: {error}") from error
        difference = (torch.stack([torch.from_numpy(one) for one in found]) - expected).abs().max()
        largest = max(largest, float(difference.nan_to_num(nan=float("inf"))))
    return largest


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
