"""What guests are made from."""

from dataclasses import dataclass, field
from typing import ClassVar

from minova.objects.base import UUID, Moment
from minova.states import DiskFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """A file that hosts fetch.

    :ivar location: an absolute path on every host, or an ``http://`` or ``https://`` URL, which may hold a password.
    :ivar sha256: of its content, 64 lowercase hexadecimal digits: a host uses nothing else.
    """

    VERSION: ClassVar[str] = "1.0"
    location: str = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What the root disks of guests are made from, and how such guests are started.

    :ivar kernel: booted directly, with ``initrd`` and ``cmdline``; None: the guest boots from its disk.
    """

    VERSION: ClassVar[str] = "1.0"
    uuid: UUID
    name: str
    disk_format: DiskFormat
    disk: ImageFile
    created_at: Moment
    kernel: ImageFile | None = None
    initrd: ImageFile | None = None
    cmdline: str = ""
