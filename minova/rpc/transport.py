"""The one way to the broker."""

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers import amqpdriver

from minova import exception

# In seconds. An answer that finds no queue has oslo.messaging drop whatever else it owes that caller, for a minute and
# without an option. But after a restart of the broker the queue is only late: it is back once its owner is.
amqpdriver.ObsoleteReplyQueuesCache.TTL = 1

FAKE = "fake"
"""The transport that lives in one process, as in ``transport_url = fake://``."""


def get_transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """Return the transport that the configuration names.

    :raises ConfigurationError: the URL cannot be used.
    """
    try:
        return oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=list(exception.EXCHANGED_MODULES))
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure, ValueError) as error:
        # The error quotes the URL, and the URL may hold a password.
        reason = f"transport_url cannot be used ({type(error).__name__}); it looks like rabbit://user:pass@host:5672/"
        raise exception.ConfigurationError(reason=reason) from None


def is_fake(conf: cfg.ConfigOpts) -> bool:
    """Return whether the configured transport cannot leave its process."""
    return str(conf.transport_url).partition(":")[0] == FAKE
