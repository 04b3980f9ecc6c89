"""Tells local paths from repositories on the Hub. It never takes a path for a repository, and announces a download."""

import logging
import os
import re

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

logger = logging.getLogger(__name__)

FILE = re.compile(
    r"\.(pkl|pickle|csv|tsv|parquet|arrow|jsonl?|ya?ml|txt|np[yz]|h5|hdf5|csd|zip|tar|t?gz|pth?|bin|onnx|safetensors)$",
    re.IGNORECASE,
)


def check_name(name: str, here: str = "folder", owner: bool = True) -> None:
    """
    Checks that `name` is a path that exists or, by its spelling, a repository on the Hub.

    Args:
        here: What it could be on this machine.
        owner: Whether a repository must be named with its owner, `OWNER/NAME`; some old models have none.

    Raises:
        ValueError: There is no such path, and it looks like one, or like a URL; or a file is where a folder should be.
    """
    if os.path.isdir(name) or (os.path.exists(name) and "file" in here):
        return
    if os.path.exists(name):
        raise ValueError(f"{name} is a file; name a {here}.")
    missing = f"There is no {here} {name}"
    if "://" in name:
        raise ValueError(f"{name} is a URL; name the repository alone, OWNER/NAME, or a {here}.")
    if not _could_be_repository(name, owner):
        raise ValueError(f"{missing}, and it is not the name of a repository either.")
    folder = os.path.dirname(name)
    if folder and os.path.isdir(folder):
        raise ValueError(f"{missing}: the folder {folder} is here, so this is not taken for a repository on the Hub.")


def _could_be_repository(name: str, owner: bool) -> bool:
    if name.count("/") not in ((1,) if owner else (0, 1)) or FILE.search(name) or not name.isascii():
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not name.startswith((".", "~"))


def take_from_hub(name: str, what: str, revision: str | None = None, here: str = "folder", owner: bool = True) -> bool:
    """
    Checks whether `name` will be taken from the Hub, and if so, logs it; a path on this machine will not.

    Args:
        what: What it is, for the message, such as "the data set".
        revision: Revision of the repository.
        here, owner: As [`check_name`] takes them.

    Raises:
        ValueError: As [`check_name`] does.
    """
    check_name(name, here, owner)
    if os.path.exists(name):
        return False
    if os.environ.get("RANK", "0") == "0":  # only one of several processes says it
        logger.warning(
            f"There is no {here} {name} here: {what} is taken from the Hub, repository {name}, revision "
            f"{revision or 'main'}."
        )
    return True
