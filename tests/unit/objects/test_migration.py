"""What is said of how a live migration goes."""

from typing import Any

import pytest

from minova.objects import MigrationProgress

MIB = 2**20


def progress(**changes: Any) -> MigrationProgress:
    """Return a migration in its third pass that dirties 400 MiB/s of 128."""
    values = {"remaining_bytes": 256 * MIB, "dirty_rate": 400 * MIB, "bandwidth": 128 * MIB, "iteration": 3}
    return MigrationProgress(**{"total_bytes": 256 * MIB, **values, **changes})


ENDLESS = "does not converge: dirty rate 400 MiB/s, bandwidth 128 MiB/s"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ENDLESS),
        ({"iteration": 200}, ENDLESS),
        ({"throttle": 40}, f"{ENDLESS}, the guest slowed down by 40 %"),
        # As fast as it is copied is too fast.
        ({"dirty_rate": 128 * MIB}, "does not converge: dirty rate 128 MiB/s, bandwidth 128 MiB/s"),
        ({"bandwidth": 0}, "does not converge: dirty rate 400 MiB/s, bandwidth 0 MiB/s"),
        ({"dirty_rate": 127 * MIB}, ""),
        ({"dirty_rate": 127 * MIB, "throttle": 70}, "converges, the guest slowed down by 70 %"),
        # Too early to tell.
        ({"iteration": 2}, ""),
        # Nothing is known, or nothing is left to be known.
        ({"dirty_rate": 0, "bandwidth": 0}, ""),
        ({"remaining_bytes": 0}, ""),
        ({"post_copy": True}, "is in post-copy: the guest runs at the destination"),
        ({"post_copy": True, "remaining_bytes": 0}, ""),
    ],
)
def test_verdict(changes: dict[str, Any], verdict: str) -> None:
    assert progress(**changes).verdict == verdict


def test_migration_that_has_not_begun() -> None:
    assert MigrationProgress().verdict == ""
