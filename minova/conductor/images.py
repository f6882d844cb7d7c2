"""The registry of images: what guests can be made from. Hosts fetch the files themselves."""

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from minova import objects
from minova.db import convert, models
from minova.db.queries import find_image
from minova.db.readable import read_known
from minova.db.session import Database, persistent
from minova.exception_images import ImageExists
from minova.objects import utcnow
from minova.states import VmState


class Images:
    """Adds, tells and removes images. What an instance was made from it keeps, whatever becomes of the image."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._database = database

    def add(self, image: objects.Image) -> objects.Image:
        """Add an image, and return it as it is then; it was validated. One that is there stays: the request came twice.

        :raises ImageExists: another one bears its name.
        """
        self._database.write(_add, image)
        return self.get(image.uuid)

    def remove(self, reference: str) -> int:
        """Remove an image, by UUID or name; return how many instances were made from it. :raises ImageNotFound:"""
        return self._database.write(_remove, reference)

    @persistent
    def get(self, reference: str) -> objects.Image:
        """Return an image by UUID or name. :raises ImageNotFound:"""
        with self._database.read() as session:
            return convert.image(find_image(session, reference))

    @persistent
    def all(self) -> list[objects.Image]:
        """Return all images in the order of their names."""
        query = select(models.Image).order_by(models.Image.name)
        with self._database.read() as session:
            return [convert.image(row) for row in read_known(session, query, models.Image).scalars()]


def _add(session: Session, image: objects.Image) -> None:
    if session.get(models.Image, image.uuid) is not None:
        return
    row = models.Image
    if session.scalars(select(row.uuid).where(row.name == image.name)).first() is not None:
        raise ImageExists(name=image.name)
    files = {name: msgspec.to_builtins(getattr(image, name)) for name in ("disk", "kernel", "initrd")}
    session.add(
        row(
            uuid=image.uuid,
            name=image.name,
            disk_format=image.disk_format,
            cmdline=image.cmdline,
            created_at=utcnow(),
            **files,
        )
    )


def _remove(session: Session, reference: str) -> int:
    image, row = find_image(session, reference), models.Instance
    bears = row.image["uuid"].as_string() == image.uuid
    users = session.scalar(select(func.count()).where(bears, row.vm_state != VmState.DELETED))
    session.delete(image)
    return users or 0
