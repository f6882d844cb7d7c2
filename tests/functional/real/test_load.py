"""Two hundred operations, while the broker and the database are restarted under them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from minova.cli.connection import Connection
from minova.objects import Action, BootRequest, MigrationOptions
from minova.states import Verb
from tests.fixtures.services.database import DatabaseServer
from tests.fixtures.services.rabbitmq import RabbitMQ
from tests.fixtures.services.services import SQLITE, Services
from tests.fixtures.site import Site

INSTANCES, AT_ONCE = 25, 8

Submit = Callable[[Connection, str], Action]


def _boot(connection: Connection, name: str) -> Action:
    request = BootRequest(name=name, vcpus=1, memory_mb=128, disk_gb=1)
    return connection.conductor.boot_instance(connection.ctxt, request)


def _live_migrate(connection: Connection, name: str) -> Action:
    return connection.conductor.live_migrate_instance(connection.ctxt, name, None, MigrationOptions())


# What becomes of each instance, one after the other: eight operations.
LIFE: tuple[tuple[Verb, Submit], ...] = (
    (Verb.BOOT, _boot),
    (Verb.PAUSE, lambda connection, name: connection.conductor.pause_instance(connection.ctxt, name)),
    (Verb.UNPAUSE, lambda connection, name: connection.conductor.unpause_instance(connection.ctxt, name)),
    (Verb.LIVE_MIGRATE, _live_migrate),
    (Verb.STOP, lambda connection, name: connection.conductor.stop_instance(connection.ctxt, name)),
    (Verb.START, lambda connection, name: connection.conductor.start_instance(connection.ctxt, name)),
    (Verb.HARD_REBOOT, lambda connection, name: connection.conductor.reboot_instance(connection.ctxt, name, True)),
    (Verb.DELETE, lambda connection, name: connection.conductor.delete_instance(connection.ctxt, name)),
)


class Load:
    """Lives of many instances, side by side."""

    def __init__(self, site: Site, connection: Connection) -> None:
        self._site = site
        self._connection = connection
        self.submitted: list[str] = []
        self._failed = False

    def wait_for(self, submitted: int) -> None:
        """Wait until so many operations have been submitted, or a life has failed."""
        self._site.wait_for(lambda: self._failed or len(self.submitted) >= submitted, f"{submitted} operations")

    def run(self, name: str) -> None:
        """Have an instance live, and note if that fails."""
        try:
            self.live(name)
        except BaseException:
            self._failed = True
            raise

    def live(self, name: str) -> None:
        """Have an instance live from its boot to its deletion."""
        for verb, submit in LIFE:
            action = submit(self._connection, name)
            self.submitted.append(action.id)
            assert self._site.succeed(action.id).verb is verb


def _restart(server: RabbitMQ | DatabaseServer) -> None:
    server.restart()


def _kill(server: RabbitMQ | DatabaseServer) -> None:
    server.restart(kill=True)


def _cut_off(server: RabbitMQ | DatabaseServer) -> None:
    server.cut_connections()


@pytest.mark.parametrize(
    ("database", "disturb"),
    [("postgresql", _restart), ("mariadb", _kill), ("postgresql", _cut_off), (SQLITE, _restart)],
    ids=[
        "postgresql restarted",
        "mariadb killed",
        "postgresql cut off",
        "sqlite and a conductor killed",
    ],
)
def test_200_operations_while_broker_and_database_are_disturbed(
    site: Site, services: Services, database: str, disturb: Callable[[RabbitMQ | DatabaseServer], None]
) -> None:
    site.add_conductor("control2")
    site.wait_until_up()
    with site.connect() as connection, ThreadPoolExecutor(AT_ONCE) as pool:
        load = Load(site, connection)
        lives = [pool.submit(load.run, f"vm{number}") for number in range(INSTANCES)]
        load.wait_for(40)
        disturb(services.rabbitmq)
        load.wait_for(100)
        if database == SQLITE:
            # No server: it is whoever has the file open that can be lost in the middle of a transaction.
            site.daemon("control2").kill()
            site.daemon("control2").start()
        else:
            disturb(services.server(database))
        for life in lives:
            life.result()
    assert len(set(load.submitted)) == INSTANCES * len(LIFE) == 200
    assert site.number_of_actions() == 200
