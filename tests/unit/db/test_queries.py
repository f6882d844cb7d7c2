"""Rows found by what users and peers call them."""

from typing import Any

import pytest

from minova.db.queries import (
    COMPUTE,
    find_action,
    find_instance,
    find_migration,
    find_node,
    find_service,
    instances_on,
    open_action,
)
from minova.db.session import Database
from minova.exception import (
    ActionNotFound,
    AmbiguousName,
    HostNotFound,
    InstanceNotFound,
    MigrationNotFound,
    ServiceNotFound,
)
from minova.states import VmState
from tests.unit.rows import a_node, a_service, an_instance


def add(database: Database, *rows: Any) -> None:
    database.write(lambda session: session.add_all(rows))


def find(database: Database, reference: str, *, deleted: bool = False) -> str:
    with database.read() as session:
        return find_instance(session, reference, deleted=deleted).uuid


def test_instance_is_found_by_uuid_and_by_name(database: Database) -> None:
    add(database, an_instance("uuid1", name="web"), an_instance("uuid2", name="db"))
    assert (find(database, "uuid1"), find(database, "web")) == ("uuid1", "uuid1")


def test_name_that_several_bear_is_ambiguous(database: Database) -> None:
    add(database, an_instance("uuid2", name="web"), an_instance("uuid1", name="web"))
    with pytest.raises(AmbiguousName) as refusal:
        find(database, "web")
    assert refusal.value.candidates == ["uuid1", "uuid2"]
    assert find(database, "uuid2") == "uuid2"


def test_deleted_instance_is_found_only_by_its_uuid_and_if_asked_for(database: Database) -> None:
    add(database, an_instance("uuid1", name="web", vm_state=VmState.DELETED))
    for reference in ("uuid1", "web"):
        with pytest.raises(InstanceNotFound):
            find(database, reference)
    assert find(database, "uuid1", deleted=True) == "uuid1"
    with pytest.raises(InstanceNotFound):
        find(database, "web", deleted=True)


def test_name_of_deleted_instances_is_not_ambiguous(database: Database) -> None:
    add(database, an_instance("uuid1", name="web", vm_state=VmState.DELETED), an_instance("uuid2", name="web"))
    assert find(database, "web", deleted=True) == "uuid2"


def test_what_does_not_exist_is_not_found(database: Database) -> None:
    with database.read() as session:
        with pytest.raises(ActionNotFound, match="no such action: 1"):
            find_action(session, "1")
        with pytest.raises(MigrationNotFound, match="no such migration: 2"):
            find_migration(session, "2")
        with pytest.raises(HostNotFound, match="no such host: 3"):
            find_node(session, "3")
        with pytest.raises(ServiceNotFound, match="no such service: minova-compute on 4"):
            find_service(session, COMPUTE, "4")
        assert open_action(session, "5") is None


def test_host_and_service_are_found(database: Database) -> None:
    add(database, a_node("host1"), a_service("host1"))
    with database.read() as session:
        assert find_node(session, "host1").host == "host1"
        assert find_service(session, COMPUTE, "host1").host == "host1"


def test_instances_of_a_host_come_in_the_order_of_their_names(database: Database) -> None:
    add(
        database,
        an_instance("uuid1", name="b", host="host1"),
        an_instance("uuid2", name="a", host="host1"),
        an_instance("uuid3", name="c", host="host2"),
        an_instance("uuid4", name="d"),
    )
    with database.read() as session:
        assert [row.name for row in instances_on(session, "host1")] == ["a", "b"]
