"""`selfmm convert`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .errors import end_in_one_line


def convert(
    checkpoint: Annotated[Path, Argument(help="The .pth file. Only its tensors are read, and no code.")],
    output_dir: Annotated[Path, Option("--output_dir", help="Folder to write.")],
    text_encoder: Annotated[
        str | None,
        Option(
            "--text_encoder", help="Hub repository or folder with the configuration and tokenizer of the text encoder."
        ),
    ] = None,
    label_range: Annotated[float, Option("--label_range", help="3 for MOSI and MOSEI, 1 for SIMS.")] = 3.0,
) -> None:
    """Convert a checkpoint of the official code or of MMSA into a model folder."""
    with end_in_one_line():
        from selfmm_hf.conversion.from_official import convert as write

        model = write(checkpoint, output_dir, text_encoder, label_range)
    print(f"{output_dir}: {model.num_parameters():,} parameters; load it with AutoModel and trust_remote_code=True.")
    if text_encoder is None:
        print("It has no tokenizer, so its pipeline reads no words: name --text_encoder for one.")
