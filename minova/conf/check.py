"""Finding what is wrong with a configuration, and saying it in one line that holds no secret."""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from oslo_config import cfg, iniparser

from minova.exception import ConfigurationError

Known = dict[str, dict[str, cfg.Opt]]
"""Section to option to its definition, under its deprecated names too."""


def check_files(files: Iterable[Path], opts: Sequence[tuple[str, list[cfg.Opt]]], conf: cfg.ConfigOpts) -> None:
    """Check that all that the files say is known and valid.

    :param opts: (section, options) of all options that may be set.
    :param conf: what a library has registered with it under a section of its own may be set too.
    :raises ConfigurationError: at the first mistake.
    """
    known = _index(opts)
    for file in files:
        for section, values in _read(file).items():
            name = section if section == "DEFAULT" else section.lower()
            if name not in known and name not in conf:
                _refuse(file, section, f"no such section{_instead(name, known)}")
            _check_section(file, name, values, known, conf)


def check_values(conf: cfg.ConfigOpts) -> None:
    """Check every value by itself, wherever it comes from, and those that depend on each other.

    :raises ConfigurationError: at the first mistake.
    """
    for name in conf:
        value = _value(conf, "DEFAULT", name)
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            for option in value:
                _value(value, name, option)
    if not Path(conf.state_path).is_absolute():
        _refuse_together(conf, f"state_path = {conf.state_path} is not an absolute path", "state_path")
    if conf.service_down_time <= conf.report_interval:
        reason = (
            f"service_down_time = {conf.service_down_time} must be larger than report_interval = {conf.report_interval}"
        )
        _refuse_together(conf, reason, "service_down_time", "report_interval")


def one_line(text: str) -> str:
    """Return a message as one line, without the user and password of any URL in it."""
    return mask(" ".join(text.split()))


_IN_AUTHORITY = re.compile(r"://[^\s/]*@")
_IN_QUERY = re.compile(r"([?&][^\s=&]*(?:pass|secret|token)[^\s=&]*=)[^\s&]*", re.IGNORECASE)


def mask(text: str) -> str:
    """Return a text without the user and password of any URL in it, and without the secrets in its query."""
    return _IN_QUERY.sub(r"\1***", _IN_AUTHORITY.sub("://***@", text))


def _index(opts: Sequence[tuple[str, list[cfg.Opt]]]) -> Known:
    known: Known = {}
    for section, options in opts:
        for option in options:
            known.setdefault(section, {})[option.dest] = option
            for old in option.deprecated_opts:
                known.setdefault(old.group or section, {}).setdefault(old.name or option.dest, option)
    return known


def _read(file: Path) -> dict[str, dict[str, list[str]]]:
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(str(file.expanduser()), sections).parse()
    except iniparser.ParseError as error:
        # The error quotes the line, and the line may hold a password.
        raise ConfigurationError(reason=f"{file}: line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(reason=f"{file}: not a text file") from None
    except OSError as error:
        raise ConfigurationError(reason=f"{file}: cannot be read: {error.strerror}") from None
    return sections


def _check_section(file: Path, section: str, values: dict[str, list[str]], known: Known, conf: cfg.ConfigOpts) -> None:
    options = known.get(section, {})
    for name, texts in values.items():
        if name in options:
            _check_value(file, section, options[name], name, texts)
        elif section not in conf or name not in conf[section]:
            _refuse(file, section, f"{name}: no such option{_elsewhere(name, section, known)}")


def _check_value(file: Path, section: str, option: cfg.Opt, name: str, texts: list[str]) -> None:
    for text in texts if option.multi else texts[-1:]:
        # What refers to other options is checked once they are all read.
        if "$" in text:
            continue
        try:
            is_missing = _finite(option.type(text)) is None and option.default is not None
        except ValueError as error:
            mistake = f"{name} is not valid" if option.secret else f"{name} = {text}: {_why(option, error)}"
            _refuse(file, section, mistake)
        if is_missing:
            _refuse(file, section, f"{name} has no value")


def _finite(value: Any) -> Any:
    """Return a value that is no number, or one that is there. :raises ValueError:"""
    # Bounds do not keep out what compares with nothing.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number expected")
    return value


def _why(option: cfg.Opt, error: ValueError) -> str:
    is_pythons_own = str(error).startswith(("could not convert", "invalid literal"))
    return f"{option.type.type_name} expected" if is_pythons_own else str(error)


def _value(values: Any, section: str, name: str) -> Any:
    try:
        return _finite(values[name])
    except (cfg.Error, ValueError) as error:
        # Before the reason, oslo.config names the place in a way that only its developers can read.
        reason = str(error).rpartition("is not valid: ")[2]
        raise ConfigurationError(reason=one_line(f"[{section}] {name}: {reason}")) from None


def _elsewhere(name: str, section: str, known: Known) -> str:
    homes = [other for other, options in known.items() if name in options]
    if homes:
        return f"; it belongs to [{homes[0]}]"
    return _instead(name, known.get(section, {}))


def _instead(name: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(candidates), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _refuse(file: Path, section: str, reason: str) -> NoReturn:
    raise ConfigurationError(reason=one_line(f"{file}: [{section}] {reason}")) from None


def _refuse_together(conf: cfg.ConfigOpts, reason: str, *names: str) -> NoReturn:
    """Refuse values of ``[DEFAULT]`` that are wrong only as they stand now; name the file that sets one of them."""
    places = [location for name in names if (location := conf.get_location(name)) is not None]
    files = [f"{place.detail}: " for place in places if place.location is cfg.Locations.user]
    raise ConfigurationError(reason=one_line(f"{files[0] if files else ''}[DEFAULT] {reason}"))
