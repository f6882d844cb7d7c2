"""``minova-manage`` with a conductor that says what a test laid down."""

import inspect
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

from oslo_config import cfg

from minova.cli.app import App
from minova.cli.connection import Connection, Notify
from minova.conductor.rpcapi import ConductorAPI
from minova.context import RequestContext
from minova.objects import (
    Action,
    ActionEvent,
    ConsoleOutput,
    ExplainedAction,
    Explanation,
    Fault,
    Guest,
    GuestReport,
    Hop,
    Host,
    HostWord,
    Image,
    ImageFile,
    Instance,
    Migration,
    MigrationProgress,
    Pin,
    Pong,
    Result,
    Service,
    ServiceVersions,
)
from minova.rpc.client import RPCAPI
from minova.rpc.control import ControlAPI
from minova.rpc.rollcall import RollCall
from minova.states import ActionStatus, DiskFormat, HostState, MigrationStatus, MigrationType, PowerState, Verb, VmState

START = datetime(2024, 2, 29, 12, 0, 0, 250_000, tzinfo=UTC)
MIB = 2**20

INSTANCE = Instance(
    uuid="11111111-2222-3333-4444-555555555555",
    name="web",
    vcpus=1,
    memory_mb=256,
    disk_gb=1,
    host="host1",
    vm_state=VmState.ACTIVE,
    task_state=None,
    power_state=PowerState.RUNNING,
    created_at=START,
    updated_at=START,
)

IMAGE = Image(
    uuid="77777777-2222-3333-4444-555555555555",
    name="cirros",
    disk_format=DiskFormat.QCOW2,
    disk=ImageFile(location="https://user:geheim@example.org/cirros.qcow2?token=geheim", sha256="a" * 64),
    created_at=START,
)

ACTION = Action(
    id="act-1",
    verb=Verb.LIVE_MIGRATE,
    instance_uuid=INSTANCE.uuid,
    instance_name=INSTANCE.name,
    status=ActionStatus.SUCCEEDED,
    step="complete",
    attempt=1,
    owner="conductor1",
    request_id="req-1",
    user="op",
    error="",
    cancel_requested=False,
    submitted_at=START,
    finished_at=START + timedelta(seconds=2),
)

RUNNING = replace(ACTION, status=ActionStatus.RUNNING, step="migrate", finished_at=None)
FAILED = replace(ACTION, status=ActionStatus.FAILED, error="host host2 cannot be used: it is full")
CANCELLED = replace(ACTION, status=ActionStatus.CANCELLED, error="cancelled by op")

MIGRATION = Migration(
    uuid="99999999-2222-3333-4444-555555555555",
    instance_uuid=INSTANCE.uuid,
    instance_name=INSTANCE.name,
    action_id=ACTION.id,
    migration_type=MigrationType.LIVE,
    status=MigrationStatus.RUNNING,
    source_host="host1",
    dest_host="host2",
    progress=MigrationProgress(
        total_bytes=256 * MIB,
        done_bytes=300 * MIB,
        remaining_bytes=64 * MIB,
        dirty_rate=32 * MIB,
        bandwidth=128 * MIB,
        iteration=2,
        elapsed=1.5,
    ),
    created_at=START,
    updated_at=START,
)

HOST = Host(
    host="host1",
    state=HostState.UP,
    enabled=True,
    draining=False,
    vcpus=32,
    vcpus_used=1,
    memory_mb=16384,
    memory_mb_used=256,
    disk_gb=500,
    disk_gb_used=1,
    instances=1,
    hypervisor_type="fake",
    cpu_model="",
)

SERVICE = Service(
    binary="minova-compute",
    host="host1",
    state=HostState.UP,
    enabled=True,
    disabled_reason="",
    forced_down=False,
    draining=False,
    rpc_version="1.2",
    started_at=START,
    last_seen_at=START,
)

FAULT = Fault(
    code="NoValidHost",
    message="no host for web",
    details="Traceback: here",
    host="conductor:c1",
    created_at=START,
    action_id=ACTION.id,
)

EXPLANATION = Explanation(
    uuid=INSTANCE.uuid,
    name=INSTANCE.name,
    host="host1",
    vm_state="active",
    task_state="migrating",
    power_state="running",
    explained_at=START + timedelta(seconds=60),
    action=ExplainedAction(
        id=ACTION.id,
        verb="live-migrate",
        status="undoing",
        step="rollback_destination",
        undoes="prepare_destination",
        attempt=2,
        waits_for="host2",
        since=START + timedelta(seconds=10),
        attempted_at=START + timedelta(seconds=50),
        owner="control1/1234",
        owner_seen_at=START + timedelta(seconds=58),
        lease_expires_at=START + timedelta(seconds=65),
        heard_at=START + timedelta(seconds=11),
        given_up_at=START + timedelta(seconds=310),
        cancel_requested=False,
        error="host2 refused",
        submitted_at=START,
        finished_at=None,
    ),
    hosts=(
        HostWord(
            host="host1",
            state=HostState.UP,
            last_seen_at=START,
            said="running",
            report=GuestReport(guest=Guest(uuid=INSTANCE.uuid, name="web", power_state=PowerState.RUNNING)),
        ),
        HostWord(host="host2", state=HostState.UNKNOWN, last_seen_at=START, said="silent: last heard 60 s ago"),
    ),
    next_attempt="none while host2 is silent",
    next=("First this.", "Then that."),
)


def event(step: str, hop: Hop, service: str, start: float, took: float, **changes: Any) -> ActionEvent:
    """Return an event; the times are milliseconds, from the submission of the action."""
    begun = START + timedelta(milliseconds=start)
    made = ActionEvent(
        step=step,
        hop=hop,
        service=service,
        attempt=1,
        started_at=begun,
        finished_at=begun + timedelta(milliseconds=took),
        result=Result.SUCCEEDED,
    )
    return replace(made, **changes)


EVENTS = [
    event("migrate", Hop.WORK, "compute:host1", 20, 60),
    event("select_destination", Hop.STEP, "conductor:c1", 0, 20),
    event("complete", Hop.STEP, "conductor:c1", 80, 20),
]

DEFAULTS: dict[Any, Any] = {
    int: 0,
    Action: ACTION,
    ConsoleOutput: ConsoleOutput(text="", next_offset=0),
    Explanation: EXPLANATION,
    Host: HOST,
    Image: IMAGE,
    Instance: INSTANCE,
    Migration: MIGRATION,
    Pong: Pong(service="compute", host="host1", uptime=1.0),
    Service: SERVICE,
    ServiceVersions: ServiceVersions(
        service="compute",
        host="host1",
        release="0.1.0",
        rpc_version="1.2",
        pins=(Pin(topic="conductor", version="1.0", reason="host c1"),),
    ),
    list[Action]: [ACTION],
    list[ActionEvent]: EVENTS,
    list[Fault]: [FAULT],
    list[Host]: [HOST],
    list[Image]: [IMAGE],
    list[Instance]: [INSTANCE],
    list[Migration]: [MIGRATION],
    list[Service]: [SERVICE],
}


class Scripted:
    """Stands in for a client: takes what its methods take, and keeps what it was asked.

    ``answers`` has for a method its answer, an error to raise, a list of several in turn (the last one stays), or a
    function of the arguments; a method that is not in it answers with an example of its type.
    """

    def __init__(self, client: type[RPCAPI]) -> None:
        self._client = client
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(method).bind(self, *args, **kwargs)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            del arguments["self"]
            assert isinstance(arguments.pop("ctxt"), RequestContext)
            self.asked.append((name, arguments))
            return self._answer(name, get_type_hints(method)["return"], arguments)

        return ask

    def _answer(self, name: str, kind: Any, arguments: dict[str, Any]) -> Any:
        answer = self.answers.get(name, DEFAULTS.get(kind))
        if isinstance(answer, Script):
            answer = answer.turns.pop(0) if len(answer.turns) > 1 else answer.turns[0]
        if inspect.isfunction(answer):
            answer = answer(**arguments)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass
class Script:
    """Several answers, in turn."""

    turns: list[Any]


@dataclass
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Manage:
    """The program, to be called with its arguments."""

    conductor: Any = field(default_factory=lambda: Scripted(ConductorAPI))
    control: Any = field(default_factory=lambda: Scripted(ControlAPI))
    roll: RollCall = field(default_factory=RollCall)
    topics: list[str] = field(default_factory=list)
    configured: list[tuple[list[str], bool]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    stdout: Callable[[], Any] = io.StringIO
    stderr: Callable[[], Any] = io.StringIO
    stdin: Any = None
    log_file: str | None = None
    conf: cfg.ConfigOpts = field(default_factory=cfg.ConfigOpts)

    def __call__(self, *argv: str) -> Ended:
        stdout, stderr = self.stdout(), self.stderr()
        app = App(lambda: None, self._configure, self._connect, self.slept.append, stdout, stderr, self.stdin)
        status = app.run(list(argv))
        return Ended(status, stdout.getvalue(), stderr.getvalue())

    @property
    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        return self.conductor.asked  # type: ignore[no-any-return]

    def _configure(self, args: list[str], debug: bool) -> tuple[cfg.ConfigOpts, str | None]:
        self.configured.append((args, debug))
        return self.conf, self.log_file

    @contextmanager
    def _connect(self, conf: cfg.ConfigOpts, notify: Notify) -> Iterator[Connection]:
        yield self.connection

    @property
    def connection(self) -> Connection:
        return Connection(
            conductor=self.conductor,
            control=self._control,
            roll_call=lambda: nullcontext(self.roll),
            ctxt=RequestContext(user="op"),
        )

    def _control(self, topic: str) -> Any:
        self.topics.append(topic)
        return self.control
