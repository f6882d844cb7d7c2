"""Entry points. Each composes the objects of one process and serves; importing this package chooses real threads."""

import os
import warnings


def init_backend() -> None:
    """Choose oslo.service's threading backend; the first oslo.messaging import would choose eventlet for good."""
    # oslo.service and futurist import eventlet where it is installed: quicker and quieter so, and unused all the same.
    os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)
