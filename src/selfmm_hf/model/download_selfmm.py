"""A clip at a URL as a file, for as long as it is read. This file travels to the Hub."""

import http.client
import ipaddress
import os
import re
import socket
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

MAX_DOWNLOAD = 500_000_000  # bytes
MAX_DOWNLOAD_SECONDS = 300  # for all of it, however slowly it comes
TIMEOUT = 30  # seconds without an answer


@contextmanager
def downloaded(
    url: str, progress: Callable[[str, float, float | None], None] | None = None, public: bool = False
) -> Iterator[str]:
    """
    A temporary file with what is at an address.

    Args:
        url: Of the scheme http or https.
        progress: Called with `"download"`, the bytes that have come, and how many there are, if the server tells.
        public: Whether to fetch by https only, without a proxy, and from no host inside a private network, wherever
            the server sends on to.

    Raises:
        ValueError: There is nothing, it is larger than 500 MB, or it does not come within 300 s; the message says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "clip")
        with open(path, "wb") as file, closing(_Deadline(MAX_DOWNLOAD_SECONDS)) as deadline:
            try:
                with _opener(deadline, public).open(quoted(url), timeout=TIMEOUT) as answer:
                    problem = _received(answer, file, progress)
            except (OSError, ValueError, http.client.HTTPException) as error:  # of the network, the address, the server
                reason = " ".join(str(error).split())
                problem = f"cannot be downloaded: {reason}. Check the address, or download it first."
            if deadline.passed:  # all else that may have gone wrong comes of that
                problem = (
                    f"takes too long: {file.tell()} bytes came within the {MAX_DOWNLOAD_SECONDS} s that a download may "
                    "take; download it first."
                )
        if problem:
            raise ValueError(f"{url} {problem}")
        yield path


def quoted(url: str) -> str:
    """An address as a browser sends it: what a URL may not contain is escaped, and what is escaped already stays."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (
        urllib.parse.quote(re.sub("%(?![0-9A-Fa-f]{2})", "%25", part), safe="%/:?@!$&'()*+,;=~[]")
        for part in (parts.path, parts.query)
    )
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


class _Deadline:
    """Ends its connections when the time is up, whatever they are waiting for: a server may send a byte at a time."""

    def __init__(self, seconds: float):
        self.passed = False
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: socket.socket) -> None:
        with self._lock:  # a second handle, which stays where the first becomes an encrypted one or is closed
            self._connections.append(socket.fromfd(connection.fileno(), connection.family, connection.type))
        if self.passed:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self.passed = True
            for connection in self._connections:
                with suppress(OSError):  # it has ended already
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            while self._connections:
                self._connections.pop().close()


class _ToPublicHosts(http.client.HTTPConnection):
    """What `HTTPSConnection` opens before it encrypts. Looks at the addresses of a name, and at the one reached."""

    def connect(self) -> None:
        for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            _check_public(self.host, address[0])
        super().connect()
        try:
            _check_public(self.host, self.sock.getpeername()[0])  # the name may mean another one by now
        except OSError:
            self.close()
            raise


def _check_public(host: str, address: str) -> None:
    """
    Raises:
        OSError: The address is not of the public internet, or may lead to one that is not.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    translated = found.version == 6 and (
        found in _NAT64 or found.ipv4_mapped is not None or found.sixtofour is not None or found.teredo is not None
    )
    if translated or found.is_multicast or not found.is_global:
        raise OSError(f"{host} is not a public host")


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _opener(deadline: _Deadline, public: bool = False) -> urllib.request.OpenerDirector:
    """Of http and https alone, redirections too, with connections that a deadline ends."""

    def watched(kind: type[http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
        kinds = (kind, _ToPublicHosts) if public else (kind,)

        class Watched(*kinds):
            def connect(self) -> None:
                super().connect()
                deadline.watch(self.sock)

        return Watched

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(watched(http.client.HTTPConnection), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(watched(http.client.HTTPSConnection), request)

    opener = urllib.request.OpenerDirector()
    for handler in (
        *(() if public else (Http, urllib.request.ProxyHandler)), Https, urllib.request.UnknownHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _received(answer: Any, file: Any, progress: Callable[[str, float, float | None], None] | None) -> str | None:
    """Writes what a server answers to a file; what is wrong with it, if anything is."""
    size, announced = 0, answer.headers.get("Content-Length")
    total = None if announced is None else int(announced)
    while block := answer.read1(1 << 20):
        size += file.write(block)
        if size > MAX_DOWNLOAD:
            return f"is larger than {MAX_DOWNLOAD // 10**6} MB; download and cut it."
        if progress is not None:
            progress("download", size, total)
    if total is not None and size != total:
        return f"broke off after {size} of {total} bytes; try again, or download it first."
    return None


__all__ = ["downloaded", "quoted"]
