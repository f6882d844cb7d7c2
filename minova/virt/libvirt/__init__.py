"""Real guests, on QEMU and KVM by way of libvirt. It is imported only where it is configured."""
