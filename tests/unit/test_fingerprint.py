"""Nothing that travels changes without a new version, and a version only adds."""

import itertools

import pytest

from minova.objects import Guest
from minova.rpc.versions import parse
from tests.unit.fingerprints import committed, current

CURRENT = current()

WHAT_TO_DO = (
    "{name} {version} is not what it was when this version was made: {changes}. Peers of that version are out there. "
    "Give it a new version (a Release in HISTORY of its rpcapi.py, the VERSION of the object or payload, or the "
    "version of the task), then run: "
    "python -m tests.unit.fingerprints. If {version} was never committed, delete it from rpc_fingerprints.json instead."
)

every_one = pytest.mark.parametrize("name", sorted(CURRENT))


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    changed = [part for part in sorted(before | after) if before.get(part) != after.get(part)]
    return "; ".join(f"{part} was {before.get(part, 'not there')}, is {after.get(part, 'gone')}" for part in changed)


@every_one
def test_no_change_without_a_new_version(name: str) -> None:
    [(version, parts)] = CURRENT[name].items()
    known = committed().get(name, {})
    assert version in known, f"{name} {version} is new: run: python -m tests.unit.fingerprints"
    told = WHAT_TO_DO.format(name=name, version=version, changes=changes(known[version], parts))
    assert parts == known[version], told


def test_nothing_is_forgotten() -> None:
    """What has travelled once may be sent by an old peer for as long as its major version is spoken."""
    assert set(committed()) == set(CURRENT)


@every_one
def test_present_version_is_the_newest(name: str) -> None:
    [version] = CURRENT[name]
    assert version == max(committed()[name], key=parse)


@every_one
def test_newer_versions_only_add(name: str) -> None:
    versions = sorted(committed()[name].items(), key=lambda item: parse(item[0]))
    for (older, before), (newer, after) in itertools.pairwise(versions):
        if parse(older)[0] == parse(newer)[0]:
            assert before.keys() <= after.keys()


@pytest.mark.parametrize("name", sorted(name for name in CURRENT if name.startswith(("object ", "payload "))))
def test_added_fields_have_defaults(name: str) -> None:
    """And those that were there keep their types: a peer of the first version neither sends nor knows anything else."""
    versions = committed()[name]
    for version, parts in versions.items():
        first = versions[min((other for other in versions if parse(other)[0] == parse(version)[0]), key=parse)]
        for field, described in parts.items():
            assert " = " in described if field not in first else described == first[field]


def test_a_change_is_told() -> None:
    before, after = {"a": "int", "b": "str", "c": "str"}, {"a": "float", "b": "str", "d": "str = ''"}
    assert changes(before, after) == "a was int, is float; c was str, is gone; d was not there, is str = ''"


def test_enum_values_count() -> None:
    """A peer that does not know one of them cannot read the object."""
    assert CURRENT["object Guest"][Guest.VERSION]["power_state"].startswith("PowerState(nostate, running")
