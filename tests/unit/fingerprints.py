"""What RPC interfaces, wire objects, payloads and tasks are, in words that change when they change.

``rpc_fingerprints.json`` keeps them for every version that there was. Run as a program, this adds the versions that are
new; it leaves those that are known alone, because peers of these versions are out there.
"""

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minova.cmd import init_backend

if TYPE_CHECKING:
    from minova.conductor.tasks import Task
    from minova.conductor.tasks.step import Step

FILE = Path(__file__).with_name("rpc_fingerprints.json")

Fingerprints = dict[str, dict[str, dict[str, str]]]
"""Interface, wire object, payload or task to version to its parts and what they are."""


def current() -> Fingerprints:
    """Return the interfaces, objects, payloads and tasks as they are, each with its present version only."""
    from minova.conductor.tasks import TASKS
    from minova.notifications.payloads import PAYLOAD_TYPES
    from minova.objects import WIRE_TYPES
    from tests.unit.interfaces import INTERFACES

    found: Fingerprints = {}
    for interface in INTERFACES:
        methods = {name: _describe_method(method) for name, method in interface.exposed.items()}
        found[f"interface {interface.name}"] = {interface.history.version: methods}
    for kind in WIRE_TYPES:
        found[f"object {kind.__name__}"] = {kind.VERSION: _describe_fields(kind)}
    for payload in PAYLOAD_TYPES:
        found[f"payload {payload.__name__}"] = {payload.VERSION: _describe_fields(payload)}
    for verb, task in TASKS.items():
        found[f"task {verb}"] = {task.version: {step.name: _describe_step(task, step) for step in task.steps}}
    return found


def committed() -> Fingerprints:
    """Return what the file says of every version that there was."""
    found: Fingerprints = json.loads(FILE.read_text())
    return found


def main() -> None:
    """Add to the file what it does not know yet."""
    known = committed() if FILE.exists() else {}
    for name, versions in current().items():
        known[name] = versions | known.get(name, {})
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"{FILE}\n")


def _describe_method(method: Callable[..., Any]) -> str:
    hints = typing.get_type_hints(method)
    parameters = list(inspect.signature(method).parameters.values())[2:]
    arguments = [
        f"{parameter.name}: {_describe_type(hints[parameter.name])}"
        + ("" if parameter.default is parameter.empty else f" = {parameter.default!r}")
        for parameter in parameters
    ]
    return f"({', '.join(arguments)}) -> {_describe_type(hints['return'])}"


def _describe_step(task: "type[Task]", step: "Step") -> str:
    index = task.steps.index(step)
    before = task.steps[index - 1].name if index else "nothing"
    undo = f", undone by {step.undone_by.kind} {step.undone_by.name}" if step.undone_by else ""
    return f"after {before}: {step.kind}{' (pivot)' if step.pivot else ''}{undo}"


def _describe_fields(kind: type[Any]) -> dict[str, str]:
    hints = typing.get_type_hints(kind)
    return {field.name: _describe_type(hints[field.name]) + _describe_default(field) for field in fields(kind)}


def _describe_default(field: "Field[Any]") -> str:
    if field.default is not MISSING:
        return f" = {field.default!r}"
    return "" if field.default_factory is MISSING else f" = {field.default_factory()!r}"


def _describe_type(kind: Any) -> str:
    """Return a type as it is written, whatever the version of Python; an enum with its values, for these travel."""
    if kind in (None, types.NoneType):
        return "None"
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_describe_type(arg) for arg in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if arg is Ellipsis else _describe_type(arg) for arg in args)}]"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"{kind.__name__}({', '.join(member.value for member in kind)})"
    return str(kind.__name__)


if __name__ == "__main__":
    init_backend()
    main()
