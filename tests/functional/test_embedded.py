"""The cluster in one process, as minova-manage holds it from command to command."""

import threading
from collections.abc import Callable

import pytest
from oslo_config import cfg

from minova.embedded import Cluster
from minova.exception import ConfigurationError, HostUnusable
from minova.objects import MigrationOptions
from minova.states import HostState
from tests.fixtures.lab import Lab, wait_until


def test_action_goes_on_in_the_next_cluster(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2")
    before = lab.boot(host="host1")
    action = lab.api.live_migrate_instance(lab.ctxt, "vm", "host2", MigrationOptions())
    lab.cluster.stop()
    lab.cluster = Cluster(lab.conf, ["host1", "host2"])
    lab.cluster.start()
    lab.succeed(action)
    assert (before.host, lab.instance().host) == ("host1", "host2")


def test_host_that_is_forced_down_stays_off(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    lab.cluster.stop()
    lab.cluster = Cluster(lab.conf, ["host1", "host2"])
    lab.cluster.start()
    assert list(lab.cluster.computes) == ["host2"]
    assert lab.api.get_host(lab.ctxt, "host1").state is HostState.DOWN
    with pytest.raises(HostUnusable):
        lab.api.boot_instance(lab.ctxt, lab.request(host="host1"))


def test_host_that_cannot_report_holds_up_nobody(conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]) -> None:
    conf.set_override("quick_timeout", 1.0, group="rpc")
    conf.set_override("failures", ["host1:list_guests"], group="fake")
    lab = make_lab("host1", "host2")
    assert [host.host for host in lab.api.list_hosts(lab.ctxt)] == ["host2"]
    assert lab.boot().host == "host2"


def test_cluster_that_cannot_start_is_gone(conf: cfg.ConfigOpts, quick_broker: None) -> None:
    before = set(threading.enumerate())
    conf.set_override("failures", ["nonsense"], group="fake")
    with pytest.raises(ConfigurationError, match="nonsense"), Cluster(conf, ["host1"]):
        pass
    wait_until(lambda: set(threading.enumerate()) <= before, "the end of all threads")


def test_guest_that_cannot_be_cleaned_up_does_not_keep_its_host_from_work(lab: Lab) -> None:
    instance = lab.boot(host="host1")
    lab.kill_host("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    lab.succeed(lab.api.evacuate_instance(lab.ctxt, "vm", "host2"))
    lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    lab.set("fake", failures=["host1:destroy"])
    lab.return_host("host1")
    assert lab.boot("other", host="host1").host == "host1"
    assert lab.guest("host1", instance.uuid) is not None
    lab.set("fake", failures=[])
    lab.report("host1")
    assert lab.guest("host1", instance.uuid) is None
