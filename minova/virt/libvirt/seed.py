"""What cloud-init reads in a guest: a small CD with the NoCloud data source's files.

It is made anew wherever the guest goes, and the guest may have it mounted: so the same instance gives the same bytes.
"""

import io
import json
import os
import re
import time
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pycdlib
from pycdlib import dates, headervd, utils
from pycdlib import pycdlib as library

from minova.objects import Instance

_LABEL = "cidata"
"""By which cloud-init finds it."""

_NOTHING = "#cloud-config\n{}\n"

_LONGEST_HOSTNAME = 63

# The library writes the time, with its zone, into each entry, and cannot be told another: it gets a clock that stands.
_CLOCK = SimpleNamespace(**{**vars(time), "time": lambda: 315532800.0, "localtime": time.gmtime})
for _module in (dates, headervd, library, utils):
    vars(_module)["time"] = _CLOCK


def wants_seed(instance: Instance) -> bool:
    """Return whether there is anything for cloud-init to do."""
    return bool(instance.user_data or instance.ssh_keys)


def make_seed(instance: Instance, path: Path) -> None:
    """Write an instance's CD, which holds secrets, to ``path``: whole or not at all. :raises OSError:"""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(_cd({"meta-data": _meta_data(instance), "user-data": instance.user_data or _NOTHING}))
    unfinished.replace(path)


def local_hostname(instance: Instance) -> str:
    """Return a valid host name that resembles the instance's name."""
    plain = unicodedata.normalize("NFKD", instance.name).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST_HOSTNAME].rstrip("-")
    return name or f"instance-{instance.uuid[:8]}"


def _meta_data(instance: Instance) -> str:
    # JSON is YAML.
    known = {
        "instance-id": instance.uuid,
        "local-hostname": local_hostname(instance),
        "public-keys": list(instance.ssh_keys),
    }
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


def _cd(files: dict[str, str]) -> bytes:
    disc, written = pycdlib.PyCdlib(), io.BytesIO()
    disc.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=_LABEL)
    for number, (name, text) in enumerate(files.items()):
        content = text.encode()
        # The first name is for who knows no other; it is the two others that are read.
        disc.add_fp(io.BytesIO(content), len(content), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    disc.write_fp(written)
    disc.close()
    return written.getvalue()
