"""The guru meditation report: what a process is doing, written down when it is sent SIGUSR2."""

import os
from collections.abc import Callable, Mapping
from importlib.metadata import version as installed_version
from typing import Any

from oslo_config import cfg
from oslo_reports.guru_meditation_report import TextGuruMeditation
from oslo_reports.models.with_default_views import ModelWithDefaultViews
from oslo_reports.views.text.generic import KeyValueView

from minova.conf.check import mask
from minova.exception import ConfigurationError

Describe = Callable[[], Mapping[str, Any]]
"""Says what a service is doing now, as JSON types."""


class _Version:
    """What oslo.reports wants to know of a program."""

    def vendor_string(self) -> str:
        return "minova"

    def product_string(self) -> str:
        return "minova"

    def version_string_with_package(self) -> str:
        return installed_version("minova")


class Meditation(TextGuruMeditation):
    """oslo.reports' report, without the passwords of any URL."""

    def run(self) -> str:
        """Return the report."""
        return mask(super().run())


def answer(conf: cfg.ConfigOpts, prog: str, describe: Describe | None = None) -> None:
    """Have this process answer SIGUSR2 (or what ``[oslo_reports]`` says instead) with a report.

    :param describe: for the section ``Service``; None: the process serves nothing itself.
    :raises ConfigurationError: ``[oslo_reports]`` names a file that is not there.
    """
    sections = [] if describe is None else [("Service", lambda: _model(describe()))]
    # Those of the process that this one was forked from are not its own.
    Meditation.persistent_sections = sections
    # All processes of a service may be asked at once, and each needs a file of its own.
    name = f"{prog}-{os.getpid()}"
    try:
        Meditation.setup_autorun(_Version(), service_name=name, conf=conf)
    except OSError as error:
        reason = f"[oslo_reports] file_event_handler = {error.filename}: {error.strerror}"
        raise ConfigurationError(reason=reason) from None


def _model(data: Mapping[str, Any]) -> ModelWithDefaultViews:
    return ModelWithDefaultViews(dict(data), text_view=KeyValueView())
