"""How guests run on libvirt."""

from oslo_config import cfg

GROUP = cfg.OptGroup("libvirt", "How guests run on libvirt, if that is the virt driver")

OPTS: list[cfg.Opt] = [
    cfg.StrOpt("connection_uri", default="qemu:///system", help="The libvirtd of this host."),
    cfg.StrOpt(
        "virt_type",
        default="kvm",
        choices=[("kvm", "by the hardware"), ("qemu", "emulated: slow, and works everywhere")],
        help="How guests are run. Some machines have /dev/kvm and cannot use it: those whose /proc/cpuinfo has neither "
        "svm nor vmx.",
    ),
    cfg.StrOpt(
        "cpu_mode",
        default="auto",
        choices=[
            ("auto", "host-model with kvm, none with qemu"),
            ("host-model", "the CPU model that is nearest to the host's"),
            ("host-passthrough", "the host's CPU as it is: guests can move only to hosts that can do as much"),
            ("custom", "that of cpu_model"),
            ("none", "QEMU's own"),
        ],
        help="Which CPU guests see. They can be live-migrated only where all that it can do is there too. That is "
        "checked before a guest is moved; for host-passthrough, that the host's CPU can do all that the other's can.",
    ),
    cfg.StrOpt("cpu_model", default="", help="The CPU model of cpu_mode = custom, by libvirt's name."),
    cfg.StrOpt(
        "instances_path",
        default="$state_path/instances",
        help="Folder of the guests' disks. Hosts that mount one file system here share their storage: guests move "
        "between them without their disks, and those of a dead host can be started elsewhere with theirs. Disks can be "
        "read by their owner alone: if QEMU does not run as root, leave libvirt's dynamic_ownership on.",
    ),
    cfg.StrOpt(
        "console_path",
        default="$state_path/consoles",
        help="Folder of what guests write to their serial consoles. Hosts must not share it.",
    ),
    cfg.StrOpt(
        "image_cache_path",
        default="$instances_path/_base",
        help="Folder of the images that were fetched, on which the disks of guests are based. It has the same path on "
        "all hosts between which guests move.",
    ),
    cfg.StrOpt(
        "network",
        default="default",
        help="The libvirt network or bridge of guests for which none was asked for; none: they have no network card.",
    ),
    cfg.IntOpt(
        "shutdown_timeout",
        default=60,
        min=0,
        max=86400,
        help="Seconds that a guest which is stopped may take to shut itself down, before that is done by force; 0: at "
        "once.",
    ),
    cfg.IntOpt(
        "wait_soft_reboot_seconds",
        default=120,
        min=0,
        max=86400,
        help="Seconds that a guest which is rebooted may take to shut itself down, before it is reset.",
    ),
    cfg.StrOpt(
        "live_migration_inbound_addr",
        default="",
        help="Host name or IP address at which this host takes guests that are live-migrated; empty: its host name.",
    ),
    cfg.StrOpt(
        "live_migration_scheme",
        default="tcp",
        choices=[
            ("tcp", "neither encrypted nor authenticated, unless by SASL: for a network of its own"),
            ("tls", "with the certificates in libvirt's usual places"),
            ("ssh", "as the user who runs libvirtd"),
        ],
        help="How the libvirtds of two hosts talk to each other while a guest moves.",
    ),
    cfg.BoolOpt(
        "live_migration_with_native_tls",
        default=False,
        help="Encrypt the memory and the disks of guests that move, by QEMU's own TLS. All hosts need certificates "
        "for it: see default_tls_x509_cert_dir in libvirt's qemu.conf.",
    ),
    cfg.IntOpt(
        "reserved_host_memory_mb",
        default=512,
        min=0,
        max=2**40,
        help="MiB of memory that guests do not get.",
    ),
]
