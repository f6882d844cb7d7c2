"""Whether a program can work with a schema that is not its own: a later one that only adds will do."""

from collections.abc import Iterator

import sqlalchemy
from sqlalchemy import Column, Connection, Index, MetaData, Table, UniqueConstraint

from minova.db.models import Base


def shortfalls(connection: Connection, needed: MetaData = Base.metadata) -> list[str]:
    """Return why a program whose tables are ``needed`` cannot work with a database; an empty list: it can.

    Read and written is what the program knows. So what it knows has to be there, and what it does not know has to be
    content with not being written.
    """
    found = MetaData()
    found.reflect(connection, only=lambda name, _metadata: name in needed.tables)
    return [reason for table in needed.sorted_tables for reason in _compare_tables(table, found.tables.get(table.name))]


def _compare_tables(needed: Table, found: Table | None) -> Iterator[str]:
    if found is None:
        yield f"it has no table {needed.name}"
        return
    for column in needed.columns:
        yield from _compare_columns(column, found.columns.get(column.name))
    for column in found.columns:
        if column.name not in needed.columns and not column.nullable and column.server_default is None:
            yield f"column {column} has to be written"
    for names in _unique(found) - _unique(needed):
        yield f"in table {found.name}, {', '.join(sorted(names))} has to be unique"


def _compare_columns(needed: "Column[object]", found: "Column[object] | None") -> Iterator[str]:
    if found is None:
        yield f"it has no column {needed}"
    elif needed.nullable and not found.nullable:
        yield f"column {needed} cannot be empty"
    elif (length := _length(found)) and length < (_length(needed) or length):
        yield f"column {needed} has room for {length} characters only"


def _length(column: "Column[object]") -> int | None:
    kind = column.type
    inner = kind.impl_instance if isinstance(kind, sqlalchemy.TypeDecorator) else kind
    return getattr(inner, "length", None)


def _unique(table: Table) -> set[frozenset[str]]:
    constraints = (each for each in table.constraints if isinstance(each, UniqueConstraint))
    unique: list[UniqueConstraint | Index] = [*constraints, *(index for index in table.indexes if index.unique)]
    return {frozenset(column.name for column in each.columns) for each in unique}
