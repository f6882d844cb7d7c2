"""One message finds every process of every service."""

import json
import os
import signal

from tests.fixtures.site import Site


def test_roll_call_finds_all_in_one_round(site: Site) -> None:
    site.add_conductor("control2")
    site.wait_until_up()
    called = site.manage("rpc", "ping", "--all")
    assert [(each["binary"], each["host"]) for each in called] == [
        ("minova-compute", "host1"),
        ("minova-compute", "host2"),
        ("minova-conductor", "control1"),
        ("minova-conductor", "control2"),
    ]
    workers = {daemon.host: daemon.workers() for daemon in site.daemons}
    assert {each["host"]: [each["process"]] for each in called} == workers
    assert all(each["uptime"] > 0 and each["rpc_version"] and each["release"] for each in called)


def test_roll_call_misses_a_process_that_hangs(site: Site) -> None:
    (worker,) = site.daemons[1].workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        done = site.run("-f", "json", args=("rpc", "ping", "--all"))
    finally:
        os.kill(worker, signal.SIGCONT)
    assert done.returncode == 1
    assert [each["host"] for each in json.loads(done.stdout) if each["answer_ms"] is None] == ["host1"]
    assert "1 of the services that are up did not answer" in done.stderr
