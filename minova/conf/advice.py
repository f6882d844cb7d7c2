"""What minova recommends of its libraries' options, said in the sample configuration where the options are."""

from collections.abc import Iterable

from oslo_config import cfg

RABBIT = {
    "rabbit_quorum_queue": "minova's choice is to use them: what waits in a queue then outlives a restart of the "
    "broker, and the loss of a node if the broker is a cluster. All services need the same value; to change it, stop "
    "them and have the broker forget the queues that exist.",
    "rabbit_transient_quorum_queue": "minova's choice is not to: an answer that dies with the broker is asked for "
    "again, and every command would leave a replicated queue behind for rabbit_transient_queues_ttl.",
    "kombu_missing_consumer_retry_timeout": "minova's default is 5: as long as an answer waits for a caller that is "
    "gone, it holds one of the executor_thread_pool_size threads of its service.",
    "rabbit_transient_queues_ttl": "minova-manage's default is 60, for each command leaves a queue of answers.",
    "amqp_durable_queues": "minova does not need it, for it uses quorum queues.",
    "use_queue_manager": "minova's choice is not to: several of its commands may run at once on one host.",
    "ssl": "The port in transport_url is then that for TLS, usually 5671. Set ssl_ca_file too.",
    "ssl_ca_file": "Without it the broker's certificate is not verified, nor whether it is that host's.",
}

DATABASE = {
    "connection": "With TLS: postgresql+psycopg2://user:password@host/minova?sslmode=verify-full&sslrootcert=/etc/minova/"
    "ca.pem or mysql+pymysql://user:password@host/minova?ssl_ca=/etc/minova/ca.pem. A server that vanishes without "
    "closing its connections is noticed by its silence only: add connect_timeout=10&keepalives_idle=10&"
    "keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000 for PostgreSQL, and "
    "connect_timeout=10&read_timeout=60&write_timeout=60 for MariaDB.",
}


def advise(options: Iterable[cfg.Opt], advice: dict[str, str]) -> None:
    """Add to the help of options what ``advice`` says of them by name; a second time adds nothing."""
    for option in options:
        said, known = advice.get(option.dest, ""), option.help or ""
        if said not in known:
            option.help = f"{known.rstrip('.')}. {said}"
