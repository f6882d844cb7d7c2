"""``minova-manage instance console``."""

import math
from argparse import ArgumentParser, Namespace

from minova.cli.attachment import Attachment
from minova.cli.base import MinovaCommand
from minova.cli.keyboard import Keyboard
from minova.exception import InvalidInput

_PAUSE = 0.2
"""Seconds between two looks at a console on which nothing happens."""

_SOON = 0.05
"""The same, where something has just happened: an echo is expected."""

_DEAF_ROUNDS = 5
"""After so many pauses (1 s) the hypervisor has noticed that somebody listens, and the guest hears what was sent."""


class Console(MinovaCommand):
    """Attach to the serial console of an instance; Ctrl-] ends that.

    Where standard input is no terminal, it is sent to the instance, and what comes back is shown until the end of the
    input, and then until nothing more comes.
    """

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the instance, and when to end."""
        parser.add_argument("instance", metavar="INSTANCE", help="name or UUID")
        what = "with input from no terminal: for so long nothing more must come before the command ends; default: 1"
        parser.add_argument("--wait", type=float, default=1.0, metavar="SECONDS", help=what)

    def check(self, parsed_args: Namespace) -> None:
        """Refuse a time that is none."""
        super().check(parsed_args)
        if not 0 <= parsed_args.wait < math.inf:
            raise InvalidInput(reason=f"--wait {parsed_args.wait:g}: 0 or more seconds expected")

    def take_action(self, parsed_args: Namespace) -> None:
        """Converse with the instance until one side has enough."""
        keyboard = Keyboard(self.app.stdin)
        with self.app.connect() as connection:
            if keyboard.is_terminal:
                # In the middle of a line of the guest's, on a terminal that does not return by itself.
                attachment = Attachment(connection, parsed_args.instance, lambda news: self.app.notify(f"\r\n{news}\r"))
                self.app.notify(f"connected to {attachment.name} (escape: Ctrl-])")
                self._attend(attachment, keyboard)
            else:
                attachment = Attachment(connection, parsed_args.instance, self.app.notify)
                self._relay(attachment, keyboard)
                self._listen(attachment, parsed_args.wait)

    def _attend(self, attachment: Attachment, keyboard: Keyboard) -> None:
        """Be the instance's terminal until Ctrl-]."""
        try:
            with keyboard.raw():
                self._show(attachment.last_line)
                self._relay(attachment, keyboard)
        except KeyboardInterrupt:
            pass
        finally:
            # The shell goes on at the beginning of a line.
            self.app.notify("")

    def _relay(self, attachment: Attachment, keyboard: Keyboard) -> None:
        """Send what comes from the keyboard until no more does."""
        pause = _SOON
        while True:
            keyboard.check()
            text: str | None = ""
            if attachment.unsent:
                self.app.sleep(_PAUSE)
            else:
                text = keyboard.read(pause)
            if text is None:
                return
            shown = attachment.exchange(text)
            self._show(shown)
            pause = _SOON if text or shown else _PAUSE

    def _listen(self, attachment: Attachment, seconds: float) -> None:
        """Show what comes until nothing has for so long."""
        rounds = silent = 0
        while silent * _PAUSE < seconds or rounds < _DEAF_ROUNDS or attachment.unsent:
            shown = attachment.exchange("")
            self._show(shown)
            self.app.sleep(_PAUSE)
            rounds += 1
            silent = silent + 1 if rounds > _DEAF_ROUNDS and not shown else 0

    def _show(self, text: str) -> None:
        if text:
            self.app.stdout.write(text)
            self.app.stdout.flush()
