"""Failures that an operator has the fake driver inject."""

from oslo_config import cfg

from minova.exception import ConfigurationError, InsufficientResources, OperationRefused
from minova.virt.driver import ComputeDriver

OPERATIONS = tuple(name for name in vars(ComputeDriver) if not name.startswith("_"))
"""What ``[fake] failures`` may name."""

REASON = "injected failure"


class Failures:
    """``[fake] failures``, as one host sees it; an entry takes effect, or ends, as soon as the option changes."""

    def __init__(self, conf: cfg.ConfigOpts, host: str) -> None:
        """Check the option. :raises ConfigurationError: an entry names no operation."""
        self._conf = conf
        self._host = host
        for entry in conf.fake.failures:
            if entry.rpartition(":")[2] not in OPERATIONS:
                reason = f"[fake] failures: {entry}: no such operation; there are {', '.join(OPERATIONS)}"
                raise ConfigurationError(reason=reason)

    def told(self, operation: str) -> bool:
        """Return whether the operation is to fail on this host."""
        return not {operation, f"{self._host}:{operation}"}.isdisjoint(self._conf.fake.failures)

    def raise_if_told(self, operation: str) -> None:
        """Fail if told so.

        :raises InsufficientResources: for a spawn, so that another host is tried.
        :raises OperationRefused: for anything else.
        """
        if not self.told(operation):
            return
        if operation == "spawn":
            raise InsufficientResources(host=self._host, reason=REASON)
        raise OperationRefused(host=self._host, operation=operation, reason=REASON)
