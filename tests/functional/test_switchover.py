"""A database server that takes no writes any more, as another is the primary now, is left for that one."""

from contextlib import ExitStack

import pytest
from oslo_config import cfg
from sqlalchemy import delete

from minova.db.models import Base, ComputeNode
from minova.db.session import Database
from tests.unit.rows import a_node

_DEMOTE = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}
"""What makes a connection one to a former primary; those that are made after it find the new one."""

pytestmark = [pytest.mark.real, pytest.mark.parametrize("database", _DEMOTE)]


def test_one_refusal_is_enough_for_all_connections(conf: cfg.ConfigOpts, database: str) -> None:
    with Database(conf) as opened, ExitStack() as held:
        Base.metadata.create_all(opened.engine)
        for connection in [held.enter_context(opened.engine.connect()) for _ in range(2)]:
            connection.exec_driver_sql(_DEMOTE[database])
            connection.commit()
        held.close()
        opened.write(lambda session: session.add(a_node("host1")))
        for name in ("host2", "host3"):
            # Both at once: neither is one of those from before.
            held.enter_context(opened.engine.begin()).execute(delete(ComputeNode).where(ComputeNode.host == name))
