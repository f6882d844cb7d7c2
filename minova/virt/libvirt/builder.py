"""Making guests: their files, and what libvirt is to know of them."""

from oslo_config import cfg

from minova.exception import OperationRefused
from minova.objects import Instance
from minova.virt.libvirt import domain_xml
from minova.virt.libvirt.disks import DiskError, create_disk
from minova.virt.libvirt.domain_xml import Hardware
from minova.virt.libvirt.host import HostFacts
from minova.virt.libvirt.images import CachedImage, ImageCache
from minova.virt.libvirt.seed import make_seed, wants_seed
from minova.virt.libvirt.storage import Storage

_GIB = 2**30


class Builder:
    """Makes what a guest consists of on one host; what is there already stays as it is."""

    def __init__(self, conf: cfg.ConfigOpts, host: str, storage: Storage, facts: HostFacts, images: ImageCache) -> None:
        self._conf = conf
        self._host = host
        self._storage = storage
        self._facts = facts
        self._images = images

    def check(self, instance: Instance) -> None:
        """Have all here that :meth:`build` needs, and make nothing.

        :raises InsufficientResources: there is no room for its image.
        :raises OperationRefused: its image or its network cannot be had.
        """
        self._facts.network(instance.network)
        if instance.image is not None:
            self._require_fit(instance, self._images.fetch_files(instance.image))

    def build(self, instance: Instance) -> str:
        """Make the files of a guest, have this host own them, and return the XML of its domain.

        :raises InsufficientResources: there is no room for its image.
        :raises OperationRefused: its image or its network cannot be had.
        """
        # What is refused for that leaves nothing behind.
        self._facts.network(instance.network)
        self._storage.take(instance.uuid, instance.host)
        return self.make_files(instance)

    def make_files(self, instance: Instance) -> str:
        """Do as :meth:`build` does, in a folder that is there and may be another host's.

        :raises InsufficientResources: there is no room for its image.
        :raises OperationRefused: its image or its network cannot be had.
        """
        network, uuid = self._facts.network(instance.network), instance.uuid
        image = self._images.fetch_image(instance.image, self._storage.folder(uuid)) if instance.image else None
        self._make_disk(instance, image)
        self._storage.begin_console(uuid)
        hardware = Hardware(
            disk=self._storage.disk(uuid),
            console=self._storage.console(uuid),
            seed=self._storage.seed(uuid) if self._make_seed(instance) else None,
            kernel=image.kernel if image else None,
            initrd=image.initrd if image else None,
            network=network,
        )
        return domain_xml.build(self._conf, instance, hardware)

    def _make_disk(self, instance: Instance, image: CachedImage | None) -> None:
        if image is not None:
            self._require_fit(instance, image)
        base = image.disk if image is not None else None
        base_format = instance.image.disk_format.value if instance.image is not None else ""
        try:
            create_disk(self._storage.disk(instance.uuid), instance.disk_gb, base, base_format)
        except (DiskError, OSError) as error:
            raise self._refusal(str(error)) from error

    def _require_fit(self, instance: Instance, image: CachedImage) -> None:
        if image.disk_bytes > instance.disk_gb * _GIB:
            needed = -(-image.disk_bytes // _GIB)
            raise self._refusal(f"its image needs a disk of {needed} GiB, and it has one of {instance.disk_gb}")

    def _make_seed(self, instance: Instance) -> bool:
        """Make what cloud-init reads, if there is anything; return whether there is."""
        if wants_seed(instance):
            try:
                make_seed(instance, self._storage.seed(instance.uuid))
            except OSError as error:
                raise self._refusal(f"{error.filename}: {error.strerror}") from error
            return True
        return False

    def _refusal(self, reason: str) -> OperationRefused:
        return OperationRefused(host=self._host, operation="making the guest's disks", reason=reason)
