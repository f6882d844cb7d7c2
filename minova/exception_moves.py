"""More errors, of moves: one crosses the wire under its module's name, so none ever leaves :mod:`minova.exception`."""

from dataclasses import dataclass

from minova.exception import Conflict


@dataclass(eq=False, kw_only=True)
class PlaceUnclear(Conflict):
    """The last move of the instance ended in doubt, so that the operation might make a second guest."""

    instance: str
    verb: str
    action: str
    """The action that moved it."""
    hosts: list[str]
    """Those that have to be heard, or to be off and vouched for; those that are up are left out if others are not."""

    @property
    def message(self) -> str:
        one = len(self.hosts) == 1
        have, it, its = ("has", "it has", "its") if one else ("have", "they have", "their")
        start = "start its compute if it does not run" if one else "start the computes that do not run"
        fence = f"`service force-down {self.hosts[0]}` if it is" if one else "`service force-down` each that is"
        return (
            f"cannot {self.verb} instance {self.instance}: its last move (action {self.action}) ended in doubt, and "
            f"{', '.join(self.hosts)} {have} not said yet whether {it} the guest: wait for {its} next reports, "
            f"{start}, or {fence} off"
        )
