"""What MkDocs does not do by itself: pages that lie outside docs/, notebooks, and names in docstrings."""

import re
from pathlib import Path

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ["CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "examples/README.md"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/, as if they lay in it."""
    for name in OUTSIDE:
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, name, content=re.sub(r"\]\((\.\./)?docs/", r"](\1", text)))
    for source in sorted((ROOT / "examples" / "notebooks").glob("*.py")):
        notebook = jupytext.read(source)
        notebook.metadata = {}
        text = re.sub(r"\A---\n.*?\n---\n", "", jupytext.writes(notebook, "md"), flags=re.DOTALL)
        files.append(File.generated(config, f"examples/notebooks/{source.stem}.md", content=text.lstrip()))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Links out of docs/ lead to the pages above; those of notebooks to their pages. GitHub takes less indentation."""
    markdown = re.sub(r"(?m)^   (?=\S)", "    ", markdown)  # what goes on in a numbered list
    markdown = re.sub(r"(?m)^(    \S.*)\n(?=\d+\. )", r"\1\n\n", markdown)  # and what comes after that
    if page.file.src_uri in OUTSIDE:
        return markdown
    markdown = re.sub(r"\]\(((?:\.\./)*)\.\./(" + "|".join(map(re.escape, OUTSIDE)) + r")", r"](\1\2", markdown)
    return re.sub(r"\]\(((?:\.\./)*)\.\./(examples/notebooks/\w+)\.py", r"](\1\2.md", markdown)


def on_page_content(html: str, **_) -> str:
    """Docstrings write names as [`Name`]."""
    return re.sub(r"\[(<code>[\w.]+</code>)\]", r"\1", html)
