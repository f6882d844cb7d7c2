"""``notifications watch`` as a process, beside real daemons."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.services.services import Services
from tests.fixtures.site import Site

ON = "[oslo_messaging_notifications]\ndriver = messagingv2\n"


class Watch:
    """A ``notifications watch`` that runs."""

    def __init__(self, site: Site, folder: Path, *args: str) -> None:
        self._site = site
        self._out, self._err = folder / "watch.out", folder / "watch.err"
        self.process = site.begin(self._out, self._err, "notifications", "watch", "-f", "json", *args)

    def wait_until_it_listens(self, times: int = 1) -> None:
        self._site.wait_for(lambda: self.err.count("watching") >= times, "notifications watch listens")

    def wait_for(self, event: str) -> None:
        self._site.wait_for(lambda: event in self.events, f"notification {event}")

    def end(self, number: signal.Signals) -> int:
        """Send it a signal, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def events(self) -> list[str]:
        lines = self._out.read_text().splitlines(keepends=True)
        return [json.loads(line)["event"] for line in lines if line.endswith("\n")]


@contextmanager
def watching(site: Site, folder: Path, *args: str) -> Iterator[Watch]:
    """Run ``notifications watch`` meanwhile."""
    watch = Watch(site, folder, *args)
    try:
        watch.wait_until_it_listens()
        yield watch
    finally:
        watch.process.kill()
        watch.process.wait()


def up(site: Site) -> Site:
    site.add_conductor()
    site.add_compute("host1")
    site.wait_until_up()
    return site


def watchers(services: Services, site: Site) -> list[str]:
    """Return the queues of those who watch."""
    names = [queue["name"] for queue in services.rabbitmq.queues(site.transport_url)]
    return [name for name in names if "watch" in name]


def waiting(services: Services, site: Site, name: str) -> int:
    """Return how many messages are in a queue."""
    queues = services.rabbitmq.queues(site.transport_url, "messages")
    return next(int(queue["messages"]) for queue in queues if queue["name"] == name)


def test_watch_sees_what_daemons_do(make_site: Callable[..., Site], services: Services, tmp_path: Path) -> None:
    site = up(make_site(ON))
    with watching(site, tmp_path, "--event", "instance.*") as watch:
        site.manage("instance", "boot", "web")
        site.manage("instance", "stop", "web")
        watch.wait_for("instance.power_off.end")
        assert watch.events == [
            "instance.create.start",
            "instance.create.end",
            "instance.power_off.start",
            "instance.power_off.end",
        ]
        assert len(watchers(services, site)) == 1
        assert watch.end(signal.SIGINT) == 0
    assert watchers(services, site) == []
    # What it saw is still there for those whom it is meant for.
    # The broker counts every few seconds.
    site.wait_for(lambda: waiting(services, site, "notifications.info") >= 4, "four messages in the queue")


def test_watch_that_is_killed_leaves_no_queue(
    make_site: Callable[..., Site], services: Services, tmp_path: Path
) -> None:
    site = up(make_site(ON))
    with watching(site, tmp_path) as watch:
        assert len(watchers(services, site)) == 1
        watch.end(signal.SIGKILL)
    site.wait_for(lambda: watchers(services, site) == [], "the end of its queue")


def test_connections_that_are_cut_lose_no_later_event(
    make_site: Callable[..., Site], services: Services, tmp_path: Path
) -> None:
    site = up(make_site(ON))
    with watching(site, tmp_path) as watch:
        services.rabbitmq.cut_connections()
        watch.wait_until_it_listens(times=2)
        site.manage("instance", "boot", "web")
        watch.wait_for("instance.create.end")


def test_nothing_to_watch(site: Site) -> None:
    assert "set [oslo_messaging_notifications] driver = messagingv2" in site.refused("notifications", "watch")
