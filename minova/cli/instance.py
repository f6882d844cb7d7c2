"""``minova-manage instance``."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minova.cli import columns
from minova.cli.base import ActionCommand, ListCommand, ShowCommand
from minova.exception import InvalidInput
from minova.objects import Action, BootRequest, Fault, Instance, MigrationOptions
from minova.states import RESETTABLE, TimeoutAction

if TYPE_CHECKING:
    from minova.cli.connection import Connection


_TOO_LARGE = 2**17
"""Bytes of which conductors refuse the half; of what is larger, no more is read."""


def _add_instance(parser: ArgumentParser) -> None:
    parser.add_argument("instance", metavar="INSTANCE", help="name or UUID")


def _add_destination(parser: ArgumentParser) -> None:
    parser.add_argument("--to", metavar="HOST", help="where to; default: the scheduler chooses")


def _read(file: str) -> str:
    """Return the text of a small file. :raises InvalidInput: it cannot be read, or is none."""
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(_TOO_LARGE)
        if len(content) == _TOO_LARGE:
            raise InvalidInput(reason=f"{file} is too large to be meant")
        return content.decode()
    except OSError as error:
        raise InvalidInput(reason=f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(reason=f"{file}: text in UTF-8 expected") from None


def _add_policy(parser: ArgumentParser) -> None:
    """Add what the source's configuration decides if it is not given."""
    parser.add_argument("--max-downtime", type=int, metavar="MS", help="milliseconds for which it may stand still")
    slow_down = "slow it down, more and more, if it changes its memory faster than that can be copied"
    parser.add_argument("--auto-converge", action=BooleanOptionalAction, help=slow_down)
    follow = "if it does not converge, let it go on at the destination, and its memory follow"
    parser.add_argument("--post-copy", action=BooleanOptionalAction, help=follow)
    parser.add_argument("--timeout", type=int, metavar="SECONDS", help="how long it may take in all; 0: for ever")
    actions = [action.value.replace("_", "-") for action in TimeoutAction]
    parser.add_argument("--timeout-action", choices=actions, help="what is done after that time")


class _InstanceAction(ActionCommand[Instance]):
    """An action on one instance, at whose end the instance is shown."""

    table = columns.INSTANCE

    def arguments(self, parser: ArgumentParser) -> None:
        _add_instance(parser)

    def result(self, connection: "Connection", parsed_args: Namespace, action: Action) -> Instance:
        return connection.conductor.get_instance(connection.ctxt, action.instance_uuid)


class Boot(_InstanceAction):
    """Make and start a new instance."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what the instance shall be."""
        parser.add_argument("name", metavar="NAME", help="its name")
        parser.add_argument("--vcpus", type=int, default=1, metavar="N", help="virtual CPUs; default: 1")
        parser.add_argument("--memory", type=int, default=256, metavar="MIB", help="memory in MiB; default: 256")
        parser.add_argument("--disk", type=int, default=1, metavar="GIB", help="root disk in GiB; default: 1")
        parser.add_argument("--host", metavar="HOST", help="where; default: the scheduler chooses")
        parser.add_argument("--image", metavar="IMAGE", help="what its disk is made from; default: it is empty")
        what = "libvirt network or bridge, or none; default: as its host is configured"
        parser.add_argument("--network", metavar="NAME", help=what)
        parser.add_argument("--user-data", metavar="FILE", help="what cloud-init shall do in it")
        what = "public key that may log in, by cloud-init; can be repeated"
        parser.add_argument("--ssh-key", action="append", default=[], metavar="FILE", help=what)

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for the instance."""
        request = BootRequest(
            name=parsed_args.name,
            vcpus=parsed_args.vcpus,
            memory_mb=parsed_args.memory,
            disk_gb=parsed_args.disk,
            host=parsed_args.host,
            image=parsed_args.image,
            network=parsed_args.network,
            user_data=_read(parsed_args.user_data) if parsed_args.user_data else "",
            ssh_keys=tuple(_read(file).strip() for file in parsed_args.ssh_key),
        )
        return connection.conductor.boot_instance(connection.ctxt, request)


class List(ListCommand[Instance]):
    """List instances."""

    table = columns.INSTANCE_ROW

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what to select by."""
        parser.add_argument("--host", metavar="HOST", help="only those on this host")
        parser.add_argument("--deleted", action="store_true", help="those that were deleted too")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Instance]:
        """Return the instances."""
        return connection.conductor.list_instances(connection.ctxt, parsed_args.host, parsed_args.deleted)


class Show(ShowCommand[Instance]):
    """Show an instance."""

    table = columns.INSTANCE

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the instance."""
        _add_instance(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Instance:
        """Return the instance."""
        return connection.conductor.get_instance(connection.ctxt, parsed_args.instance)


class Start(_InstanceAction):
    """Start a stopped instance."""

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.start_instance(connection.ctxt, parsed_args.instance)


class Stop(_InstanceAction):
    """Stop a running instance."""

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.stop_instance(connection.ctxt, parsed_args.instance)


class Reboot(_InstanceAction):
    """Reboot an instance."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add how to do it."""
        super().arguments(parser)
        parser.add_argument("--hard", action="store_true", help="switch it off and on, whatever it is doing")

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.reboot_instance(connection.ctxt, parsed_args.instance, parsed_args.hard)


class Pause(_InstanceAction):
    """Pause a running instance; it keeps its memory."""

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.pause_instance(connection.ctxt, parsed_args.instance)


class Unpause(_InstanceAction):
    """Let a paused instance go on."""

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.unpause_instance(connection.ctxt, parsed_args.instance)


class LiveMigrate(_InstanceAction):
    """Move an instance to another host while it runs."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add where to and how."""
        super().arguments(parser)
        _add_destination(parser)
        parser.add_argument("--block", action="store_true", help="copy its disks too: they are not on shared storage")
        parser.add_argument("--bandwidth", type=int, metavar="MIB", help="limit in MiB/s; default: the driver's")
        _add_policy(parser)

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        action = parsed_args.timeout_action
        options = MigrationOptions(
            block_migration=parsed_args.block,
            bandwidth_mib=parsed_args.bandwidth,
            max_downtime_ms=parsed_args.max_downtime,
            auto_converge=parsed_args.auto_converge,
            post_copy=parsed_args.post_copy,
            timeout=parsed_args.timeout,
            timeout_action=TimeoutAction(action.replace("-", "_")) if action else None,
        )
        return connection.conductor.live_migrate_instance(
            connection.ctxt, parsed_args.instance, parsed_args.to, options
        )


class Migrate(_InstanceAction):
    """Move an instance to another host; it is off meanwhile."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add where to."""
        super().arguments(parser)
        _add_destination(parser)

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.migrate_instance(connection.ctxt, parsed_args.instance, parsed_args.to)


class Evacuate(_InstanceAction):
    """Build an instance again elsewhere, after its host has died and was forced down."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add where to."""
        super().arguments(parser)
        _add_destination(parser)

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.evacuate_instance(connection.ctxt, parsed_args.instance, parsed_args.to)


class Rebuild(_InstanceAction):
    """Make an instance anew on its host, with a fresh disk."""

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.rebuild_instance(connection.ctxt, parsed_args.instance)


class Delete(ActionCommand[Action]):
    """Delete an instance and its disk."""

    table = columns.ACTION

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the instance."""
        _add_instance(parser)

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.delete_instance(connection.ctxt, parsed_args.instance)

    def result(self, connection: "Connection", parsed_args: Namespace, action: Action) -> Action:
        """Return the action, for the instance is gone."""
        return action

    def produce_output(self, parsed_args: Namespace, column_names: Sequence[str], data: Any) -> int:
        """Show the action if it was not waited for, and else no more than that it is done."""
        if parsed_args.no_wait:
            return super().produce_output(parsed_args, column_names, data)
        self.app.stdout.write("deleted\n")
        return 0


class ResetState(ShowCommand[Instance]):
    """Correct the state that minova believes an instance is in; its guest is not touched.

    What runs on it is ended; what its host has begun by its next report, it does all the same.
    """

    table = columns.INSTANCE

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the state."""
        _add_instance(parser)
        states = [state.value for state in RESETTABLE]
        parser.add_argument("--state", choices=states, default="error", help="the state; default: error")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Instance:
        """Set the state and return the instance."""
        return connection.conductor.reset_instance_state(connection.ctxt, parsed_args.instance, parsed_args.state)


class Faults(ListCommand[Fault]):
    """List what went wrong with an instance."""

    table = columns.FAULT

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the instance, and how much of each fault to show."""
        _add_instance(parser)
        parser.add_argument("--details", action="store_true", help="show the tracebacks of unexpected errors too")

    def layout(self, parsed_args: Namespace) -> columns.Columns[Fault]:
        """Return the columns, with the details if they are wanted."""
        return columns.FAULT_DETAILED if parsed_args.details else columns.FAULT

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Fault]:
        """Return the faults."""
        return connection.conductor.list_faults(connection.ctxt, parsed_args.instance)
