"""TLS to the broker and to the database: what is encrypted works, and what cannot be trusted is refused in one line."""

from collections.abc import Callable
from pathlib import Path

from tests.fixtures.services.services import Services
from tests.fixtures.site import Site

MakeSite = Callable[..., Site]


def _tls(authority: Path) -> str:
    return f"[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = {authority}\n"


def _database(services: Services, authority: Path) -> str:
    return services.postgresql.connection(sslmode="verify-full", sslrootcert=authority)


def test_everything_is_encrypted(make_site: MakeSite, services: Services) -> None:
    authority = services.certificates.authority
    site = make_site(
        _tls(authority),
        transport_url=services.rabbitmq.transport_url(tls=True),
        connection=_database(services, authority),
    )
    site.add_conductor()
    for host in ("host1", "host2"):
        site.add_compute(host)
    site.wait_until_up()
    site.manage("instance", "boot", "web", "--host", "host1")
    assert site.manage("instance", "live-migrate", "web")["host"] == "host2"
    encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = '{}'"
    assert services.postgresql.run(encrypted.format(site.database.engine.url.database)) == [(True,)]


def test_broker_with_a_certificate_of_a_stranger_is_refused(make_site: MakeSite, services: Services) -> None:
    site = make_site(_tls(services.certificates.stranger), transport_url=services.rabbitmq.transport_url(tls=True))
    line = site.refused("instance", "list")
    assert "its certificate is refused" in line
    assert "secret" not in line


def test_broker_that_does_not_speak_tls_is_refused(make_site: MakeSite, services: Services) -> None:
    site = make_site(_tls(services.certificates.authority))
    assert "the broker cannot be reached" in site.refused("instance", "list")


def test_database_with_a_certificate_of_a_stranger_is_refused(make_site: MakeSite, services: Services) -> None:
    site = make_site()
    url = _database(services, services.certificates.stranger)
    site.config.write_text(f"{site.config.read_text()}[database]\nconnection = {url}\n")
    line = site.refused("db", "version")
    assert "certificate verify failed" in line
    assert "secret" not in line
    conductor = site.add_conductor()
    assert conductor.wait() == 1
    assert "certificate verify failed" in conductor.tail()
