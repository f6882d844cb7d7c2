"""Databases for unit tests, and rows to put into them."""

from datetime import timedelta
from typing import Any

from oslo_config import cfg
from oslo_db import options as db_options

from minova.db import models
from minova.db.queries import COMPUTE
from minova.db.session import Database
from minova.objects import utcnow
from minova.states import PowerState, VmState


def open_database(conf: cfg.ConfigOpts, url: str = "sqlite://") -> Database:
    """Open a database, by default one in memory; it is empty."""
    conf.register_opts(db_options.database_opts, "database")
    conf.set_override("connection", url, "database")
    return Database(conf)


def a_service(host: str, *, silent_for: float = 0.0, **more: Any) -> models.Service:
    """Return the service of a host that was heard from so many seconds ago."""
    now = utcnow()
    seen = now - timedelta(seconds=silent_for)
    values = {"rpc_version": "1.0", "started_at": now, "last_seen_at": seen, **more}
    return models.Service(binary=COMPUTE, host=host, **values)


def a_node(host: str, **more: Any) -> models.ComputeNode:
    """Return a host with 8 vCPUs, 8192 MiB and 100 GiB, all free."""
    return models.ComputeNode(
        **{"host": host, "vcpus": 8, "memory_mb": 8192, "disk_gb": 100, "hypervisor_type": "fake", **more}
    )


def an_instance(uuid: str = "some-uuid", **more: Any) -> models.Instance:
    """Return an instance of 2 vCPUs, 1024 MiB and 10 GiB, active on no host."""
    now = utcnow()
    values = {
        "uuid": uuid,
        "name": f"name of {uuid}",
        "vcpus": 2,
        "memory_mb": 1024,
        "disk_gb": 10,
        "vm_state": VmState.ACTIVE,
        "power_state": PowerState.RUNNING,
        "created_at": now,
        "updated_at": now,
        **more,
    }
    return models.Instance(**values)
