"""Where files are fetched from: an absolute path, or a URL of ``http`` or ``https``.

URLs are read by requests, which oslo.config brings along: it knows proxies (``https_proxy``, ``no_proxy``),
certificates (``REQUESTS_CA_BUNDLE``) and redirects.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from minova.exception import InvalidInput

if TYPE_CHECKING:
    import requests

_CHUNK = 2**20
_LONGEST = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_AUTHORITY = re.compile(r"[^/?#]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_URL = re.compile(r"https?://[!-.0-~][!-~]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that is being read.

    :ivar size: in bytes; None: nobody knows.
    :ivar chunks: its content, once; raises InvalidInput when no more can be had though there should be.
    """

    size: int | None
    chunks: Iterator[bytes]


def shown(location: str) -> str:
    """Return a location without what may be secret: the user and password of a URL, and its query."""
    scheme, mark, rest = location.partition("://")
    if not mark:
        return location
    authority, path = _split(rest)
    if "@" in path:
        # Who knows where the password ends.
        return f"{scheme}://***"
    path, question, _query = path.partition("?")
    _user, at, server = authority.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{server}{path}{'?***' if question else ''}"


def check(location: str) -> None:
    """Check that hosts can make something of a location. :raises InvalidInput: it is neither a path nor a URL."""
    if location.startswith("/"):
        sound = not _CONTROL.search(location) and len(location) <= _LONGEST
    else:
        sound = bool(_URL.fullmatch(location)) and len(location) <= _LONGEST
    if not sound:
        told = ascii(shown(location))[:200]
        raise InvalidInput(reason=f"{told}: an absolute path, or a URL of http or https, expected")
    if not location.startswith("/") and "@" in _split(location.partition("://")[2])[1]:
        reason = (
            "an @ that does not end the password is written %40 in a URL, and in a password a / %2F, a ? %3F, a # %23"
        )
        raise InvalidInput(reason=f"{shown(location)}: {reason}")


def _split(rest: str) -> tuple[str, str]:
    """Return the server of a URL, with the user if there is one, and what comes after it."""
    end = _AUTHORITY.match(rest)
    assert end is not None, "it matches nothing as well"
    return end.group(), rest[end.end() :]


@contextmanager
def opened(location: str, timeout: float) -> Iterator[Source]:
    """Open what is at a location.

    :param timeout: seconds to wait for a server, for each piece.
    :raises InvalidInput: it cannot be read, and why.
    """
    with _file(location) if location.startswith("/") else _url(location, timeout) as source:
        yield source


def sha256(location: str, timeout: float) -> str:
    """Read what is at a location, and return its digest. :raises InvalidInput: it cannot be read, and why."""
    digest = hashlib.sha256()
    with opened(location, timeout) as source:
        for chunk in source.chunks:
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _file(path: str) -> Iterator[Source]:
    try:
        # A pipe must not be waited for.
        opened_file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise InvalidInput(reason=f"{path}: {error.strerror}") from None
    with opened_file:
        status = os.fstat(opened_file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(reason=f"{path}: it is not a regular file")
        yield Source(size=status.st_size, chunks=_read(path, opened_file))


def _read(path: str, file: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := file.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise InvalidInput(reason=f"{path}: {error.strerror}") from None


@contextmanager
def _url(url: str, timeout: float) -> Iterator[Source]:
    # Here, for a command line that fetches nothing does without it.
    import requests

    try:
        # What is compressed on the way would have another size and digest.
        response = requests.get(url, stream=True, timeout=timeout, headers={"Accept-Encoding": "identity"})
    # Of host names that there cannot be, urllib3's own errors come through.
    except (requests.RequestException, ValueError) as error:
        raise _unreachable(url, error, timeout) from None
    with response:
        if response.status_code != requests.codes.ok:
            answer = " ".join(f"{response.status_code} {response.reason}".split())
            raise InvalidInput(reason=f"{shown(url)}: the server answers {answer}")
        length = response.headers.get("Content-Length", "")
        yield Source(size=int(length) if _LENGTH.fullmatch(length) else None, chunks=_receive(url, response, timeout))


def _receive(url: str, response: "requests.Response", timeout: float) -> Iterator[bytes]:
    import requests

    try:
        yield from response.iter_content(_CHUNK)
    except requests.RequestException as error:
        raise _unreachable(url, error, timeout) from None


def _unreachable(url: str, error: Exception, timeout: float) -> InvalidInput:
    """Return what to tell of an error; its own text would quote the URL."""
    import requests

    reasons = (
        (requests.Timeout, f"no answer within {timeout:g} s"),
        (requests.exceptions.SSLError, "the server's certificate is not accepted"),
        (requests.exceptions.ProxyError, "the proxy does not lead there"),
        (requests.exceptions.ChunkedEncodingError, "the connection broke off half-way"),
        (requests.ConnectionError, "the server cannot be reached, or has broken off the connection"),
        (requests.TooManyRedirects, "it is redirected for ever"),
    )
    reason = next((text for kind, text in reasons if isinstance(error, kind)), "this is no URL that can be fetched")
    return InvalidInput(reason=f"{shown(url)}: {reason}")
