"""Removes private details from what is published: local paths, account names and tokens."""

import json
import re
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import get_token

# The Hub's tokens: today's, of 34 letters and digits, and others like them, but not names such as `hf_hub_download`.
TOKEN = re.compile(
    r"(?:hf|api_org)_(?:[a-z]+_)?[A-Za-z0-9]{20,}[\w.-]*"
    r"|(?<![A-Za-z0-9])hf_(?=[A-Za-z]*[0-9]|[a-z]*[A-Z])[A-Za-z0-9]{8,}"
)
# In a URL: the user, with or without a password, and values of the query that grant access.
USER = re.compile(r"\A(?:[^/?#\s]*@|[^/?#\s@:]*:(?!\d*(?:[/?#]|\Z))[^\s@]*@)")
SECRET = re.compile(
    r"(?i)((?:^|[?&#;])(?:[\w.-]*(?:token|signature|sig|secret|passw(?:or)?d|passwd|pwd|credential|auth|api-?key|[_-]key"
    r"|keyid)[\w.-]*|key)=)[^&#;\s]+"
)
HOMES = {"home", "users", "documents and settings"}  # folders that hold people's home folders

SEPARATOR = r"(?:/|\\)++"
# The folders of a path, up to its last separator. Their names may have spaces and punctuation; a path ends where a
# sentence, a list or a quotation goes on.
FOLDERS = rf"""(?:(?:
    [^\s/\\"'`<>|:,;()\[\]{{}}] | [ ](?=[^\s/]) | [',:;)\]}}](?=\w) | (?<![ ])[(\[{{](?=[^\s/\\])
    | \([^()\n/\\"]*\) | \[[^\[\]\n/\\"]*\] | \{{[^{{}}\n/\\"]*\}}
)++{SEPARATOR})*+"""
NAME = r"""[^\s/\\"'`<>|:,;()\[\]{}]*+"""
MACHINE = "file|smb|cifs|nfs|afp|sftp|ssh|scp|rsync"  # schemes of URLs that name a place on a machine
# How a path begins: at a root, at home, or at the current folder; with a host, as for scp; on Windows or a share.
ROOT = rf"""(?<![^\s"'`(=:,;|\[{{<>@])(?:
    (?:[\w.-]{{1,64}}@[\w.-]{{1,64}}:)?(?:(?:~(?:[A-Za-z_][\w.-]*)?|\.{{1,2}})/+|/+(?=[\w.$%@(\[{{+~\\-]))
    | \.{{1,2}}\\+(?=\w) | (?:\\\\+[?.]\\+)?[A-Za-z]:{SEPARATOR}(?=[\w.$%@(\[{{+~-]) | \\\\+(?=[\w.$?-]+\\)
)"""
HOME = rf"(?:/home|(?:[A-Za-z]:{SEPARATOR}|/)[Uu]sers){SEPARATOR}(?=[\w.-]+{{end}})|(?:{MACHINE}):/+(?=\w)"


def scrub(text: str, certain: bool = False) -> str:
    """
    Removes from a text the paths of a machine, except for their last name, names and passwords in URLs, and tokens. Its
    result is never changed by scrubbing it again.

    Args:
        certain: Whether to remove only what can be nothing but a path: what lies in somebody's home, or where this
            process runs. Otherwise, whatever begins with a slash is taken for a path.
    """
    pattern = _pattern(_places(), certain)
    while (scrubbed := pattern.sub(_scrubbed, _without_tokens(text))) != text:
        text = scrubbed
    return text


def private(text: str, certain: bool = False) -> Iterator[str]:
    """Yields the pieces that [`scrub`] would change, except for tokens."""
    for match in _pattern(_places(), certain).finditer(text):
        if _scrubbed(match) != match[0]:
            yield match[0]


def holds_token(text: str) -> bool:
    """Checks whether the text holds a token of the Hub, or the one that this process is logged in with."""
    return _without_tokens(text) != text


def _without_tokens(text: str) -> str:
    if token := get_token():
        text = text.replace(token, "hf_***")
    return TOKEN.sub("hf_***", text)


def _scrubbed(match: re.Match) -> str:
    kind, text = match.lastgroup, match[0]
    if kind == "login":
        return ""
    if kind == "url":
        scheme, _, rest = text.partition("://")
        place, mark, query = re.fullmatch(r"([^?#]*)([?#]?)(.*)", USER.sub("", rest), re.DOTALL).groups()
        query = SECRET.sub(r"\1***", query)
        return f"{scheme}://{place}{mark}{query if query == text else scrub(query, certain=True)}"
    if kind == "quoted":
        return text[0] + _name(text[1:-1]) + text[-1]
    return _name(text)


def _name(path: str) -> str:
    """Returns what may be told of a path: its last name, unless that is a person's."""
    *folders, name = [part for part in re.split(r"[/\\]+", path) if part] or [path]
    if not folders and "." not in name and re.match("/[^/]", path) and path.rstrip("/") not in _homes():
        return path  # part of an address, such as /predict
    above = folders[-1].casefold() if folders else ""
    if above in HOMES or path.rstrip("/\\") in _homes():
        return "~"
    return "" if name in (".", "..") else name.rpartition("@")[2] if above.endswith(":") else name


def _homes() -> set[str]:
    return {"/root", *_forms(Path.home())}


def _places() -> tuple[str, ...]:
    """Returns the places where this process runs, in all spellings, the longest first."""
    places = {Path.home(), Path.cwd(), Path(tempfile.gettempdir())}
    far = [place for place in places if len(place.parts) > 2 or place == Path.home() != Path(place.anchor)]
    return tuple(sorted({form for place in far for form in _forms(place)}, key=lambda form: (-len(form), form)))


def _forms(place: Path) -> set[str]:
    return {str(place), place.as_posix(), json.dumps(str(place))[1:-1], quote(place.as_posix())}


@lru_cache(8)
def _pattern(places: tuple[str, ...], certain: bool) -> re.Pattern:
    here = "|".join(map(re.escape, places)) or "(?!)"
    home = HOME.replace("{end}", r"[/\\]" if certain else "")
    path = rf"(?:{here})(?:{SEPARATOR}{FOLDERS}{NAME}|(?![\w.-]))|(?:{home}){FOLDERS}{NAME}"
    url = rf"(?<![A-Za-z0-9])(?!(?:{MACHINE}):)[A-Za-z][A-Za-z0-9+.-]{{0,20}}://(?!/)[^\s\"'<>`|]*+"
    if certain:
        return re.compile(rf"(?P<url>{url})|(?P<path>{path})", re.VERBOSE)
    login = r"(?<![\w/\\.+-])[\w.+-]{1,64}:[^\s@/:]{1,64}@(?=[\w-]+\.)"
    quoted = rf"(?P<quote>[\"'`])(?=(?:{home}|{here}|{ROOT}))(?:(?!(?P=quote))[^\n])*+(?P=quote)"
    return re.compile(
        rf"(?P<url>{url})|(?P<login>{login})|(?P<quoted>{quoted})|(?P<path>{path}|{ROOT}{FOLDERS}{NAME})", re.VERBOSE
    )
