"""What is done in the cells: each operation, from a state of its own, by the operator's messages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minova.objects import BootRequest, MigrationOptions
from minova.states import OPEN_ACTION, ActionStatus, VmState
from tests.matrix.stand import DESTINATION, FIRST, SOURCE, Stand

Submit = Callable[[Stand], str]

Ends = Mapping[ActionStatus, tuple[VmState, str | None]]
"""How an action may end, and what its instance is then, and where."""


def _succeeds(state: VmState, host: str | None) -> Ends:
    return {ActionStatus.SUCCEEDED: (state, host)}


AT_SOURCE, AT_DESTINATION = _succeeds(VmState.ACTIVE, SOURCE), _succeeds(VmState.ACTIVE, DESTINATION)
STAYS = {**AT_DESTINATION, ActionStatus.CANCELLED: (VmState.ACTIVE, SOURCE)}
"""Of what is cancelled while it goes on: it may have been too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the matrix.

    :ivar prepare: what comes before, and is no part of it.
    :ivar submit: does it, and returns the action's id.
    :ivar ends: how it may end, whoever is killed and comes back.
    :ivar off: hosts that are off meanwhile.
    :ivar may_be_lost: if a compute does not come back in time, the instance may be in error, even without a guest.
    :ivar everything: what the services do of their own accord meanwhile belongs to it too.
    """

    name: str
    prepare: Callable[[Stand], None]
    submit: Submit
    ends: Ends
    off: frozenset[str] = frozenset()
    may_be_lost: bool = False
    everything: bool = False


def _boot(stand: Stand) -> str:
    request = BootRequest(name="vm", vcpus=1, memory_mb=64, disk_gb=1, host=SOURCE)
    return stand.api.boot_instance(stand.ctxt, request).id


def _plain(method: str, **args: object) -> Submit:
    def submit(stand: Stand) -> str:
        action_id: str = getattr(stand.api, method)(stand.ctxt, "vm", **args).id
        return action_id

    return submit


def _nothing(stand: Stand) -> None:
    """There is no instance yet."""


def _stopped(stand: Stand) -> None:
    stand.boot()
    stand.done(stand.api.stop_instance(stand.aside, "vm"))


def _paused(stand: Stand) -> None:
    stand.boot()
    stand.done(stand.api.pause_instance(stand.aside, "vm"))


def _lost(stand: Stand) -> None:
    stand.boot()
    stand.lose_source()


def _migrating(stand: Stand) -> None:
    stand.boot()
    stand.migrate_slowly()


def _cancel_running(stand: Stand) -> str:
    return stand.cancel(stand.api.cancel_action, stand.action)


def _abort(stand: Stand) -> str:
    return stand.cancel(stand.api.abort_migration, stand.action)


def _force(stand: Stand) -> str:
    stand.force_complete(stand.action)
    return stand.action


def _is_due(stand: Stand, action_id: str, host: str) -> bool:
    """Return whether an action waits for a host, or for nobody any more."""
    action = stand.site.action(action_id)
    return action.waits_for == host or action.status not in OPEN_ACTION


def _cancelled_at(host: str, begin: Submit) -> Submit:
    """Cancel an operation while its order waits at a host."""

    def submit(stand: Stand) -> str:
        with stand.standstill(host):
            action = begin(stand)
            # Unless another, whose turn it was before, is dead.
            stand.site.wait_for(lambda: _is_due(stand, action, host), f"{host} has an order")
            cancel = stand.begin(lambda stand: stand.cancel(stand.api.cancel_action, action))
            # Who gets no answer may ask for longer than the host is waited for.
            stand.site.wait_for(lambda: cancel.done() or stand.has_happened(), "it is cancelled")
        return cancel.result()

    return submit


def _source_killed(stand: Stand) -> None:
    """Kill a source whose migration is about to end."""
    stand.boot()
    stand.migrate_slowly()
    stand.force_complete(stand.action)
    stand.site.daemon(SOURCE).kill()


def _conductor_killed(stand: Stand) -> None:
    """Kill a conductor whose order waits at a host, and the host's compute."""
    stand.boot()
    with stand.standstill(SOURCE):
        stand.action = stand.api.stop_instance(stand.aside, "vm").id
        stand.site.daemon(FIRST).kill()
        stand.site.daemon(SOURCE).kill()


def _evacuated(stand: Stand) -> None:
    """Evacuate the instance; the source, which is off, has its copy still."""
    _lost(stand)
    action = stand.api.evacuate_instance(stand.aside, "vm", DESTINATION)
    stand.done(action)
    stand.action = action.id


def _come_back(*hosts: str) -> Submit:
    """Start daemons again; what was under way goes on."""

    def submit(stand: Stand) -> str:
        for host in hosts:
            stand.site.daemon(host).start()
        return stand.action

    return submit


_MOVE = {"destination": DESTINATION}
_QUICKLY, _WITH_DISKS = MigrationOptions(), MigrationOptions(block_migration=True)

_STOPPED, _PAUSED = _succeeds(VmState.STOPPED, SOURCE), _succeeds(VmState.PAUSED, SOURCE)
_GONE = _succeeds(VmState.DELETED, None)
_NEVER_WAS = {**AT_SOURCE, ActionStatus.CANCELLED: (VmState.ERROR, None)}
_OFF = frozenset({SOURCE})

_ALL = (
    Operation(name="boot", prepare=_nothing, submit=_boot, ends=AT_SOURCE, may_be_lost=True),
    Operation(name="delete", prepare=Stand.boot, submit=_plain("delete_instance"), ends=_GONE, may_be_lost=True),
    Operation(name="start", prepare=_stopped, submit=_plain("start_instance"), ends=AT_SOURCE),
    Operation(name="stop", prepare=Stand.boot, submit=_plain("stop_instance"), ends=_STOPPED),
    Operation(name="reboot", prepare=Stand.boot, submit=_plain("reboot_instance", hard=False), ends=AT_SOURCE),
    Operation(name="hard-reboot", prepare=_stopped, submit=_plain("reboot_instance", hard=True), ends=AT_SOURCE),
    Operation(name="pause", prepare=Stand.boot, submit=_plain("pause_instance"), ends=_PAUSED),
    Operation(name="unpause", prepare=_paused, submit=_plain("unpause_instance"), ends=AT_SOURCE),
    Operation(name="rebuild", prepare=Stand.boot, submit=_plain("rebuild_instance"), ends=AT_SOURCE, may_be_lost=True),
    Operation(
        name="live-migrate",
        prepare=Stand.boot,
        submit=_plain("live_migrate_instance", options=_QUICKLY, **_MOVE),
        ends=AT_DESTINATION,
    ),
    Operation(
        name="block-migrate",
        prepare=Stand.boot,
        submit=_plain("live_migrate_instance", options=_WITH_DISKS, **_MOVE),
        ends=AT_DESTINATION,
    ),
    Operation(name="migrate", prepare=Stand.boot, submit=_plain("migrate_instance", **_MOVE), ends=AT_DESTINATION),
    Operation(
        name="evacuate", prepare=_lost, submit=_plain("evacuate_instance", **_MOVE), ends=AT_DESTINATION, off=_OFF
    ),
    Operation(
        name="cancel-boot", prepare=_nothing, submit=_cancelled_at(SOURCE, _boot), ends=_NEVER_WAS, may_be_lost=True
    ),
    Operation(
        name="cancel-migrate",
        prepare=Stand.boot,
        submit=_cancelled_at(SOURCE, _plain("migrate_instance", **_MOVE)),
        ends=STAYS,
    ),
    Operation(
        name="cancel-evacuate",
        prepare=_lost,
        submit=_cancelled_at(DESTINATION, _plain("evacuate_instance", **_MOVE)),
        ends=STAYS,
        off=_OFF,
    ),
    Operation(name="cancel-live-migrate", prepare=_migrating, submit=_cancel_running, ends=STAYS),
    Operation(name="abort-migration", prepare=_migrating, submit=_abort, ends=STAYS),
    Operation(name="force-complete", prepare=_migrating, submit=_force, ends=AT_DESTINATION),
    Operation(
        name="recover-source",
        prepare=_source_killed,
        submit=_come_back(SOURCE),
        ends=AT_DESTINATION,
        everything=True,
    ),
    Operation(
        name="recover-conductor",
        prepare=_conductor_killed,
        submit=_come_back(FIRST, SOURCE),
        ends=_STOPPED,
        everything=True,
    ),
    Operation(
        name="return-evacuated",
        prepare=_evacuated,
        submit=_come_back(SOURCE),
        ends=AT_DESTINATION,
        off=_OFF,
        everything=True,
    ),
)

OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in _ALL}
