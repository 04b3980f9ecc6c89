"""Pushes a folder to a repository of the Hub, by one commit."""

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..storage.scrub import scrub
from ..training.arguments import SelfMMTrainingArguments
from ..training.processes import by_first_process
from ..version import __version__
from .publication import Publication, identity, loading_code, read_publication

MAIN = "main"
# What the Hub itself puts into a new repository: there is nothing that anybody could load yet.
UNFINISHED = {".gitattributes", "README.md"}
RESEARCH = (
    "{data} is for research use and must not be public. Push it to a private repository, without --public. The "
    "repository's settings on the Hub decide who may see it."
)
REMEDIES = {
    401: "The Hub does not accept the login: log in with `hf auth login`, or set HF_TOKEN.",
    403: "The token may not do this: it needs write access to {repository}.",
    404: "There is no such repository, or the token may not see it.",
    409: "Somebody else is changing {repository} at the same time: push again.",
    412: "Somebody else has changed {repository} meanwhile: look at it, then push again.",
    429: "The Hub limits the rate of requests: push again in a few minutes.",
}


class PushError(ValueError):
    """A push was refused or broke off."""


class Destination(NamedTuple):
    """Where a run is to be pushed."""

    repository: str
    public: bool
    revision: str | None


class Pushed(NamedTuple):
    """
    The result of a push: the repository's page, the commit, who sees it, code that loads it, what is left to do, the
    files of the folder that were not sent, and those that were sent without the paths and logins in them.
    """

    url: str
    commit: str
    private: bool
    code: str
    note: str
    left: tuple[str, ...]
    scrubbed: tuple[str, ...]


class Plan(NamedTuple):
    """
    The plan of a push: the files that it sends, their sizes in bytes, those of the folder that it leaves, and those
    that it sends without the paths and logins in them.
    """

    sizes: dict[str, int]
    left: tuple[str, ...]
    scrubbed: tuple[str, ...]

    def __str__(self) -> str:
        width = max(len(f"{size:,}") for size in self.sizes.values())
        lines = [f"{size:>{width},}  {name}" for name, size in sorted(self.sizes.items())]
        return "\n".join([*lines, f"{len(lines)} files, {sum(self.sizes.values()):,} bytes"])


class _Remote(NamedTuple):
    """A repository as it was seen: the head of the branch, its files, and whether it is private."""

    head: str
    names: set[str]
    private: bool


def plan(folder: str | Path, repository: str, *, model: str | None = None) -> Plan:
    """
    Lists what [`push`] would send. Nothing leaves the machine.

    Args:
        folder, repository, model: As in [`push`].

    Raises:
        PublicationError: The folder is not whole, or a file holds something private.
    """
    publication = _checked(folder, repository, model)
    sizes = {
        name: len(source) if isinstance(source, bytes) else source.stat().st_size
        for name, source in publication.files.items()
    }
    return Plan(sizes, publication.left, publication.scrubbed)


def push(
    folder: str | Path,
    repository: str,
    *,
    public: bool = False,
    revision: str | None = None,
    message: str | None = None,
    model: str | None = None,
) -> Pushed:
    """
    Pushes a folder as one commit, so that nobody ever sees half of it in the repository.

    The token is that of the environment (`HF_TOKEN`) or of the login. A new repository is private. Files that an
    earlier push put there and the folder does not have are deleted by the same commit; others stay.

    Args:
        folder: Folder of a model or a run, a data set that `selfmm data prepare` has made, or a Space.
        repository: `NAME/REPOSITORY`.
        public: Whether everybody may see it once the commit is there. If not, an existing repository stays as visible
            as it is.
        revision: The branch; made from `main` if it does not exist.
        message: Message of the commit.
        model: The repository of the model that a Space shows.

    Raises:
        PublicationError: The folder is not whole, or a file holds something private.
        PushError: It cannot be pushed, or the push broke off.
    """
    publication = _checked(folder, repository, model)
    if publication.research and public:
        raise PushError(RESEARCH.format(data=publication.research))
    api = HfApi(library_name="selfmm-hf", library_version=__version__)
    with _explained(repository):
        remote = _check_destination(api, publication.kind, repository, revision)
        if remote is not None:
            _check_same(api, publication, repository, remote)
            if publication.research and not remote.private and remote.names <= UNFINISHED:
                raise PushError(RESEARCH.format(data=publication.research) + f" {repository} is public.")
        note = "" if model is None else _check_shown(api, model, public)
        if remote is None:
            sdk = {"space_sdk": "gradio"} if publication.kind == "space" else {}
            api.create_repo(repository, repo_type=publication.kind, private=True, **sdk)
            remote = _look(api, publication.kind, repository, None)
        elif revision not in (None, MAIN):
            api.create_branch(repository, branch=revision, repo_type=publication.kind, exist_ok=True)
        operations = [
            *(CommitOperationAdd(name, source) for name, source in publication.files.items()),
            *(CommitOperationDelete(name, is_folder=False) for name in publication.stale(remote.names)),
        ]
        commit = api.create_commit(
            repository,
            operations,
            commit_message=scrub(message or f"selfmm-hf {__version__}: {publication.identity}"),
            repo_type=publication.kind,
            revision=revision,
            parent_commit=remote.head,
        )
    if public and remote.private:
        with _explained(repository, "The commit is there, but the repository is still private."):
            api.update_repo_settings(repository, repo_type=publication.kind, private=False)
    prefix = "" if publication.kind == "model" else f"{publication.kind}s/"
    return Pushed(
        url=f"{api.endpoint}/{prefix}{repository}",
        commit=commit.oid,
        private=remote.private and not public,
        code=loading_code(publication, repository, commit.oid),
        note=note,
        left=publication.left,
        scrubbed=publication.scrubbed,
    )


def _checked(folder: str | Path, repository: str, model: str | None) -> Publication:
    publication = read_publication(Path(folder), repository, model)
    name = repository.rpartition("/")[2]
    if publication.metric and f"{name}.py" not in publication.files:
        raise PushError(f"evaluate looks for a module of the repository's name, but {folder} has no {name}.py.")
    return publication


def take_destination(args: SelfMMTrainingArguments) -> Destination | None:
    """
    Takes `--push_to_hub` over from [`Trainer`], which would push repositories that do not load.

    Raises:
        PushError: The run could not be pushed there.
    """
    if not args.push_to_hub:
        return None
    if args.hub_model_id is None:
        raise PushError("--push_to_hub needs --hub_model_id NAME/REPOSITORY.")
    revision = getattr(args, "hub_revision", None)  # newer transformers have it
    destination = Destination(args.hub_model_id, args.hub_private_repo is False, revision)
    args.push_to_hub, args.hub_model_id = False, None
    by_first_process(lambda: _check_model_destination(destination))
    return destination


def _check_model_destination(destination: Destination) -> None:
    api = HfApi(library_name="selfmm-hf", library_version=__version__)
    with _explained(destination.repository):
        remote = _check_destination(api, "model", destination.repository, destination.revision)
        if remote is not None and not remote.names <= UNFINISHED:
            _check_identity(api, "model", "a model of the type 'selfmm'", destination.repository, remote)


def push_run(folder: Path, destination: Destination) -> Pushed:
    """
    Pushes the model of a complete run.

    Raises:
        PushError: The push failed. The run is still complete, and the error names the command that pushes it.
    """
    try:
        return push(folder, **destination._asdict())
    except ValueError as error:
        command = ["selfmm", "push", str(folder), destination.repository, *["--public"] * destination.public]
        command += ["--revision", destination.revision] if destination.revision else []
        raise PushError(f"{error} The run in {folder} is complete; push it with: {shlex.join(command)}") from error


def _check_destination(api: HfApi, kind: str, repository: str, revision: str | None) -> _Remote | None:
    """Returns the repository as it is, if it exists. Raises an error if it could not be written to."""
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise PushError(f"{repository!r} is not the name of a repository: {error}") from error
    if repository.count("/") != 1:
        raise PushError(f"{repository!r} is not the name of a repository; expected NAME/REPOSITORY.")
    me = api.whoami()
    owner = repository.partition("/")[0]
    roles = {me["name"]: "admin", **{one["name"]: one.get("roleInOrg") for one in me.get("orgs", ())}}
    if owner not in roles:
        raise PushError(f"{me['name']} cannot push to {owner}, but to {', '.join(roles)}.")
    token = me.get("auth", {}).get("accessToken", {}).get("role")
    if "read" in (token, roles[owner]):
        raise PushError(f"This login may read, but not write to {owner}: set HF_TOKEN to a token that may.")
    remote = _look(api, kind, repository, None)
    if revision in (None, MAIN):
        return remote
    if remote is None or remote.names <= UNFINISHED:
        raise PushError(f"The branch main of {repository} is empty. Push to main first, then to {revision}.")
    return _look(api, kind, repository, revision) or remote


def _look(api: HfApi, kind: str, repository: str, revision: str | None) -> _Remote | None:
    try:
        info = api.repo_info(repository, repo_type=kind, revision=revision)
    except (RevisionNotFoundError, RepositoryNotFoundError):
        return None
    return _Remote(info.sha, {one.rfilename for one in info.siblings or ()}, bool(info.private))


def _check_same(api: HfApi, publication: Publication, repository: str, remote: _Remote) -> None:
    """Refuses to replace something else."""
    if remote.names <= UNFINISHED:
        return
    _check_identity(api, publication.kind, publication.identity, repository, remote)
    if publication.kind == "dataset":
        configs = {name.partition("/")[0] for name in remote.names if name.endswith("/origin.json")}
        if missing := sorted(one for one in configs if f"{one}/origin.json" not in publication.files):
            raise PushError(
                f"{repository} also has the configuration {missing[0]}, which the folder lacks: the card would not "
                "name it any more. Prepare it into the same folder, or delete it from the repository."
            )


def _check_identity(api: HfApi, kind: str, expected: str, repository: str, remote: _Remote) -> None:
    def read(name: str) -> bytes:
        with tempfile.TemporaryDirectory() as cache:
            file = api.hf_hub_download(repository, name, repo_type=kind, revision=remote.head, cache_dir=cache)
            return Path(file).read_bytes()

    found = identity(kind, remote.names, read)
    if found != expected:
        raise PushError(f"{repository} holds {found or 'something else'}, not {expected}: name another repository.")


def _check_shown(api: HfApi, model: str, public: bool) -> str:
    """Checks that a Space's model exists and may be loaded by whoever sees the Space; returns what is left to do."""
    remote = _look(api, "model", model, None)
    if remote is None or "config.json" not in remote.names:
        raise PushError(f"There is no model {model} on the Hub: push it before its Space.")
    if remote.private and public:
        raise PushError(f"The model {model} is private, so a public Space could not load it: make it public first.")
    return f"While {model} is private, the Space needs a secret HF_TOKEN that may read it." if remote.private else ""


@contextmanager
def _explained(repository: str, so_far: str = "Nothing was committed.") -> Iterator:
    """Turns whatever goes wrong with the Hub into an error of one line that says what to do."""
    try:
        yield
    except PushError:
        raise
    except OfflineModeIsEnabled as error:
        raise PushError("HF_HUB_OFFLINE is set: unset it to push.") from error
    except LocalTokenNotFoundError as error:
        raise PushError("You are not logged in: `hf auth login`, or set HF_TOKEN.") from error
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise PushError(f"{_reason(error, repository)} {so_far}") from error


def _reason(error: BaseException, repository: str) -> str:
    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__  # the error of an upload that broke off names only the file
    if not isinstance(error, HfHubHTTPError):
        return f"{repository}: {type(error).__name__}: {str(error).rstrip('.')}. Push again."
    status = error.response.status_code
    if status >= 500:
        return f"{repository}: the Hub failed ({status}): push again later."
    said = f" ({status}: {error.server_message})" if error.server_message else f" ({status})"
    return REMEDIES.get(status, "The Hub refused {repository}.").format(repository=repository) + said
