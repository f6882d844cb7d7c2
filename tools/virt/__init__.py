"""Two hosts of libvirt on one machine and a tiny guest: what ``make cluster DRIVER=libvirt`` and the tests run."""
