"""``minova-manage image``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from minova import location
from minova.cli import columns
from minova.cli.base import ListCommand, MinovaCommand, ShowCommand
from minova.exception import InvalidInput
from minova.objects import Image, ImageFile, utcnow
from minova.states import DiskFormat

if TYPE_CHECKING:
    from minova.cli.connection import Connection

_TIMEOUT = 60
"""Seconds to wait for each piece of a file whose digest is computed here."""


def _add_image(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="name or UUID")


class Add(ShowCommand[Image]):
    """Add an image: a disk that guests can be made from, and perhaps a kernel that they boot."""

    table = columns.IMAGE
    conflict_handler = "resolve"
    # Its --format is the disk's; that of what is shown is -f alone.

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what the image shall be."""
        add, formats = parser.add_argument, [each.value for each in DiskFormat]
        add("name", metavar="NAME", help="its name")
        add("location", metavar="LOCATION", help="of the disk: an absolute path on every host, or an http(s) URL")
        add("--format", choices=formats, required=True, dest="disk_format", help="what the disk's file is")
        add("--sha256", metavar="HEX", help="digest of the file; default: it is read here, once, to compute it")
        for name in ("kernel", "initrd"):
            add(
                f"--{name}", metavar="LOCATION", help=f"{name} to boot directly; default: the guest boots from its disk"
            )
            add(f"--{name}-sha256", metavar="HEX", help="digest of that file; default: as for the disk")
        add("--cmdline", default="", metavar="TEXT", help="command line of the kernel")

    def check(self, parsed_args: Namespace) -> None:
        """Refuse what makes no sense before anything is read."""
        super().check(parsed_args)
        for name in ("location", "kernel", "initrd"):
            if getattr(parsed_args, name) is not None:
                location.check(getattr(parsed_args, name))
        if not parsed_args.kernel and (parsed_args.initrd or parsed_args.cmdline):
            raise InvalidInput(reason="--initrd and --cmdline are a kernel's: give --kernel too")
        for name in ("kernel", "initrd"):
            if getattr(parsed_args, f"{name}_sha256") and not getattr(parsed_args, name):
                raise InvalidInput(reason=f"--{name}-sha256 is the digest of a file: give --{name} too")

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Compute digests, which may take long, before anybody is asked for anything."""
        self._image = self._describe(parsed_args)
        return super().take_action(parsed_args)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Image:
        """Add the image and return it."""
        return connection.conductor.add_image(connection.ctxt, self._image)

    def _describe(self, parsed_args: Namespace) -> Image:
        disk = self._file(parsed_args.location, parsed_args.sha256, "--sha256")
        assert disk is not None
        return Image(
            uuid=str(uuid4()),
            name=parsed_args.name,
            disk_format=DiskFormat(parsed_args.disk_format),
            disk=disk,
            created_at=utcnow(),
            kernel=self._file(parsed_args.kernel, parsed_args.kernel_sha256, "--kernel-sha256"),
            initrd=self._file(parsed_args.initrd, parsed_args.initrd_sha256, "--initrd-sha256"),
            cmdline=parsed_args.cmdline,
        )

    def _file(self, where: str | None, sha256: str | None, option: str) -> ImageFile | None:
        if where is None:
            return None
        if sha256 is None:
            self.app.notify(f"reading {location.shown(where)} to compute its SHA-256 digest…")
            try:
                sha256 = location.sha256(where, _TIMEOUT)
            except InvalidInput as error:
                reason = f"{error.message} (so its digest cannot be computed here: give {option})"
                raise InvalidInput(reason=reason) from None
        return ImageFile(location=where, sha256=sha256.lower())


class List(ListCommand[Image]):
    """List images."""

    table = columns.IMAGE_ROW

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Image]:
        """Return the images."""
        return connection.conductor.list_images(connection.ctxt)


class Show(ShowCommand[Image]):
    """Show an image."""

    table = columns.IMAGE

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the image."""
        _add_image(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Image:
        """Return the image."""
        return connection.conductor.get_image(connection.ctxt, parsed_args.image)


class Remove(MinovaCommand):
    """Remove an image; instances that were made from it stay as they are."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the image."""
        _add_image(parser)

    def take_action(self, parsed_args: Namespace) -> None:
        """Remove it, and say who was made from it."""
        with self.app.connect() as connection:
            users = connection.conductor.remove_image(connection.ctxt, parsed_args.image)
        self.app.stdout.write("removed\n")
        if users:
            stay = "1 instance stays" if users == 1 else f"{users} instances stay"
            why = "leave its files where they are, for hosts may have to fetch them again"
            self.app.notify(f"{stay} that {'was' if users == 1 else 'were'} made from it; {why}")
