"""What conductors of a newer release have written, and this one cannot read, is in nobody's way but its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from minova.exception import DatabaseError
from minova.states import VmState
from tests.fixtures.lab import Lab

pytestmark = pytest.mark.every_database


@contextmanager
def written_by_a_newer_release(lab: Lab, name: str) -> Iterator[None]:
    """Let an instance be in a state that this release does not know, for as long as this lasts."""

    def write(state: str) -> None:
        change = text("update instances set vm_state = :state where name = :name")
        lab.database.write(lambda session: session.execute(change, {"state": state, "name": name}))

    before = str(lab.instance(name).vm_state)
    write("of_tomorrow")
    yield
    write(before)


def test_host_and_other_instances_go_on(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    strange = lab.boot("strange", host="host1")
    lab.boot("known", host="host1")
    with written_by_a_newer_release(lab, "strange"):
        assert [each.name for each in lab.api.list_instances(lab.ctxt)] == ["known"]
        with pytest.raises(DatabaseError, match="VmState 'of_tomorrow', which a newer release of minova wrote"):
            lab.instance("strange")
        assert lab.cluster.computes["host1"].reporter.report()
        lab.succeed(lab.api.stop_instance(lab.ctxt, "known"))
        [moved] = lab.api.drain_host(lab.ctxt, "host1")
        lab.succeed(moved)
        assert lab.instance("known").host == "host2"
    assert f"Left out of instances, since only a newer release of minova can read them: {strange.uuid}" in caplog.text
    assert lab.guest("host1", strange.uuid) is not None
    assert lab.instance("strange").vm_state is VmState.ACTIVE
