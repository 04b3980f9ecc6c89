"""The files that come along with the package, beside its code."""

from pathlib import Path

# An installed package holds them; a checkout has them at its top.
PACKAGE = Path(__file__).resolve().parent
_HOME = PACKAGE if (PACKAGE / "hub_configs").is_dir() else PACKAGE.parents[1]
CONFIGS = _HOME / "hub_configs"
LICENCE = _HOME / "LICENSE"


def named(folder: str = "") -> dict[str, Path]:
    """The YAML files of a folder of `hub_configs/`, by their names without the ending."""
    return {path.stem: path for path in sorted((CONFIGS / folder).glob("*.yaml"))}
