"""A hypervisor whose guests are files: for tests, demonstrations and learning."""

from minova.virt.fake.driver import FakeDriver

__all__ = ["FakeDriver"]
