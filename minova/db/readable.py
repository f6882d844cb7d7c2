"""Rows that hold what only a newer release knows: during an upgrade its conductors write them beside ours.

Whoever looks at many rows leaves these out: they are the newer conductors' to deal with, and must not keep this one
from the others.
"""

import logging
from typing import Any, TypeVarTuple

from sqlalchemy import ColumnElement, Result, Select, String, and_, inspect, not_, or_, type_coerce
from sqlalchemy.orm import Session

from minova.db.models import Base, StoredEnum

LOG = logging.getLogger(__name__)

_Ts = TypeVarTuple("_Ts")


def read_known(session: Session, query: "Select[*_Ts]", kind: type[Base]) -> "Result[*_Ts]":
    """Run a query for rows of ``kind`` (and more), and leave out those that cannot be read; the log names them."""
    key = inspect(kind).primary_key
    hidden = session.execute(query.with_only_columns(*key).where(not_(readable(kind)))).all()
    if hidden:
        named = ", ".join(str(row[0]) for row in hidden)
        LOG.warning("Left out of %s, since only a newer release of minova can read them: %s", kind.__tablename__, named)
    return session.execute(query.where(readable(kind)))


def as_written(kind: type[Base]) -> list[ColumnElement[Any]]:
    """Return the columns of a table with the values of enums as plain strings: whatever a row holds can be read."""
    # Labelled, for what is coerced has no name of its own.
    return [
        type_coerce(each, String).label(each.name) if isinstance(each.type, StoredEnum) else each
        for each in kind.__table__.columns
    ]


def readable(kind: type[Base]) -> ColumnElement[bool]:
    """Return the condition that this release knows all that a row holds."""
    columns = [(each, each.type) for each in kind.__table__.columns]
    # As plain strings, for what is looked for is no member of the enum.
    return and_(
        *(
            or_(column.is_(None), type_coerce(column, String).in_([member.value for member in stored.kind]))
            for column, stored in columns
            if isinstance(stored, StoredEnum)
        )
    )
