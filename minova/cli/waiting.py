"""Following actions to their ends."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from minova.exception import MinovaError, PeerSilent
from minova.objects import Action, Migration
from minova.states import OPEN_ACTION, ActionStatus

if TYPE_CHECKING:
    from minova.cli.connection import Connection

FIRST_DELAY, LONGEST_DELAY, GROWTH = 0.02, 0.25, 1.4
"""Seconds between two questions at first and in the end, and the factor between: quick for what is quick."""


@dataclass(eq=False, kw_only=True)
class ActionUnsuccessful(MinovaError):
    """An action did not end as it should have."""

    action: str
    reason: str

    @property
    def message(self) -> str:
        """Say why, and where to see more."""
        return f"{self.reason}; see how it went: action trace {self.action}"


class Progress(Protocol):
    """Where it is shown how far an action is; entered while there is something to show."""

    wants_migration: bool
    """Whether it is worth asking for the migration that an action is about."""

    def shown(self) -> AbstractContextManager[object]:
        """Return a context in which the terminal is taken."""

    def show(self, action: Action, migration: Migration | None) -> None:
        """Show where the action stands now."""

    def say(self, message: str) -> None:
        """Put a line that stays."""


class Silence:
    """Progress where there is no terminal: only what stays is said."""

    wants_migration = False

    def __init__(self, say: Callable[[str], None]) -> None:
        """Say things by ``say``."""
        self.say = say

    def shown(self) -> AbstractContextManager[object]:
        """Return a context that does nothing."""
        return nullcontext()

    def show(self, action: Action, migration: Migration | None) -> None:
        """Show nothing."""


class Waiter:
    """Asks a conductor again and again, until actions have ended."""

    def __init__(self, connection: "Connection", progress: Progress, sleep: Callable[[float], None]) -> None:
        """Ask through ``connection`` and show how far things are on ``progress``; ``sleep`` takes seconds."""
        self._conductor, self._ctxt = connection.conductor, connection.ctxt
        self._progress = progress
        self._sleep = sleep

    def wait(self, action: Action) -> Action:
        """Return the action as it ended.

        A conductor that does not answer is asked again, for ever; the user can interrupt, and is told how to go on.
        """
        try:
            with self._progress.shown():
                return self._follow(action)
        except KeyboardInterrupt:
            self._progress.say(
                f"{action.verb} of {action.instance_name} is not over (action {action.id}); "
                f"watch it with: minova-manage action watch {action.id}"
            )
            raise

    def _follow(self, action: Action) -> Action:
        # Here, for --help does without it.
        from oslo_messaging import MessagingException

        delay, silent = FIRST_DELAY, False
        migration: Migration | None = None
        while action.status in OPEN_ACTION:
            self._progress.show(action, migration)
            self._sleep(delay)
            delay = min(delay * GROWTH, LONGEST_DELAY)
            try:
                action = self._conductor.get_action(self._ctxt, action.id)
                migration = self._migration(action)
                silent = False
            except (PeerSilent, MessagingException) as error:
                if not silent:
                    told = error.message if isinstance(error, PeerSilent) else "the broker is away"
                    self._progress.say(f"{told}; still waiting for action {action.id}")
                silent = True
        return action

    def _migration(self, action: Action) -> Migration | None:
        if action.migration_uuid is None or not self._progress.wants_migration:
            return None
        return self._conductor.get_migration(self._ctxt, action.migration_uuid)


def ended_as(action: Action, wanted: ActionStatus) -> None:
    """Make sure that the action ended as it should have.

    :raises ActionUnsuccessful: it did not.
    """
    if action.status != wanted:
        reason = action.error or f"{action.verb} of {action.instance_name} ended as {action.status}, not as {wanted}"
        raise ActionUnsuccessful(action=action.id, reason=reason)
