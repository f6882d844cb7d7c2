"""More errors, of images: one crosses the wire under its module's name, so none ever leaves :mod:`minova.exception`."""

from dataclasses import dataclass

from minova.exception import Conflict, NotFound


class ImageNotFound(NotFound):
    """No image has this name or UUID."""


@dataclass(eq=False, kw_only=True)
class ImageExists(Conflict):
    """Another image bears the name."""

    name: str

    @property
    def message(self) -> str:
        return f"there is an image {self.name} already: choose another name, or remove that one first"
