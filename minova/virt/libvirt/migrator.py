"""Live migrations of libvirt's."""

from typing import NoReturn

from minova.exception import OperationRefused
from minova.objects import Instance, MigrateData, MigrationOptions
from minova.virt.driver import ProgressCallback


class LiveMigrator:
    """The live migrations of one host."""

    def __init__(self, host: str) -> None:
        self._host = host

    def destination_of(self, uuid: str) -> str | None:
        """Return where a guest is being live-migrated to from here, or None."""
        return None

    def check_can_live_migrate_source(
        self, instance: Instance, destination: str, options: MigrationOptions
    ) -> MigrateData:
        """As the driver's."""
        self._refuse()

    def check_can_live_migrate_destination(
        self, instance: Instance, options: MigrationOptions, data: MigrateData
    ) -> None:
        """As the driver's."""
        self._refuse()

    def pre_live_migration(self, instance: Instance, options: MigrationOptions, data: MigrateData) -> MigrateData:
        """As the driver's."""
        self._refuse()

    def live_migration(
        self,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
        on_progress: ProgressCallback,
    ) -> None:
        """As the driver's."""
        self._refuse()

    def live_migration_abort(self, uuid: str) -> None:
        """As the driver's."""

    def live_migration_force_complete(self, uuid: str) -> None:
        """As the driver's."""

    def post_live_migration_at_destination(self, instance: Instance) -> None:
        """As the driver's."""
        self._refuse()

    def rollback_live_migration_at_destination(self, uuid: str) -> None:
        """As the driver's."""

    def _refuse(self) -> NoReturn:
        reason = "guests of this release's libvirt driver cannot be live-migrated"
        raise OperationRefused(host=self._host, operation="live migration", reason=reason)
