"""minova-compute: one hypervisor, through a virt driver."""
