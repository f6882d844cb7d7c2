"""A database in a file, as threads need it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from minova.db.models import Base
from minova.db.session import Database
from tests.unit.rows import open_database


@pytest.fixture
def empty(conf: cfg.ConfigOpts, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    database = open_database(conf, f"sqlite:///{tmp_path}/minova.sqlite")
    yield database
    database.close()


@pytest.fixture
def database(empty: Database) -> Database:
    """A database with all tables."""
    Base.metadata.create_all(empty.engine)
    return empty
