"""The steps of a task: methods that the engine runs in the order in which they are written."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

At = Callable[[Any], str | None]
"""Given the task: the host that a step is for; None: there is nothing to do for the step."""


class Kind(StrEnum):
    """How a step does its work."""

    TRANSACTION = "transaction"
    """In the transaction that also records that it is done: ``method(task, session)``."""
    CALL = "call"
    """By asking a compute and waiting for its answer: ``method(task, host) -> JSON types``."""
    ORDER = "order"
    """By casting an order to a compute, which reports its outcome later: ``method(task, host)``."""


class Step:
    """One step of a task, or the undo of one."""

    def __init__(self, kind: Kind, run: Callable[..., Any], at: At | None = None, *, pivot: bool = False) -> None:
        """Make a step of a method; see :func:`transaction`, :func:`call` and :func:`order`."""
        self.kind = kind
        self.run = run
        self.at = at
        self.pivot = pivot
        self.name = run.__name__
        self.undone_by: Step | None = None
        self.is_undo = False

    def undo(self, step: Step) -> Step:
        """Decorate the step that undoes this one; it has to be able to undo what was only half done."""
        self.undone_by = step
        step.is_undo = True
        return step

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


def transaction(*, pivot: bool = False) -> Callable[[Callable[..., None]], Step]:
    """Decorate a step that only reads and writes the database.

    :param pivot: once this step is done there is no way back: what comes after it is not undone if it fails.
    """
    return lambda method: Step(Kind.TRANSACTION, method, pivot=pivot)


def call(at: At) -> Callable[[Callable[..., Any]], Step]:
    """Decorate a step that asks the compute ``at`` a host a question."""
    return lambda method: Step(Kind.CALL, method, at)


def order(at: At, *, pivot: bool = False) -> Callable[[Callable[..., None]], Step]:
    """Decorate a step that casts an order to the compute ``at`` a host; ``pivot`` as in :func:`transaction`."""
    return lambda method: Step(Kind.ORDER, method, at, pivot=pivot)
