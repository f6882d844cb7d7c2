"""How things stand with an instance, and what becomes of it by itself.

States are told as they are stored: a newer release may have written what this one has no name for.
"""

from dataclasses import dataclass
from typing import ClassVar

from minova.objects.base import UUID, Moment
from minova.objects.host import GuestReport
from minova.states import HostState


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedAction:
    """The action that runs on an instance, or the last one that ran.

    :ivar step: what is being done: the step or, on the way back, the undo of one.
    :ivar undoes: the step that is being undone; empty: none is.
    :ivar waits_for: the host that has to do it.
    :ivar since: when the step was begun.
    :ivar attempted_at: when the attempt was begun that is in work.
    :ivar owner: the conductor's process that works on it or did last; ``owner_seen_at``: when its service was heard,
        which may be another process of it.
    :ivar any_conductor: the outcome of the step is reported, to any conductor: the owner is not needed for it.
    :ivar lease_expires_at: until when it is the owner's, unless that is renewed.
    :ivar heard_at: from when on patience counts: the step's begin, or when it was heard that it is being worked on.
    :ivar given_up_at: when the step will be given up, if nothing is heard of it until then.
    """

    VERSION: ClassVar[str] = "1.1"
    id: str
    verb: str
    status: str
    step: str
    undoes: str
    attempt: int
    waits_for: str | None
    since: Moment
    attempted_at: Moment
    owner: str
    owner_seen_at: Moment | None
    lease_expires_at: Moment
    heard_at: Moment
    given_up_at: Moment
    cancel_requested: bool
    error: str
    submitted_at: Moment
    finished_at: Moment | None
    any_conductor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWord:
    """What one host says of an instance's guest.

    :ivar state: None: no compute was ever registered there.
    :ivar said: it in one line, or why the host was not heard.
    :ivar report: None: it was not asked, or did not answer.
    """

    VERSION: ClassVar[str] = "1.0"
    host: str
    state: HostState | None
    last_seen_at: Moment | None
    said: str
    report: GuestReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What runs on an instance, what its hosts say of it, and what happens next by itself.

    :ivar explained_at: now, by the clock of the conductor that explains.
    :ivar hosts: those that may have its guest.
    :ivar next_attempt: when and why the step is begun once more, or why it is not; empty: nothing runs.
    :ivar next: what happens next, one sentence each.
    """

    VERSION: ClassVar[str] = "1.0"
    uuid: UUID
    name: str
    host: str | None
    vm_state: str
    task_state: str | None
    power_state: str
    explained_at: Moment
    action: ExplainedAction | None
    hosts: tuple[HostWord, ...] = ()
    next_attempt: str = ""
    next: tuple[str, ...] = ()
