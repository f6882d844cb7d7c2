"""Which commands there are, and where; a command's module is imported when the command runs."""

import difflib
from importlib.metadata import EntryPoint

from cliff.command import Command
from cliff.commandmanager import CommandManager

COMMANDS = {
    "action cancel": "action:Cancel",
    "action list": "action:List",
    "action show": "action:Show",
    "action trace": "action:Trace",
    "action watch": "action:Watch",
    "db purge": "db:Purge",
    "db sync": "db:Sync",
    "db version": "db:Version",
    "demo": "demo:Demo",
    "host drain": "host:Drain",
    "host list": "host:List",
    "host show": "host:Show",
    "host undrain": "host:Undrain",
    "image add": "image:Add",
    "image list": "image:List",
    "image remove": "image:Remove",
    "image show": "image:Show",
    "instance boot": "instance:Boot",
    "instance console": "attach:Console",
    "instance console-log": "console:ConsoleLog",
    "instance delete": "instance:Delete",
    "instance evacuate": "instance:Evacuate",
    "instance explain": "explain:Explain",
    "instance faults": "instance:Faults",
    "instance list": "instance:List",
    "instance live-migrate": "instance:LiveMigrate",
    "instance migrate": "instance:Migrate",
    "instance pause": "instance:Pause",
    "instance reboot": "instance:Reboot",
    "instance rebuild": "instance:Rebuild",
    "instance reset-state": "instance:ResetState",
    "instance show": "instance:Show",
    "instance start": "instance:Start",
    "instance stop": "instance:Stop",
    "instance unpause": "instance:Unpause",
    "migration abort": "migration:Abort",
    "migration force-complete": "migration:ForceComplete",
    "migration list": "migration:List",
    "migration show": "migration:Show",
    "notifications watch": "notifications:Watch",
    "rpc map": "rpc:Map",
    "rpc ping": "rpc:Ping",
    "rpc reset": "rpc:Reset",
    "rpc versions": "rpc:Versions",
    "service disable": "service:Disable",
    "service enable": "service:Enable",
    "service force-down": "service:ForceDown",
    "service list": "service:List",
}
"""What is typed, to ``module:class`` in this package."""


class UnknownCommand(ValueError):
    """There is no such command; cliff's ``help`` wants a ValueError. Its text suggests others."""


class Commands(CommandManager):
    """Finds commands in :data:`COMMANDS`; unambiguous abbreviations will do."""

    def __init__(self) -> None:
        super().__init__()
        for name, target in COMMANDS.items():
            self.commands[name] = EntryPoint(name, f"{__package__}.{target}", __package__)

    def find_command(self, argv: list[str]) -> tuple[type[Command], str, list[str]]:
        """Return the command's class, its name as typed, and the arguments that are left.

        :raises UnknownCommand: no command, or several, can be meant.
        """
        try:
            return super().find_command(argv)
        except ValueError:
            words = argv[: self._get_last_possible_command_index(argv)]
            raise UnknownCommand(_unknown(words, sorted(self.commands))) from None


def _unknown(words: list[str], known: list[str]) -> str:
    siblings = [name for name in known if words and name.split()[0] == words[0]]
    typed = " ".join(words[:2])
    close = difflib.get_close_matches(typed, siblings or known) if len(words) > 1 or not siblings else []
    meant = close or siblings
    hint = f"did you mean: {', '.join(meant)}" if meant else "see: minova-manage --help"
    return f"no such command: {typed}; {hint}"
