"""What keeps somebody from a broker is told in words, and never in the library's own, which may hold a password."""

import socket
import ssl

import pytest
from amqp.exceptions import AccessRefused, NotAllowed

from minova.broker import why_unreachable


def refused_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("rabbit://user:secret@broker/")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (refused_certificate(), "self-signed certificate; see [oslo_messaging_rabbit] ssl_ca_file"),
        (ssl.SSLError("rabbit://user:secret@broker/"), "see [oslo_messaging_rabbit] ssl"),
        (FileNotFoundError("secret"), "ssl_ca_file"),
        (AccessRefused("secret"), "refuses the user or the password"),
        (NotAllowed("secret"), "no such virtual host"),
        (socket.gaierror("secret"), "no such host"),
        (ConnectionRefusedError("secret"), "ConnectionRefusedError"),
    ],
)
def test_reason(error: Exception, told: str) -> None:
    wrapped = RuntimeError("secret")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        assert told in why_unreachable(each)
        assert "secret" not in why_unreachable(each)
