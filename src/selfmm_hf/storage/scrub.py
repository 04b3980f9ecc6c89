"""Removes private details from what is published: local paths, account names and tokens."""

import json
import re
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import get_token

# Of the Hub: today's, of 34 letters and digits, and what else begins so, but for names such as `hf_hub_download`.
TOKEN = re.compile(
    r"(?:hf|api_org)_(?:[a-z]+_)?[A-Za-z0-9]{20,}[\w.-]*"
    r"|(?<![A-Za-z0-9])hf_(?=[A-Za-z]*[0-9]|[a-z]*[A-Z])[A-Za-z0-9]{8,}"
)
# Of a URL: the user, with or without a password, and the values in its query that open doors.
USER = re.compile(r"\A(?:[^/?#\s]*@|[^/?#\s@:]*:(?!\d*(?:[/?#]|\Z))[^\s@]*@)")
SECRET = re.compile(
    r"(?i)((?:^|[?&#;])(?:[\w.-]*(?:token|signature|sig|secret|passw(?:or)?d|passwd|pwd|credential|auth|api-?key|[_-]key"
    r"|keyid)[\w.-]*|key)=)[^&#;\s]+"
)
HOMES = {"home", "users", "documents and settings"}  # folders of people's folders

SEPARATOR = r"(?:/|\\)++"
# Of a path, up to its last separator. A folder may have spaces and punctuation in its name; it ends where a sentence, a
# list or a quotation goes on.
FOLDERS = rf"""(?:(?:
    [^\s/\\"'`<>|:,;()\[\]{{}}] | [ ](?=[^\s/]) | [',:;)\]}}](?=\w) | (?<![ ])[(\[{{](?=[^\s/\\])
    | \([^()\n/\\"]*\) | \[[^\[\]\n/\\"]*\] | \{{[^{{}}\n/\\"]*\}}
)++{SEPARATOR})*+"""
NAME = r"""[^\s/\\"'`<>|:,;()\[\]{}]*+"""
MACHINE = "file|smb|cifs|nfs|afp|sftp|ssh|scp|rsync"  # schemes of URLs of a place on some machine
# How a path begins: from a root, from home, or from where one is; by scp; on Windows, or another's machine.
ROOT = rf"""(?<![^\s"'`(=:,;|\[{{<>@])(?:
    (?:[\w.-]{{1,64}}@[\w.-]{{1,64}}:)?(?:(?:~(?:[A-Za-z_][\w.-]*)?|\.{{1,2}})/+|/+(?=[\w.$%@(\[{{+~\\-]))
    | \.{{1,2}}\\+(?=\w) | (?:\\\\+[?.]\\+)?[A-Za-z]:{SEPARATOR}(?=[\w.$%@(\[{{+~-]) | \\\\+(?=[\w.$?-]+\\)
)"""
HOME = rf"(?:/home|(?:[A-Za-z]:{SEPARATOR}|/)[Uu]sers){SEPARATOR}(?=[\w.-]+{{end}})|(?:{MACHINE}):/+(?=\w)"


def scrub(text: str, certain: bool = False) -> str:
    """
    Text without paths of a machine, of which the last name stays; without names and passwords in URLs, and without
    tokens. What it returns it leaves as it is.

    Args:
        certain: Whether only that is touched which can be nothing else, whatever it stands in: what lies in somebody's
            home, or where this process runs, rather than whatever begins with a slash.
    """
    pattern = _pattern(_places(), certain)
    while (scrubbed := pattern.sub(_scrubbed, _without_tokens(text))) != text:
        text = scrubbed
    return text


def private(text: str, certain: bool = False) -> Iterator[str]:
    """What [`scrub`] would change, piece by piece, but for tokens."""
    for match in _pattern(_places(), certain).finditer(text):
        if _scrubbed(match) != match[0]:
            yield match[0]


def holds_token(text: str) -> bool:
    """Whether there is a token of the Hub, or what this process is logged in by."""
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
    """What may be told of a path: the last name in it, unless that is somebody's."""
    *folders, name = [part for part in re.split(r"[/\\]+", path) if part] or [path]
    if not folders and "." not in name and re.match("/[^/]", path) and path.rstrip("/") not in _homes():
        return path  # of an address, such as /predict
    above = folders[-1].casefold() if folders else ""
    if above in HOMES or path.rstrip("/\\") in _homes():
        return "~"
    return "" if name in (".", "..") else name.rpartition("@")[2] if above.endswith(":") else name


def _homes() -> set[str]:
    return {"/root", *_forms(Path.home())}


def _places() -> tuple[str, ...]:
    """Where this process runs, in all spellings, the longest first."""
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
