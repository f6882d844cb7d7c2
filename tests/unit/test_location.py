"""Files are read from paths and URLs; what cannot be read is told in a line that holds no secret."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from minova import location
from minova.exception import InvalidInput

SECRET_URL = "https://user:geheim@images.example.org:8443/a/b.qcow2?signature=geheim"
SHOWN_URL = "https://***@images.example.org:8443/a/b.qcow2?***"


class Response(requests.Response):
    """An answer of a server's."""

    def __init__(self, content: bytes = b"", status: int = 200, error: Exception | None = None) -> None:
        super().__init__()
        self.status_code, self.reason = status, "Not\r\n Found" if status == 404 else "Fine"
        self.headers["Content-Length"] = str(len(content))
        self._pieces, self._error = [content[:3], content[3:]], error

    def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        pass


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the next requests get, and after that what was asked."""
    answers: list[Any] = []

    def get(url: str, **more: Any) -> Response:
        got: Any = answers.pop(0)
        answers.append((url, more))
        if isinstance(got, Exception):
            raise got
        assert isinstance(got, Response)
        return got

    monkeypatch.setattr(requests, "get", get)
    return answers


def read(where: str) -> tuple[int | None, bytes]:
    with location.opened(where, 5) as source:
        return source.size, b"".join(source.chunks)


def refusal(where: str) -> str:
    with pytest.raises(InvalidInput) as refused:
        read(where)
    return refused.value.message


def test_path_is_read(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(b"abc" * 10**6)
    assert read(str(file)) == (3 * 10**6, file.read_bytes())
    assert location.sha256(str(file), 5) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(str(tmp_path / "pipe")) == f"{tmp_path}/pipe: it is not a regular file"
    assert refusal(str(tmp_path)) == f"{tmp_path}: Is a directory"
    assert refusal(str(tmp_path / "none")) == f"{tmp_path}/none: No such file or directory"


def test_url_is_read_as_it_is(answer: list[Any]) -> None:
    answer.append(Response(b"content"))
    assert read(SECRET_URL) == (7, b"content")
    [(url, more)] = answer
    assert (url, more["timeout"], more["stream"]) == (SECRET_URL, 5, True)
    assert more["headers"] == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (requests.ConnectTimeout(SECRET_URL), "no answer within 5 s"),
        (requests.ReadTimeout(SECRET_URL), "no answer within 5 s"),
        (requests.exceptions.SSLError(SECRET_URL), "the server's certificate is not accepted"),
        (requests.exceptions.ProxyError(SECRET_URL), "the proxy does not lead there"),
        (requests.ConnectionError(SECRET_URL), "the server cannot be reached, or has broken off the connection"),
        (requests.TooManyRedirects(SECRET_URL), "it is redirected for ever"),
        (requests.exceptions.InvalidURL(SECRET_URL), "this is no URL that can be fetched"),
    ],
)
def test_server_that_is_not_reached(answer: list[Any], error: Exception, told: str) -> None:
    answer.append(error)
    assert refusal(SECRET_URL) == f"{SHOWN_URL}: {told}"


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 64])
def test_host_name_that_there_cannot_be(host: str) -> None:
    told = refusal(f"http://user:geheim@{host}/disk?geheim")
    assert told == f"http://***@{host}/disk?***: this is no URL that can be fetched"


@pytest.mark.parametrize("length", ["", "-1", "1e3", "\u0663", "9" * 5000])
def test_length_that_is_none_is_not_believed(answer: list[Any], length: str) -> None:
    response = Response(b"content")
    response.headers["Content-Length"] = length
    answer.append(response)
    assert read(SECRET_URL) == (None, b"content")


def test_server_that_has_it_not(answer: list[Any]) -> None:
    answer.append(Response(status=404))
    assert refusal(SECRET_URL) == f"{SHOWN_URL}: the server answers 404 Not Found"


def test_connection_that_breaks_off(answer: list[Any]) -> None:
    answer.append(Response(b"content", error=requests.exceptions.ChunkedEncodingError(SECRET_URL)))
    assert refusal(SECRET_URL) == f"{SHOWN_URL}: the connection broke off half-way"


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        (SECRET_URL, SHOWN_URL),
        ("http://example.org/a", "http://example.org/a"),
        ("http://example.org", "http://example.org"),
        ("http://example.org?a", "http://example.org?***"),
        ("http://a:b@c@example.org/x", "http://***@example.org/x"),
        ("http://a:b@example.org#x", "http://***@example.org#x"),
        ("https://user:ge/heim@example.org/x", "https://***"),
        ("https://user:ge?heim@example.org/x", "https://***"),
        ("https://user:ge#heim@example.org/x", "https://***"),
        ("http://example.org?a@b", "http://***"),
        ("/srv/images/a b?c@d", "/srv/images/a b?c@d"),
    ],
)
def test_what_is_shown_of_a_location(where: str, shown: str) -> None:
    assert location.shown(where) == shown


@pytest.mark.parametrize("end", "/?#")
def test_a_password_that_ends_a_url_early_is_refused_and_not_told(end: str) -> None:
    with pytest.raises(InvalidInput, match=r"https://[*]{3}: an @ .* %40 in a URL") as refused:
        location.check(f"https://user:ge{end}heim@example.org/x")
    assert "heim" not in refused.value.message
    location.check("https://user:ge%2Fheim@example.org/x%40y")
    location.check("/srv/a@b?c@d")
