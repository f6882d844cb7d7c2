"""The libvirt driver: real guests."""
