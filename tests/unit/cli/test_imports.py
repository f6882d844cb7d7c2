"""``--help`` imports every command; what is slow to import must not come along."""

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from minova.cli.commands import COMMANDS

LIGHT = {"cliff", "minova", "msgspec", "rich"}


def imported(module: str) -> Iterator[str]:
    """Yield the modules that ``module`` imports whenever it is imported itself."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (_existing(f"{node.module}.{alias.name}") or node.module for alias in node.names)


def _existing(module: str) -> str | None:
    parent = module.rpartition(".")[0]
    spec = find_spec(parent)
    packaged = spec is not None and spec.submodule_search_locations is not None
    return module if packaged and find_spec(module) else None


def test_nothing_slow_is_imported_for_help() -> None:
    commands = {f"minova.cli.{target.partition(':')[0]}" for target in COMMANDS.values()}
    waiting, seen = {"minova.cmd.manage", *commands}, set[str]()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= {name for name in imported(module) if name.startswith("minova.")} - seen
    foreign = {name.partition(".")[0] for module in seen for name in imported(module)}
    assert foreign - set(sys.stdlib_module_names) <= LIGHT
