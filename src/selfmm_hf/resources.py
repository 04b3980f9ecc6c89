"""The files that come along with the package, beside its code."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CONFIGS = Path(__file__).with_name("hub_configs")  # the folder hub_configs/ of the repository
LICENCE = PACKAGE / "LICENSE"


def named(folder: str = "") -> dict[str, Path]:
    """The YAML files of a folder of `hub_configs/`, by their names without the ending."""
    return {path.stem: path for path in sorted((CONFIGS / folder).glob("*.yaml"))}
