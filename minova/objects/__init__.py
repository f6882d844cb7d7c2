"""What travels on the wire and between layers: frozen dataclasses, each with a version of its own."""

import msgspec

from minova.objects.action import Action, ActionEvent, Hop, Order, Outcome, Result
from minova.objects.base import UUID, WireObject, utcnow
from minova.objects.console import INPUT_LENGTH, ConsoleInput, ConsoleOutput
from minova.objects.control import Activity, Pin, Pong, Presence, ServiceVersions, Task
from minova.objects.explanation import ExplainedAction, Explanation, HostWord
from minova.objects.host import (
    Guest,
    GuestReport,
    HeldOrder,
    Host,
    HostCapacity,
    HostDirective,
    HostReport,
    Service,
)
from minova.objects.image import Image, ImageFile
from minova.objects.instance import BootRequest, Fault, Instance, mac_address
from minova.objects.migration import MigrateData, Migration, MigrationOptions, MigrationProgress

WIRE_TYPES: tuple[type[WireObject], ...] = (
    Action,
    ActionEvent,
    Activity,
    BootRequest,
    ConsoleOutput,
    ExplainedAction,
    Explanation,
    Fault,
    Guest,
    GuestReport,
    HeldOrder,
    Host,
    HostCapacity,
    HostDirective,
    HostReport,
    HostWord,
    Image,
    ImageFile,
    Instance,
    MigrateData,
    Migration,
    MigrationOptions,
    MigrationProgress,
    Order,
    Outcome,
    Pin,
    Pong,
    Presence,
    Service,
    ServiceVersions,
    Task,
)
"""Every class that may travel."""

# msgspec learns what a class is like when it is first asked for one, and crashes the process if several threads ask at
# once: those of a conductor that finds messages waiting do.
for _wire_type in WIRE_TYPES:
    msgspec.json.Decoder(_wire_type)

__all__ = [
    "INPUT_LENGTH",
    "UUID",
    "WIRE_TYPES",
    "Action",
    "ActionEvent",
    "Activity",
    "BootRequest",
    "ConsoleInput",
    "ConsoleOutput",
    "ExplainedAction",
    "Explanation",
    "Fault",
    "Guest",
    "GuestReport",
    "HeldOrder",
    "Hop",
    "Host",
    "HostCapacity",
    "HostDirective",
    "HostReport",
    "HostWord",
    "Image",
    "ImageFile",
    "Instance",
    "MigrateData",
    "Migration",
    "MigrationOptions",
    "MigrationProgress",
    "Order",
    "Outcome",
    "Pin",
    "Pong",
    "Presence",
    "Result",
    "Service",
    "ServiceVersions",
    "Task",
    "WireObject",
    "mac_address",
    "utcnow",
]
