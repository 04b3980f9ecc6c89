"""`selfmm push`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from .errors import end_in_one_line

if TYPE_CHECKING:
    from selfmm_hf.hub.push import Plan, Pushed


def push(
    folder: Annotated[Path, Argument(help="Folder of a run, a model, a prepared data set, a metric or a Space.")],
    repository: Annotated[str, Argument(help="NAME/REPOSITORY on the Hub. A new one is private.")],
    public: Annotated[bool, Option("--public", help="Make the repository public after the commit.")] = False,
    revision: Annotated[str | None, Option(help="Branch; by default main.")] = None,
    message: Annotated[str | None, Option(help="Message of the commit.")] = None,
    model: Annotated[str | None, Option(help="For a Space: the repository of the model that it uses.")] = None,
    dry_run: Annotated[bool, Option("--dry_run", help="List the files and their sizes, and send nothing.")] = False,
) -> None:
    """Push a model, a data set or a Space to the Hub, in one commit."""
    with end_in_one_line():
        from selfmm_hf.hub import push as hub

        if dry_run:
            plan = hub.plan(folder, repository, model=model)
            print(plan)
            print_left(plan)
        else:
            options = {"public": public, "revision": revision, "message": message, "model": model}
            print_pushed(hub.push(folder, repository, **options))


def print_pushed(pushed: "Pushed") -> None:
    print(f"{pushed.url} ({'private' if pushed.private else 'public'}), commit {pushed.commit}")
    print(*filter(None, (pushed.note, pushed.code)), sep="\n")
    print_left(pushed)


def print_left(sent: "Plan | Pushed") -> None:
    """Prints which files were not sent, and which were sent without private details."""
    if sent.scrubbed:
        print("Sent without the local paths and logins in them:", *(ascii(name) for name in sent.scrubbed))
    if sent.left:
        print("Not sent, since they do not belong to such a repository:", *(ascii(name) for name in sent.left))
