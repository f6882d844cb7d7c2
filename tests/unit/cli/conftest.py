"""What the tests of the commands share."""

from pathlib import Path

import pytest
import stevedore._cache

from tests.unit.cli.rig import Manage


@pytest.fixture(autouse=True)
def entry_point_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stevedore, by which cliff finds its formatters, from writing to the home folder."""
    monkeypatch.setattr(stevedore._cache._c, "_dir", str(tmp_path))


@pytest.fixture
def manage() -> Manage:
    return Manage()
