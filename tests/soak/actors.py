"""Who does what at random: operators that ask for operations, and a fiend that kills and freezes."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from minova.db.queries import COMPUTE
from minova.exception import MinovaError
from minova.objects import Action, BootRequest, MigrationOptions
from minova.states import OPERATIONS, Verb
from tests.fixtures.daemon import Daemon
from tests.soak.cluster import Cluster

_MOST_INSTANCES = 60
_CANCELLED = 0.15
"""The share of actions that their operator tries to cancel."""
_PAUSE = (0.5, 3.0)
"""Seconds between two kills, at least and at most."""
_LONGEST_DEATH = 8.0
"""Seconds after which who was killed or frozen is back at the latest, unless the host is lost."""
_MOST_LOST = 3
"""Hosts that are lost at the same time."""


class Operator(threading.Thread):
    """Does one operation after the other, each on any instance, until told to stop."""

    def __init__(self, cluster: Cluster, seed: str, stop: threading.Event) -> None:
        super().__init__(name=f"operator {seed}", daemon=True)
        self._cluster = cluster
        self._random = random.Random(seed)
        self._stopped = stop
        self._number = 0
        self.refused: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Serve as the thread."""
        try:
            while not self._stopped.is_set():
                self._do_something()
        except BaseException as error:
            self.error = error
            self._stopped.set()

    def _do_something(self) -> None:
        try:
            action = self._submit()
        except MinovaError as error:
            # That a host has just died, or that another operator was faster, is no mistake of anybody's.
            self.refused[type(error).__name__] += 1
            self._stopped.wait(0.2)
            return
        if self._random.random() < _CANCELLED and OPERATIONS[action.verb].cancellable:
            self._stopped.wait(self._random.random())
            with suppress(MinovaError):
                self._cluster.api.cancel_action(self._cluster.request(), action.id)
        while not self._cluster.has_ended(action.id) and not self._stopped.wait(0.2):
            pass

    def _submit(self) -> Action:
        instances = self._cluster.instances()
        if not instances or (len(instances) < _MOST_INSTANCES and self._random.random() < 0.2):
            return self._boot()
        uuid, state, _host = self._random.choice(instances)
        verbs = [verb for verb in _VERBS if state in OPERATIONS[verb].allowed]
        # An instance that is being built allows nothing: whoever asks is told so.
        return self._ask(self._random.choice(verbs or [Verb.DELETE]), uuid)

    def _boot(self) -> Action:
        self._number += 1
        name = f"{self.name.replace(' ', '-').replace('.', '-')}-{self._number}"
        request = BootRequest(name=name, vcpus=1, memory_mb=self._random.choice((64, 128)), disk_gb=1, host=None)
        return self._cluster.api.boot_instance(self._cluster.request(), request)

    def _ask(self, verb: Verb, uuid: str) -> Action:
        api, ctxt = self._cluster.api, self._cluster.request()
        block = MigrationOptions(block_migration=self._random.random() < 0.3)
        asks: dict[Verb, Callable[[], Action]] = {
            Verb.DELETE: lambda: api.delete_instance(ctxt, uuid),
            Verb.START: lambda: api.start_instance(ctxt, uuid),
            Verb.STOP: lambda: api.stop_instance(ctxt, uuid),
            Verb.REBOOT: lambda: api.reboot_instance(ctxt, uuid, hard=False),
            Verb.HARD_REBOOT: lambda: api.reboot_instance(ctxt, uuid, hard=True),
            Verb.PAUSE: lambda: api.pause_instance(ctxt, uuid),
            Verb.UNPAUSE: lambda: api.unpause_instance(ctxt, uuid),
            Verb.REBUILD: lambda: api.rebuild_instance(ctxt, uuid),
            Verb.MIGRATE: lambda: api.migrate_instance(ctxt, uuid, None),
            Verb.LIVE_MIGRATE: lambda: api.live_migrate_instance(ctxt, uuid, None, block),
        }
        return asks[verb]()


_VERBS = tuple(verb for verb in Verb if verb not in (Verb.BOOT, Verb.EVACUATE))
"""What operators choose from; hosts are evacuated by the fiend, who knows which are lost."""


class Fiend(threading.Thread):
    """Kills and freezes daemons and loses hosts, until told to stop."""

    def __init__(self, cluster: Cluster, seed: str, stop: threading.Event) -> None:
        super().__init__(name="fiend", daemon=True)
        self._cluster = cluster
        self._random = random.Random(seed)
        self._stopped = stop
        self._helpers: list[threading.Thread] = []
        self._lost = 0
        self.deeds: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Serve as the thread."""
        try:
            while not self._stopped.wait(self._random.uniform(*_PAUSE)):
                self._kill_somebody()
        except BaseException as error:
            self.error = error
            self._stopped.set()
        for helper in self._helpers:
            helper.join()

    def _kill_somebody(self) -> None:
        victims = self._cluster.living()
        victim = self._random.choice(victims)
        if victim.binary == COMPUTE and self._lost < _MOST_LOST and self._random.random() < 0.15:
            self.deeds["hosts lost"] += 1
            self._lost += 1
            victim.kill()
            self._help(self._lose, victim)
        elif victim.workers() and self._random.random() < 0.2:
            self.deeds[f"{victim.binary} workers killed"] += 1
            victim.kill_workers()
        elif victim.workers() and self._random.random() < 0.3:
            self.deeds[f"{victim.binary} frozen"] += 1
            self._help(self._freeze, victim, self._random.uniform(0, _LONGEST_DEATH))
        elif self._random.random() < 0.2:
            self.deeds[f"{victim.binary} stopped"] += 1
            victim.stop()
            victim.start()
        else:
            self.deeds[f"{victim.binary} killed"] += 1
            victim.kill()
            self._help(self._revive, victim, self._random.uniform(0, _LONGEST_DEATH))

    def _help(self, work: Callable[..., None], *args: object) -> None:
        helper = threading.Thread(target=work, args=args, daemon=True)
        self._helpers.append(helper)
        helper.start()

    def _revive(self, daemon: Daemon, seconds: float) -> None:
        self._stopped.wait(seconds)
        daemon.start()

    def _freeze(self, daemon: Daemon, seconds: float) -> None:
        with daemon.frozen():
            self._stopped.wait(seconds)

    def _lose(self, daemon: Daemon) -> None:
        """Have a host's guests evacuated once it is silent, and bring it back after that."""
        self._cluster.site.wait_for_silence(daemon.host)
        with suppress(MinovaError):
            self._cluster.api.set_service_forced_down(self._cluster.request(), daemon.host, True)
            for uuid, state, host in self._cluster.instances():
                if host == daemon.host and state in OPERATIONS[Verb.EVACUATE].allowed:
                    self._evacuate(uuid)
        self._stopped.wait(_LONGEST_DEATH)
        daemon.start()
        self._lost -= 1
        self._unfence(daemon.host)

    def _evacuate(self, uuid: str) -> None:
        with suppress(MinovaError):
            self._cluster.api.evacuate_instance(self._cluster.request(), uuid, None)
            self.deeds["evacuations"] += 1

    def _unfence(self, host: str) -> None:
        """Take back that a host is off, which has to wait for its evacuations."""
        while True:
            with suppress(MinovaError):
                self._cluster.api.set_service_forced_down(self._cluster.request(), host, False)
                return
            time.sleep(0.5)
