"""The operations: one file each, read from top to bottom."""

from collections.abc import Mapping

from minova.conductor.tasks.base import Services, Task
from minova.conductor.tasks.boot import BootInstance
from minova.conductor.tasks.delete import DeleteInstance
from minova.conductor.tasks.evacuate import EvacuateInstance
from minova.conductor.tasks.live_migrate import LiveMigrationTask
from minova.conductor.tasks.migrate import MigrateInstance
from minova.conductor.tasks.power import (
    HardRebootInstance,
    PauseInstance,
    RebootInstance,
    StartInstance,
    StopInstance,
    UnpauseInstance,
)
from minova.conductor.tasks.rebuild import RebuildInstance
from minova.states import Verb

_ALL: tuple[type[Task], ...] = (
    BootInstance,
    DeleteInstance,
    EvacuateInstance,
    HardRebootInstance,
    LiveMigrationTask,
    MigrateInstance,
    PauseInstance,
    RebootInstance,
    RebuildInstance,
    StartInstance,
    StopInstance,
    UnpauseInstance,
)

TASKS: Mapping[Verb, type[Task]] = {task.verb: task for task in _ALL}
"""The task of each verb."""

__all__ = ["TASKS", "Services", "Task"]
