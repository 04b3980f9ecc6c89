"""`selfmm export`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .errors import end_in_one_line, need


def export(
    model: Annotated[str, Argument(help="Folder of a model or of its run, or a Hub repository.")],
    output: Annotated[Path, Option("--output", metavar="FILE.onnx", help="File to write. An earlier one is replaced.")],
    revision: Annotated[str | None, Option(help="Revision of the repository.")] = None,
    int8: Annotated[
        bool, Option("--int8", help="Store the text encoder's weights in 8 bits: a smaller file, less exact.")
    ] = False,
) -> None:
    """Export a model to an ONNX file, and compare the file's predictions with the model's."""
    for package in ("onnx", "onnxruntime"):
        need(package, "onnx")
    with end_in_one_line():
        from selfmm_hf.conversion.to_onnx import export as write

        for line in write(model, output, revision=revision, int8=int8):
            print(line, flush=True)
