"""``minova-manage help``, and what ``--help`` shows."""

import inspect
from argparse import Namespace

from cliff.help import HelpCommand


class Help(HelpCommand):
    """Show help: on everything, on the commands of one noun, or on one command."""

    def take_action(self, parsed_args: Namespace) -> int:
        """Show it.

        :raises UnknownCommand: there is nothing of that name.
        """
        words = parsed_args.cmd
        names = self._names(words)
        if not names:
            return super().take_action(parsed_args)
        if not words:
            self.app.parser.print_help(self.app.stdout)
            self.app.stdout.write("\ncommands:\n")
        width = max(map(len, names))
        for name in names:
            self.app.stdout.write(f"  {name:<{width}}  {self._summary(name)}\n")
        return 0

    def _names(self, words: list[str]) -> list[str]:
        """Return the commands that are to be listed: all of them, or those of the one noun that is given."""
        names = sorted(name for name, _where in self.app.command_manager)
        if not words:
            return names
        return [name for name in names if len(words) == 1 and name != words[0] and name.split()[0] == words[0]]

    def _summary(self, name: str) -> str:
        described = inspect.getdoc(self.app.command_manager.commands[name].load()) or ""
        return described.partition("\n")[0].rstrip(".")
