"""What keeps somebody from a broker, in words."""

import ssl

_REASONS = {
    "AccessRefused": "it refuses the user or the password",
    "NotAllowed": "it refuses the user or there is no such virtual host",
    "gaierror": "there is no such host",
}
"""The names of errors of libraries that one driver or another uses, to what they mean."""


def why_unreachable(error: BaseException) -> str:
    """Return what an error that a messaging driver raised means; never its text, which may quote a URL's password."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {cause.verify_message}; see [oslo_messaging_rabbit] ssl_ca_file"
    if isinstance(cause, ssl.SSLError):
        return "it does not speak TLS on this port; see [oslo_messaging_rabbit] ssl"
    if isinstance(cause, FileNotFoundError):
        return "a file of [oslo_messaging_rabbit] ssl_ca_file, ssl_cert_file or ssl_key_file is not there"
    name = type(cause).__name__
    return _REASONS.get(name, name)
