# SPDX-License-Identifier: GPL-3.0-or-later
"""Module network, against libvirt's test driver, which has an active network named default (192.168.122.0/24)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import limits, networks
from ansible_collections.keystone.virtiofs.plugins.modules import domain, network

Run = Callable[..., dict[str, Any]]
Networks = dict[str, tuple[str, int, int]]
OTHERS = "<network><name>others</name><forward mode='nat'/><ip address='{}.1' netmask='255.255.255.0'/></network>"


@pytest.fixture(autouse=True)
def host(connection: libvirt.virConnect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host without routes and limits, whose firewall runs; the driver keeps its networks as long as this process."""
    monkeypatch.setattr(networks, "read_routes", lambda: "")
    monkeypatch.setattr(networks, "has_firewall", lambda: True)
    monkeypatch.setattr(limits, "FILE", tmp_path / "limits.json")
    yield
    for found in connection.listAllNetworks():
        if found.name() != "default":
            if found.isActive():
                found.destroy()
            found.undefine()


@pytest.fixture
def list_networks(connection: libvirt.virConnect) -> Callable[[], Networks]:
    """The networks that libvirt has now, with their XML, and whether they are active and start with the host."""

    def listed() -> Networks:
        found = connection.listAllNetworks()
        return {each.name(): (each.XMLDesc(), each.isActive(), each.autostart()) for each in found}

    return listed


@pytest.fixture
def others(connection: libvirt.virConnect) -> libvirt.virNetwork:
    """An inactive network that another tool has defined, with the addresses that a new one would get."""
    return connection.networkDefineXML(OTHERS.format("192.168.100"))


def predict_and_run(run: Run, list_networks: Callable[[], Networks], **options: Any) -> dict[str, Any]:
    """Run in check mode, which must change nothing and predict the run, and then run."""
    before = list_networks()
    predicted = run(network, check=True, **options)
    assert list_networks() == before
    result = run(network, **options)
    assert predicted == result
    return result


def refuse(*_arguments: object) -> NoReturn:
    raise libvirt.libvirtError("internal error: Network is already in use by interface virbr1")


@pytest.fixture
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt.virNetwork, "create", refuse)
    message = "internal error: Network is already in use by interface virbr1"
    monkeypatch.setattr(libvirt.libvirtError, "get_error_message", lambda _error: message)


def test_a_new_network_is_active_starts_with_the_host_and_is_not_changed_again(
    run: Run, list_networks: Callable[[], Networks]
) -> None:
    result = predict_and_run(run, list_networks, name="net")
    facts = {"active": True, "autostart": True, "managed": True, "addresses": ["192.168.100.1/24"]}
    assert result["changed"]
    assert result["network"] == {"name": "net", **facts}
    assert result["diff"] == {"before": {}, "after": result["network"]}
    text, *state = list_networks()["net"]
    assert state == [1, 1]
    assert "<bridge name='virbr-ks%d'" in text
    assert "<range start='192.168.100.2' end='192.168.100.254'/>" in text
    again = predict_and_run(run, list_networks, name="net")
    assert (again["changed"], again["network"]) == (False, result["network"])


def test_each_new_network_gets_free_addresses(
    run: Run, others: libvirt.virNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    monkeypatch.setattr(networks, "read_routes", lambda: f"{header}eth0\t0065A8C0\t0\t1\t0\t0\t0\t00FFFFFF\n")
    found = [run(network, name=name)["network"]["addresses"] for name in ("first", "second")]
    assert found == [["192.168.102.1/24"], ["192.168.103.1/24"]]


def test_the_addresses_may_be_given(run: Run) -> None:
    assert run(network, name="net", prefix="10.20.30")["network"]["addresses"] == ["10.20.30.1/24"]
    assert not run(network, name="net", prefix="10.20.30")["changed"]


@pytest.mark.parametrize("name", ["default", "others"])
def test_other_addresses_of_an_existing_network_are_refused(
    run: Run, others: libvirt.virNetwork, list_networks: Callable[[], Networks], name: str
) -> None:
    before = list_networks()
    result = run(network, name=name, prefix="10.20.30")
    assert result["problem"] == f"prefix: network {name} exists and has other addresses than 10.20.30"
    assert f"virsh net-undefine {name}" in result["fix"]
    assert list_networks() == before


@pytest.mark.parametrize("prefix", ["192.168", "192.168.100.0", "192.168.256", "1.2.3\n", "a.b.c", ""])
def test_a_prefix_is_three_numbers(run: Run, prefix: str) -> None:
    assert "prefix: " in run(network, name="net", prefix=prefix)["problem"]


def test_an_active_network_of_another_tool_stays_as_it_is(run: Run, list_networks: Callable[[], Networks]) -> None:
    before = list_networks()
    assert not predict_and_run(run, list_networks, name="default")["changed"]
    assert not predict_and_run(run, list_networks, name="default", state="absent")["changed"]
    assert list_networks() == before


def test_an_inactive_network_of_another_tool_is_started_and_not_changed_otherwise(
    run: Run, others: libvirt.virNetwork, list_networks: Callable[[], Networks]
) -> None:
    text = others.XMLDesc()
    result = predict_and_run(run, list_networks, name="others")
    assert (result["changed"], result["network"]["managed"]) == (True, False)
    assert list_networks()["others"] == (text, 1, 1)
    assert not predict_and_run(run, list_networks, name="others", state="absent")["changed"]


class Killed(BaseException):
    """Ends a run where no clean-up happens."""


@pytest.mark.parametrize("following", ["present", "absent"])
@pytest.mark.parametrize(
    ("state", "step"),
    [("present", "setAutostart"), ("present", "create"), ("absent", "destroy"), ("absent", "undefine")],
)
def test_the_run_after_one_that_was_killed_completes_the_network_or_its_removal(
    run: Run,
    list_networks: Callable[[], Networks],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    step: str,
    following: str,
) -> None:
    def end(*_arguments: object) -> NoReturn:
        raise Killed

    before = list_networks()
    if state == "absent":
        run(network, name="net")
    with monkeypatch.context() as patch:
        patch.setattr(libvirt.virNetwork, step, end)
        with pytest.raises(Killed):
            run(network, name="net", state=state)
    assert "net" in list_networks()
    predict_and_run(run, list_networks, name="net", state=following)
    if following == "present":
        assert list_networks()["net"][1:] == (1, 1)
    else:
        assert list_networks() == before


def test_nothing_is_left_of_a_new_network_that_cannot_start(
    run: Run, list_networks: Callable[[], Networks], no_start: None
) -> None:
    before = list_networks()
    result = run(network, name="net", prefix="10.20.30")
    assert result["problem"].startswith(
        "network net (10.20.30.1/24) was not started: internal error: Network is already"
    )
    assert result["fix"].startswith("Set prefix (role variable vm_network_prefix)")
    assert result["libvirt_message"] == "internal error: Network is already in use by interface virbr1"
    assert list_networks() == before


@pytest.mark.parametrize("autostart", [0, 1])
def test_an_existing_network_that_cannot_start_is_left_as_it_was(
    run: Run, others: libvirt.virNetwork, list_networks: Callable[[], Networks], no_start: None, autostart: int
) -> None:
    others.setAutostart(autostart)
    before = list_networks()
    result = run(network, name="others")
    assert result["problem"].startswith("network others (192.168.100.1/24) was not started")
    assert result["fix"].startswith("Correct the network with virsh net-edit others")
    assert list_networks() == before


def test_the_network_of_this_collection_is_removed(run: Run, list_networks: Callable[[], Networks]) -> None:
    before = list_networks()
    created = run(network, name="net")["network"]
    result = predict_and_run(run, list_networks, name="net", state="absent")
    assert (result["changed"], result["network"]) == (True, None)
    assert result["diff"] == {"before": created, "after": {}}
    assert list_networks() == before
    assert not predict_and_run(run, list_networks, name="net", state="absent")["changed"]


def test_an_inactive_network_of_this_collection_is_removed(
    run: Run, list_networks: Callable[[], Networks], connection: libvirt.virConnect
) -> None:
    run(network, name="net")
    connection.networkLookupByName("net").destroy()
    assert predict_and_run(run, list_networks, name="net", state="absent")["changed"]
    assert "net" not in list_networks()


def test_a_network_is_removed_with_its_last_domain(run: Run, list_networks: Callable[[], Networks]) -> None:
    run(network, name="net")
    for name in ("one", "two"):
        run(domain, name=name, memory=128, interfaces=[{"source": "net"}])
    gone = {"name": "net", "state": "absent"}
    assert not predict_and_run(run, list_networks, **gone)["changed"]
    assert not predict_and_run(run, list_networks, **gone, ignore_domains=["one"])["changed"]
    run(domain, name="two", state="absent")
    assert run(network, check=True, **gone, ignore_domains=["one"])["changed"]
    run(domain, name="one", state="absent")
    assert predict_and_run(run, list_networks, **gone)["changed"]


def test_a_new_network_needs_its_firewall(
    run: Run, list_networks: Callable[[], Networks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "has_firewall", lambda: False)
    before = list_networks()
    assert "the service keystone-firewall does not run" in run(network, name="net")["problem"]
    assert list_networks() == before
    assert run(network, check=True, name="net")["changed"], "the role host has only predicted the firewall"
    run(network, name="net", firewall=False)
    assert "virbr-ks" not in list_networks()["net"][0]


@pytest.mark.parametrize(
    ("allowed", "options", "problem"),
    [
        (["other"], {}, "network net is not among the networks that"),
        (["net"], {"firewall": False}, "firewall: network net is not brought up, because"),
        (["net"], {"uri": "qemu:///session"}, "uri: "),
        (["net"], {}, None),
    ],
)
def test_a_new_network_keeps_to_the_limits_of_the_host(
    run: Run,
    list_networks: Callable[[], Networks],
    allowed: list[str],
    options: dict[str, Any],
    problem: str | None,
) -> None:
    limits.FILE.write_text(json.dumps({"networks": allowed}))
    for check in (True, False):
        assert (problem or "") in run(network, check=check, name="net", **options).get("problem", "")
    assert ("net" in list_networks()) is (problem is None)
