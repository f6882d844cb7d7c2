"""A database with hosts, in memory."""

from collections.abc import Iterator

import pytest
from oslo_config import cfg

from minova.db.models import Base
from minova.db.session import Database
from tests.unit.rows import open_database


@pytest.fixture
def database(conf: cfg.ConfigOpts) -> Iterator[Database]:
    database = open_database(conf)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()
