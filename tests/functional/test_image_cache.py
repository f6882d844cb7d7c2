"""The cache of images with what it depends on: a server, other processes, locks, and qemu-img where there is one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from oslo_config import cfg

from minova.exception import OperationRefused
from minova.objects import ImageFile
from minova.states import DiskFormat
from minova.virt.libvirt.disk_format import check_disk
from minova.virt.libvirt.disks import create_disk
from minova.virt.libvirt.images import ImageCache
from tests.fixtures.lab import wait_until

CONTENT = os.urandom(1 << 20) * 3
FETCH = """
import sys
from pathlib import Path
from oslo_config import cfg
from minova import conf
from minova.objects import ImageFile
from minova.virt.libvirt.images import ImageCache
conf.register_opts(cfg.CONF)
cfg.CONF([], default_config_files=[], default_config_dirs=[])
host, folder, location, sha256 = sys.argv[1:]
print(ImageCache(cfg.CONF, host, Path(folder), Path(folder).parent).fetch(ImageFile(location=location, sha256=sha256)))
"""


class Server(ThreadingHTTPServer):
    """Has one file, and holds it back in the middle until it may go on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.sent = CONTENT

    @property
    def file(self) -> ImageFile:
        digest = hashlib.sha256(CONTENT).hexdigest()
        return ImageFile(location=f"http://user:geheim@127.0.0.1:{self.server_port}/image", sha256=digest)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path != "/image":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        try:
            self.wfile.write(self.server.sent[: len(CONTENT) // 2])
            self.server.go_on.wait(30)
            self.wfile.write(self.server.sent[len(CONTENT) // 2 :])
        except OSError:
            # Who asked was killed.
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def a_cache(conf: cfg.ConfigOpts, tmp_path: Path, host: str = "host1") -> ImageCache:
    instances = tmp_path / "instances"
    instances.mkdir(exist_ok=True)
    return ImageCache(conf, host, instances / "_base", instances)


def a_process(tmp_path: Path, host: str, file: ImageFile) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FETCH, host, str(tmp_path / "instances" / "_base"), file.location, file.sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def unfinished(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "instances" / "_base").glob("*.part"))


def test_threads_and_processes_that_ask_at_once_fetch_it_once(
    conf: cfg.ConfigOpts, tmp_path: Path, server: Server
) -> None:
    caches = [a_cache(conf, tmp_path, f"host{number}") for number in range(4)]
    server.go_on.clear()
    with ThreadPoolExecutor(4) as pool:
        fetched = [pool.submit(cache.fetch, server.file) for cache in caches]
        wait_until(lambda: server.asked, "a request")
        processes = [a_process(tmp_path, f"other{number}", server.file) for number in range(2)]
        hosts = tmp_path / "instances" / "_base" / ".hosts"
        wait_until(lambda: len(list(hosts.iterdir())) == 6, "all processes to be there")
        server.go_on.set()
        paths = {str(each.result()) for each in fetched}
    for process in processes:
        paths.add(process.communicate(timeout=60)[0].strip())
    assert server.asked == ["/image"]
    [path] = paths
    assert Path(path).read_bytes() == CONTENT


def test_process_that_is_killed_leaves_the_next_one_free(conf: cfg.ConfigOpts, tmp_path: Path, server: Server) -> None:
    server.go_on.clear()
    cache = a_cache(conf, tmp_path)
    process = a_process(tmp_path, "host2", server.file)
    wait_until(lambda: unfinished(tmp_path), "the file's first bytes")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.go_on.set()
    assert cache.fetch(server.file).read_bytes() == CONTENT
    assert unfinished(tmp_path) == []


def test_content_that_changed_on_its_way_is_refused(conf: cfg.ConfigOpts, tmp_path: Path, server: Server) -> None:
    server.sent = CONTENT[:-1] + b"x" if not CONTENT.endswith(b"x") else CONTENT[:-1] + b"y"
    with pytest.raises(OperationRefused, match="its SHA-256 digest is") as refused:
        a_cache(conf, tmp_path).fetch(server.file)
    assert "geheim" not in refused.value.message
    assert [path.name for path in (tmp_path / "instances" / "_base").iterdir() if path.is_file()] == []


@pytest.mark.parametrize("path", ["/none", "/image"])
def test_server_that_refuses_or_breaks_off(conf: cfg.ConfigOpts, tmp_path: Path, server: Server, path: str) -> None:
    server.sent = CONTENT[:-1]
    location = server.file.location.replace("/image", path)
    with pytest.raises(OperationRefused, match=r"answers 404 Not Found|broke off half-way|has broken off") as refused:
        a_cache(conf, tmp_path).fetch(ImageFile(location=location, sha256=server.file.sha256))
    assert "geheim" not in refused.value.message


def test_server_that_is_away(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    file = ImageFile(location="http://127.0.0.1:9/image", sha256="0" * 64)
    with pytest.raises(OperationRefused, match=r"http://127.0.0.1:9/image: the server cannot be reached"):
        a_cache(conf, tmp_path).fetch(file)


needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-img") is None and not os.environ.get("CI"),
    reason="qemu-img is missing: apt-get install qemu-utils",
)


def make(*arguments: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", *arguments], check=True, capture_output=True)


@needs_qemu
def test_disks_that_qemu_makes(tmp_path: Path) -> None:
    path = str(tmp_path / "disk")
    make("-f", "qcow2", path, "3M")
    assert check_disk(Path(path), DiskFormat.QCOW2, "host1") == 3 << 20
    with pytest.raises(OperationRefused, match="its content is qcow2"):
        check_disk(Path(path), DiskFormat.RAW, "host1")
    make("-f", "raw", path, "3M")
    assert check_disk(Path(path), DiskFormat.RAW, "host1") == 3 << 20
    with pytest.raises(OperationRefused, match="its content is something else"):
        check_disk(Path(path), DiskFormat.QCOW2, "host1")


@needs_qemu
def test_the_disk_of_a_guest_is_nobody_elses(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    # One that was left by who was killed.
    disk.with_name("disk.part").touch(mode=0o644)
    create_disk(disk, 1, None)
    assert disk.stat().st_mode & 0o777 == 0o600
    assert check_disk(disk, DiskFormat.QCOW2, "host1") == 1 << 30


@needs_qemu
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-b", "BASE", "-F", "raw"], "it has a backing file"),
        (["-b", "json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": "BASE"}})], "backing"),
        (["-o", "data_file=BASE.data,data_file_raw=on"], "its data is in another file"),
    ],
    ids=["backing file", "backing description", "data file"],
)
def test_attacks_that_qemu_makes_easy(tmp_path: Path, options: list[str], why: str) -> None:
    base, disk = tmp_path / "base", tmp_path / "disk"
    base.write_bytes(bytes(1 << 20))
    arguments = [option.replace("BASE", str(base)) for option in options]
    if "json:" in arguments[1]:
        arguments += ["-F", "raw"]
    make("-f", "qcow2", *arguments, str(disk), "1M")
    with pytest.raises(OperationRefused, match=why):
        check_disk(disk, DiskFormat.QCOW2, "host1")


@needs_qemu
def test_encryption_is_found(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make("-f", "qcow2", str(disk), "1M")
    header = bytearray(disk.read_bytes())
    # The method: AES.
    header[35] = 1
    disk.write_bytes(header)
    with pytest.raises(OperationRefused, match="it is encrypted"):
        check_disk(disk, DiskFormat.QCOW2, "host1")
