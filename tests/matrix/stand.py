"""A site for one cell after the other: two hosts, one or two conductors, and a hand on their failpoints."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec
from sqlalchemy import select

from minova import failpoints
from minova.cli.connection import Connection
from minova.context import RequestContext
from minova.db import models
from minova.db.queries import COMPUTE
from minova.exception import NotCancellable, NotForceable, PeerSilent
from minova.failpoints import Pass, Plan
from minova.objects import Action, BootRequest, utcnow
from minova.states import OPEN_ACTION, VM_STATE_OF_POWER, MigrationStatus, PowerState, VmState
from tests.fixtures import invariants
from tests.fixtures.daemon import Daemon
from tests.fixtures.nursery import Nursery
from tests.fixtures.operations import SLOWLY, silence
from tests.fixtures.services.program import wait_for
from tests.fixtures.services.services import Services
from tests.fixtures.site import Site
from tests.matrix.asking import Background, insist

SOURCE, DESTINATION = "host1", "host2"
FIRST, SECOND = "control1", "control2"
CLIENT = "minova-manage"
"""The binary by which the operator's own messages are known."""

LEASE = 2

# The patience with a silent compute is twice what an order takes that its repetition overtook, on an idle machine: the
# compute is started again, and the lease runs out.
CONFIGURATION = f"""
[DEFAULT]
service_down_time = 8
executor_thread_pool_size = 8
[conductor]
lease = {LEASE}
unresponsive_timeout = 8
threads = 4
[compute]
max_concurrent_operations = 4
live_migration_progress_interval = 1
report_retry_interval = 0.3
[rpc]
ping_timeout = 1
quick_timeout = 2
normal_timeout = 12
long_timeout = 8
monitor_timeout = 2
[oslo_messaging_rabbit]
kombu_missing_consumer_retry_timeout = 1
rabbit_transient_queues_ttl = 5
[fake]
migration_bandwidth = 400
"""

_CELLS_PER_LOOK = 10
"""How often the broker is asked for its queues, which takes as long as a cell: they last for longer than one."""

_MOST_THREADS = 60
"""Of a process with the pools of this configuration; one that leaks a thread at each crash soon has more."""


class Stand:
    """What the cells of one process of the matrix are run on, with an instance ``vm`` in each."""

    def __init__(self, services: Services, folder: Path, *, spare_conductor: bool) -> None:
        """Start the daemons and wait until they are up.

        :param folder: a new one.
        :param spare_conductor: have two conductors, so that one may stay dead.
        """
        with ExitStack() as opened:
            self._start(opened, services, folder, spare_conductor)
            self._open = opened.pop_all()

    def _start(self, opened: ExitStack, services: Services, folder: Path, spare_conductor: bool) -> None:
        self._folder = folder
        self.points = folder / "failpoints"
        self.points.mkdir(parents=True)
        os.environ[failpoints.ENVIRONMENT] = str(self.points)
        nursery = opened.enter_context(Nursery())
        env = {failpoints.ENVIRONMENT: str(self.points)}
        self._rabbitmq, self._url = services.rabbitmq, services.rabbitmq.transport_url()
        connection = services.postgresql.connection()
        self._tidied = 0
        self.site = Site(folder, self._url, connection, CONFIGURATION, env=env, nursery=nursery)
        opened.callback(self._kill_all)
        for host in (FIRST, SECOND) if spare_conductor else (FIRST,):
            self.site.add_conductor(host)
        for host in (SOURCE, DESTINATION):
            self.site.add_compute(host)
        self.site.wait_until_up()
        failpoints.activate(CLIENT, "")
        self._connection: Connection = opened.enter_context(self.site.connect())
        self.api = self._connection.conductor
        self.action = ""
        """The action that was begun before the operation under test, if that is about one."""
        self.aside = RequestContext(user="matrix")
        """Of what is no part of the operation under test; this thread's."""
        self.ctxt = self._new_request()

    def close(self) -> None:
        """Stop everything."""
        self._open.close()

    def _kill_all(self) -> None:
        # What is not shown need not be stopped gently.
        for daemon in self.site.daemons:
            daemon.kill()
        self.site.stop()

    # The operation under test.

    @property
    def request(self) -> str:
        """The id of the request under test."""
        return str(self.ctxt.request_id)

    def begin(self, submit: Callable[["Stand"], str]) -> Background:
        """Have the operator do something in a thread of its own."""
        return Background(lambda: submit(self), self.ctxt)

    def arm(self, plan: Plan | None) -> None:
        """Forget what was passed so far, and have ``plan`` happen to what comes from now on."""
        with failpoints.locked(self.points):
            (self.points / failpoints.PASSED).unlink(missing_ok=True)
            if plan is None:
                (self.points / failpoints.PLAN).unlink(missing_ok=True)
            else:
                (self.points / failpoints.PLAN).write_bytes(msgspec.json.encode(plan))

    def passes(self) -> list[Pass]:
        """Return what was passed since the points were armed."""
        with failpoints.locked(self.points):
            return failpoints.passes(self.points)

    def has_happened(self) -> bool:
        """Return whether what was planned has happened."""
        return any(each.fate for each in self.passes())

    def cancel(self, submit: Callable[[RequestContext, str], Action], action: str) -> str:
        """Have an action cancelled; return its id."""
        with suppress(NotCancellable):
            insist(lambda: submit(self.ctxt, action))
        return action

    def force_complete(self, migration: str) -> None:
        """Have a migration forced to its end."""
        with suppress(NotForceable):
            insist(lambda: self.api.force_complete_migration(self.ctxt, migration))

    @contextmanager
    def standstill(self, host: str) -> Iterator[None]:
        """Let the compute of a host do nothing for a while."""
        pids = [self.site.daemon(host).pid, *self.site.daemon(host).workers()]
        # With the lock in its hands it would stop all others too.
        with failpoints.locked(self.points):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: all(_has_stopped(pid) for pid in pids), f"the compute of {host} stands still")
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    # What operations begin with.

    def boot(self) -> None:
        """Have the instance run on the source."""
        request = BootRequest(name="vm", vcpus=1, memory_mb=64, disk_gb=1, host=SOURCE)
        self.done(self.api.boot_instance(self.aside, request))

    def done(self, action: Action) -> None:
        """Wait until an action has succeeded."""
        self.site.succeed(action.id)

    def migrate_slowly(self) -> None:
        """Begin a live migration that does not end by itself, :attr:`action`; return once it copies memory."""
        action = self.api.live_migrate_instance(self.ctxt, "vm", DESTINATION, SLOWLY)
        self.action = action.id
        self.site.wait_for(
            lambda: self.api.get_migration(self.aside, action.id).status is MigrationStatus.RUNNING, "memory is copied"
        )

    def lose_source(self) -> None:
        """Turn the source off; it is fenced, and silent for long enough."""
        self.site.daemon(SOURCE).kill()
        self.set_fenced(SOURCE, True)
        # Last: a report from before its end may still be taken.
        self.site.database.write(silence, SOURCE)

    def set_fenced(self, host: str, fenced: bool) -> None:
        """Say that a host is off, or take that back."""
        insist(lambda: self.api.set_service_forced_down(self.aside, host, fenced))

    # What comes after it.

    def end_of_leases(self) -> datetime:
        """Return when the last lease of an open action runs out; now, if nothing is open."""
        query = select(models.Action.lease_expires_at).where(models.Action.status.in_(OPEN_ACTION))
        with self.site.database.read() as session:
            return max(session.scalars(query), default=utcnow())

    def instance(self) -> tuple[VmState, str | None]:
        """Return the state of the instance that was made last, and where it lives."""
        row = models.Instance
        with self.site.database.read() as session:
            found = session.execute(select(row.vm_state, row.host).order_by(row.created_at.desc()).limit(1)).one()
            return (found.vm_state, found.host)

    def guests(self, off: frozenset[str]) -> dict[str, VmState]:
        """Return the guests that there are, as host to state, but for hosts that are off."""
        found = invariants.fake_guests(self._folder / "state" / "fake", set(off)).values()
        return {host: VM_STATE_OF_POWER[PowerState(power)] for places in found for host, power in places}

    def was_overtaken(self) -> bool:
        """Return whether a message that was held back was overtaken by another."""
        return any(each.point.endswith(" overtaken") for each in self.passes())

    def wait_until_late(self) -> None:
        """Wait until a message that was delayed has been sent, and dealt with."""
        self.site.wait_for(lambda: any(each.point.endswith(" late") for each in self.passes()), "it is sent late")
        self.wait_until_idle()

    def reports(self) -> str:
        """Return what the processes have to say, and what each of their threads is doing."""
        workers = [pid for daemon in self.site.daemons if daemon.runs for pid in daemon.workers()]
        for pid in workers:
            os.kill(pid, signal.SIGUSR2)
        with suppress(AssertionError):
            logs = [daemon.log for daemon in self.site.daemons if daemon.runs]
            wait_for(lambda: all("Guru Meditation" in log.read_text(errors="replace") for log in logs), "reports", 5)
        return "\n".join(f"--- {daemon.host}\n{daemon.tail(400)}" for daemon in self.site.daemons)

    def trace(self, action_id: str) -> list[models.ActionEvent]:
        """Return what the trace of an action tells."""
        query = select(models.ActionEvent).where(models.ActionEvent.action_id == action_id)
        with self.site.database.read() as session:
            return list(session.scalars(query.order_by(models.ActionEvent.id)))

    def wait_until_sound(
        self, dead: frozenset[str] = frozenset(), silent: frozenset[str] = frozenset(), *, returning: bool = False
    ) -> None:
        """Wait until the invariants hold; fail if they do not, and at once if an instance has two guests.

        :param dead: hosts that are off, with their guests.
        :param silent: hosts whose computes are dead, so that nobody can know what they have.
        :param returning: a host that was off is back, and has copies to destroy.
        """

        def check() -> None:
            guests = invariants.fake_guests(self._folder / "state" / "fake", set(dead))
            invariants.check(self.site.database, guests, set(dead), silent)

        # What one host has too many is destroyed by and by only if it was off.
        invariants.wait_until_kept(check, 15, never_heals=None if returning else "I1")

    def wait_until_idle(self) -> None:
        """Wait until no process has anything left to do; fail if one does, or has threads left over."""
        for daemon in (each for each in self.site.daemons if each.runs):
            wait_for(functools.partial(self._is_idle, daemon), f"{daemon.host} has nothing to do", 15)
            for pid in daemon.workers():
                threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
                assert threads <= _MOST_THREADS, f"{daemon.host} has {threads} threads"

    def _is_idle(self, daemon: Daemon) -> bool:
        control = self._connection.control("compute" if daemon.binary == COMPUTE else "conductor")
        try:
            return not control.get_activity(self.aside, daemon.host).tasks
        except PeerSilent:
            # All may be slow, where so many cells are done beside each other.
            return False

    def tidy(self, off: frozenset[str], *, may_be_lost: bool) -> None:
        """Bring all back, check what has to be so then, and remove the instance.

        :param off: hosts that are fenced.
        :param may_be_lost: the instance may be in error, and its guest be gone.
        """
        self.arm(None)
        self.revive()
        self.wait_until_sound(returning=bool(off))
        for host in off:
            self.set_fenced(host, False)
            # At its start a host is told at once.
            self.site.daemon(host).kill()
            self.revive()
        self.wait_until_idle()
        wait_for(
            lambda: self._is_found(may_be_lost),
            lambda: f"the instance, {self.instance()}, is what its guest is: {self.guests(frozenset())}",
            15,
        )
        self._delete()
        self._tidied += 1
        if self._tidied % _CELLS_PER_LOOK == 0:
            self._wait_for_queues()

    def _is_found(self, may_be_lost: bool) -> bool:
        """Return whether the instance says what guest there is, and whether there is one unless it may be lost."""
        state, host = self.instance()
        there = {host: state} if host is not None else {}
        return self.guests(frozenset()) == there or (may_be_lost and state is VmState.ERROR)

    def _wait_for_queues(self) -> None:
        """Wait until each queue is seen to be in use; fail if one is left over."""
        left = set(self._queues_in_question())

        def none_left() -> bool:
            # Others may have a message just now.
            left.intersection_update(self._queues_in_question())
            return not left

        wait_for(none_left, lambda: f"no queue is left over: {sorted(left)}")

    def _queues_in_question(self) -> list[str]:
        """Return the queues that nobody takes messages from, or that hold some."""
        queues = self._rabbitmq.queues(self._url, "consumers", "messages")
        return [queue["name"] for queue in queues if not int(queue["consumers"]) or int(queue["messages"])]

    def _delete(self) -> None:
        """Delete the instance, unless it is gone, and check that nothing of it is left anywhere."""
        for instance in self.api.list_instances(self.aside):
            self.done(self.api.delete_instance(self.aside, instance.uuid))
        self.wait_until_sound()
        guests = list((self._folder / "state" / "fake").glob("*/*.json"))
        assert not guests, f"guests that nobody knows: {guests}"
        self.ctxt = self._new_request()

    def _new_request(self) -> RequestContext:
        return RequestContext(user="matrix", overwrite=False)

    def daemon(self, binary: str, host: str) -> Daemon:
        """Return the daemon whose pass was written down."""
        return next(each for each in self.site.daemons if (each.binary, each.host) == (binary, host))

    def revive(self) -> None:
        """Start the daemons that are dead, and wait until all are up."""
        for daemon in self.site.daemons:
            if not daemon.runs:
                daemon.start()
        self.site.wait_until_up()


def _has_stopped(pid: int) -> bool:
    """Return whether no thread of a process runs."""
    # One may end just now.
    with suppress(FileNotFoundError):
        threads = Path(f"/proc/{pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
    return False
