"""Two hosts, an instance, and a conductor's parts, on a database in memory."""

from collections.abc import Iterator

import pytest
from oslo_config import cfg

from minova.db.models import Base
from minova.db.session import Database
from tests.unit.conductor.rig import Rig
from tests.unit.rows import open_database


@pytest.fixture
def database(conf: cfg.ConfigOpts) -> Iterator[Database]:
    database = open_database(conf)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def rig(conf: cfg.ConfigOpts, database: Database) -> Rig:
    return Rig(conf, database)
