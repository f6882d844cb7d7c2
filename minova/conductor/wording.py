"""What explanations are made of: how long and when, in words, and what one host says of a guest."""

from datetime import UTC, datetime

from minova.objects import GuestReport, HeldOrder, HostWord
from minova.states import HostState


def say(word: HostWord, now: datetime, why_not: str) -> str:
    """Return in one line what a host says of a guest; ``why_not``: why it did not answer, if it was asked."""
    if word.state is None or word.last_seen_at is None:
        return "no compute was ever registered there"
    heard = f"last heard {span((now - word.last_seen_at).total_seconds())} ago"
    if word.state is HostState.DOWN:
        return f"forced down by the operator, {heard}"
    if word.state is HostState.UNKNOWN:
        return f"silent: {heard}"
    if word.report is None:
        return f"up, {heard}, but did not tell: {why_not}"
    return "; ".join([_of_guest(word.report), *(_of_order(order) for order in word.report.orders)])


def _of_guest(report: GuestReport) -> str:
    guest = report.guest
    if guest is None:
        return f"its hypervisor did not tell: {report.trouble}" if report.trouble else "answers, has no such guest"
    return f"{guest.power_state}, migrating to {guest.migrating_to}" if guest.migrating_to else guest.power_state.value


def _of_order(order: HeldOrder) -> str:
    if order.done:
        return f"has done {order.step}, and no conductor has taken the outcome yet"
    return f"has an order in hand: {order.step} since {clock(order.received_at)}"


def span(seconds: float) -> str:
    """Return an amount of time as people tell it."""
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'d': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{round(seconds, 1 if seconds < 10 else 0):g} s"


def clock(moment: datetime) -> str:
    """Return a time of day."""
    return moment.astimezone(UTC).strftime("%H:%M:%SZ")
