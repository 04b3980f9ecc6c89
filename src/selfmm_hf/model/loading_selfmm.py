"""
Loads models of other repositories with the code of transformers. Code of these repositories never runs. This file
travels to the Hub.
"""

import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, cached_file, logging

logger = logging.get_logger(__name__)


@contextmanager
def without_its_code(name: str | os.PathLike):
    """Tells in one line what transformers says where something needs code of its own, and `trust_remote_code=False`."""
    try:
        yield
    except Exception as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{name} needs code of its own, which is not run: choose one that transformers has the code for. If you "
            "trust it, load it yourself in Python with trust_remote_code=True and pass the object."
        ) from None


@contextmanager
def reading(what: str):
    """
    Turns whatever a damaged file raises, such as the panics of tokenizers, which are no `Exception`, into one
    `ValueError` that names `what` was read.
    """
    try:
        yield
    except (OSError, KeyboardInterrupt, SystemExit, GeneratorExit):  # what is not there, and what is no fault of a file
        raise
    except BaseException as error:
        raise ValueError(f"{what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line, with its type where that tells more than the message."""
    said = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())


def load(from_pretrained: Callable, name: str | os.PathLike, **options: Any) -> Any:
    """
    Calls `from_pretrained` of an `Auto` class for a repository or a folder, without running any of its code.

    Raises:
        ValueError: It cannot be loaded without.
    """
    with without_its_code(name):
        return from_pretrained(name, trust_remote_code=False, **options)


@contextmanager
def quiet():
    """Silences what transformers reports of the files that it reads."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def file_of(name: str | os.PathLike, file: str, revision: str | None = None) -> Path | None:
    """A file of a repository or a folder, where it has it."""
    where = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(name, file, revision=revision, **where)
    return None if found is None else Path(found)


def check_whole(name: str | os.PathLike, revision: str | None = None) -> None:
    """
    Raises:
        ValueError: A repository or a folder holds an adapter, which transformers would load if PEFT is installed.
    """
    if file_of(name, ADAPTER_CONFIG_NAME, revision):
        raise ValueError(f"it holds an adapter, {ADAPTER_CONFIG_NAME}: merge it into the model, and save that")


def commit_of(name: str, **where: Any) -> str | None:
    """The commit of a repository from which its files were taken; a folder has none."""
    if os.path.isdir(name):
        return None
    found = re.search(r"/snapshots/([0-9a-f]{40})/", Path(cached_file(name, CONFIG_NAME, **where)).as_posix())
    return found and found[1]


def token_for(what: str, model: str, revision: str | None, source: tuple[str, dict[str, Any]] | None) -> Any:
    """
    Announces a model that a recipe names, before it is fetched, and tells with what token.

    Args:
        what: It is, such as "audio encoder".
        model: The name of its repository, or its folder.
        revision: Of the repository.
        source: Where the recipe was read, and how; `None` where the caller made it.

    Returns:
        The `token` for `from_pretrained`: that of the user, but for what the recipe of another owner names, none.
    """
    if source is None or os.path.isdir(model):
        return None
    name, options = source
    logger.warning(
        f"The recipe of {name or 'a file'} names the {what} {model}: it is taken from the Hub, revision "
        f"{revision or 'main'}."
    )
    same_owner = "/" in model and not os.path.exists(name) and name.split("/")[0] == model.split("/")[0]
    return options.get("token") if same_owner else False


__all__ = [
    "check_whole", "commit_of", "file_of", "load", "quiet", "reading", "reason", "token_for", "without_its_code",
]  # fmt: skip
