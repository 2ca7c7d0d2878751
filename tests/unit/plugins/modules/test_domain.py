# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on libvirt's test driver: every step is predicted by check mode, done once, and then no change."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.executor import Executor
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import planner
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import GatewayError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import limits, probe
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.gateway import Gateway
from ansible_collections.keystone.virtiofs.plugins.modules import domain, domain_info, domains, share
from ansible_collections.keystone.virtiofs.tests.unit.support import replaced

Run = Callable[..., dict[str, Any]]
Look = Callable[[], Any]
STORY: list[tuple[dict[str, Any], list[str]]] = [
    ({"state": "absent"}, []),
    ({"memory": 128, "vcpus": 1}, ["Define", "ReservePorts"]),
    ({"memory": 256}, ["Define"]),
    ({"shares": [{"tag": "data", "source": "SOURCE"}]}, ["Define"]),
    ({"shares": [{"tag": "data", "source": "SOURCE", "read_only": True}]}, ["Define"]),
    ({"shares": [{"tag": "meta", "source": "OTHER", "cache": "metadata"}]}, ["WriteWrapper", "Define"]),
    ({"interfaces": [{}, {"mac": "52:54:00:00:00:01"}]}, ["Define"]),
    ({"vsock": True}, ["Define"]),
    ({"disks": [{"path": "DISK", "size": 8}]}, ["Define", "CreateDisk"]),
    ({"disks": [{"path": "DISK", "size": 16}]}, ["GrowDisk"]),
    ({"autostart": True}, ["SetAutostart"]),
    ({"state": "running", "wait_for": "running"}, ["Start"]),
    (
        {"state": "running", "memory": 128, "restart": "if_required"},
        ["Define", "NoteRestart", "Shutdown", "Start", "NoteRestart"],
    ),
    ({"state": "running", "wait_for": "address", "autostart": False}, ["SetAutostart"]),
    ({"state": "stopped", "shutdown_timeout": 5}, ["Shutdown"]),
    ({"state": "absent", "remove_storage": ["DISK"]}, ["Define", "RemoveDisk", "RemoveState", "Undefine"]),
    ({"state": "absent"}, []),
]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The names of STORY as real paths."""
    for name in ("source", "other", ".local/share/keystone-virtiofs/domains"):
        (tmp_path / name).mkdir(parents=True)
    return {"SOURCE": f"{tmp_path}/source", "OTHER": f"{tmp_path}/other", "DISK": f"{tmp_path}/disk.qcow2"}


def test_the_life_of_a_domain(run: Run, look: Look, places: dict[str, str]) -> None:
    for given, expected in STORY:
        options = {"name": "vm", **replaced(given, places)}
        before = look()
        predicted = run(domain, check=True, **options)
        assert look() == before, f"check mode of {given} changed something"
        done = run(domain, **options)
        assert done["actions"] == expected, given
        for key in ("changed", "actions", "diff", "restart_required", "restart_reasons"):
            assert predicted[key] == done[key], f"check mode of {given} predicted another {key}"
        assert done["changed"] is bool(expected)
        assert (look() == before) is not done["changed"]
        after = look()
        again = run(domain, **options)
        assert (again["changed"], again["actions"]) == (False, []), given
        assert look() == after


def test_a_change_that_waits_for_a_restart(run: Run) -> None:
    run(domain, name="vm", memory=128, state="running")
    result = run(domain, name="vm", memory=256)
    assert (result["actions"], result["restart_required"]) == (["Define"], True)
    assert result["restart_reasons"] == ["memory: 128 in the running domain, 256 in its definition"]
    again = run(domain, name="vm", memory=256)
    assert (again["changed"], again["restart_required"]) == (False, True)


def test_a_domain_that_is_paused_goes_on(run: Run, connection: libvirt.virConnect) -> None:
    run(domain, name="vm", state="running")
    connection.lookupByName("vm").suspend()
    assert run(domain, name="vm", state="running")["actions"] == ["Resume"]


def test_a_paused_domain_is_resumed_to_hear_that_it_shall_stop(
    run: Run, connection: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(domain, name="vm", state="running")
    connection.lookupByName("vm").suspend()
    real_shutdown = libvirt.virDomain.shutdown

    def shutdown(machine: libvirt.virDomain) -> int:
        assert machine.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        return int(real_shutdown(machine))

    monkeypatch.setattr(libvirt.virDomain, "shutdown", shutdown)
    assert run(domain, name="vm", state="stopped")["domain"]["state"] == "stopped"


def test_absent_copes_with_snapshots_and_managed_save(run: Run, connection: libvirt.virConnect) -> None:
    run(domain, name="vm", state="running")
    machine = connection.lookupByName("vm")
    machine.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    machine.managedSave()
    assert run(domain, name="vm", state="absent")["actions"] == ["Undefine"]
    assert connection.listAllDomains() == []


@pytest.mark.parametrize("identity", ["<name>vm</name>", "<uuid>11111111-2222-3333-4444-555555555555</uuid>", ""])
def test_users_xml(run: Run, connection: libvirt.virConnect, places: dict[str, str], identity: str) -> None:
    text = f"<domain type='test'>{identity}<memory>65536</memory><os><type>hvm</type></os><devices/></domain>"
    shares = [{"tag": "data", "source": places["SOURCE"]}]
    first = run(domain, name="vm", xml=text, shares=shares)
    assert first["actions"] == ["Define"]
    assert "warnings" not in first  # that KVM is not usable matters only where the type must be chosen
    uuid = connection.lookupByName("vm").UUIDString()
    assert not run(domain, name="vm", xml=text, shares=shares)["changed"]
    changed = run(domain, name="vm", xml=text.replace("65536", "131072"), shares=shares)
    assert changed["diff"]["after"]["memory"] == 128
    assert changed["domain"]["uuid"] == uuid
    assert [found["tag"] for found in changed["domain"]["shares"]] == ["data"]


def test_what_is_returned(run: Run, places: dict[str, str]) -> None:
    shares = [{"tag": "data", "source": places["SOURCE"]}]
    facts = run(domain, name="vm", memory=128, state="running", interfaces=[{}], shares=shares)["domain"]
    assert (facts["name"], facts["state"], facts["memory"], facts["persistent"]) == ("vm", "running", 128, True)
    assert facts["shares"][0]["tag"] == "data"
    assert facts["ssh"] == {"host": facts["addresses"][0], "port": 22}


def test_waiting_says_what_was_seen_last(run: Run) -> None:
    result = run(domain, name="vm", state="running", wait_for="ssh", wait_timeout=1)
    assert result["failed"]
    assert "domain vm: did not reach ssh within 1 s; last seen: state running, addresses none" in result["msg"]
    assert "virsh --connect test:///default console vm" in result["msg"]


# A run that is killed at any point is repaired by running it again.


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch, run: Run) -> Callable[..., bool]:
    """Run a task that is killed after a number of steps; whether it had more."""
    real_step = Executor._step

    def run_and_kill(count: int, **options: Any) -> bool:
        done: list[str] = []

        def step(self: Executor, name: str, action: Any) -> None:
            if len(done) == count:
                raise OSError("killed")
            real_step(self, name, action)
            done.append(name)

        with monkeypatch.context() as patched:
            patched.setattr(Executor, "_step", step)
            return "failed" in run(domain, name="vm", **options)

    return run_and_kill


def facts_of(run: Run) -> dict[str, Any]:
    """The domain, without what is new every time."""
    facts = run(domain_info, names=["vm"])["domains"].get("vm", {})
    return {key: value for key, value in facts.items() if key != "uuid"}


def full(places: dict[str, str]) -> dict[str, Any]:
    return {
        "memory": 128,
        "autostart": True,
        "state": "running",
        "disks": [{"path": places["DISK"], "size": 8}],
        "shares": [{"tag": "meta", "source": places["SOURCE"], "cache": "metadata"}],
    }


def test_a_killed_creation_is_mended(
    run: Run, look: Look, killed_after: Callable[..., bool], places: dict[str, str]
) -> None:
    clean = look()
    run(domain, name="vm", **full(places))
    expected = facts_of(run)
    absent = {"state": "absent", "remove_storage": [places["DISK"]]}
    run(domain, name="vm", **absent)
    assert look() == clean
    count = 0
    while killed_after(count, **full(places)):
        run(domain, name="vm", **full(places))
        assert facts_of(run) == expected, f"killed after {count} steps"
        assert not run(domain, name="vm", **full(places))["changed"]
        run(domain, name="vm", **absent)
        assert look() == clean
        count += 1
    assert count == 6


def test_a_killed_removal_is_mended(
    run: Run, look: Look, killed_after: Callable[..., bool], places: dict[str, str]
) -> None:
    clean = look()
    absent = {"state": "absent", "remove_storage": [places["DISK"]]}
    count = 0
    run(domain, name="vm", **full(places))
    while killed_after(count, **absent):
        run(domain, name="vm", **absent)
        assert look() == clean, f"killed after {count} steps"
        run(domain, name="vm", **full(places))
        count += 1
    assert count == 5


def test_a_killed_restart_is_finished(run: Run, killed_after: Callable[..., bool]) -> None:
    for count in range(5):
        run(domain, name="vm", memory=128, state="running", restart="if_required")
        assert killed_after(count, memory=256, restart="if_required")
        result = run(domain, name="vm", memory=256, restart="if_required")
        assert (result["domain"]["state"], result["domain"]["memory"]) == ("running", 256), count
        assert not run(domain, name="vm", memory=256, restart="if_required")["changed"]


# One share.


def test_the_life_of_a_share(run: Run, look: Look, places: dict[str, str]) -> None:
    run(domain, name="vm", memory=128)
    for given, expected in (
        ({"tag": "data", "source": "SOURCE"}, ["Define"]),
        ({"tag": "data", "source": "SOURCE", "queue_size": 64}, ["Define"]),
        ({"tag": "data", "source": "OTHER"}, ["Define"]),
        ({"tag": "data", "state": "absent"}, ["Define"]),
        ({"tag": "data", "state": "absent"}, []),
    ):
        options = {"domain": "vm", **replaced(given, places)}
        before = look()
        predicted = run(share, check=True, **options)
        assert look() == before
        done = run(share, **options)
        assert (done["actions"], done["diff"]) == (expected, predicted["diff"])
        assert predicted["actions"] == expected
        assert not run(share, **options)["changed"]


def test_libvirts_refusal_is_passed_on(run: Run, connection: libvirt.virConnect, places: dict[str, str]) -> None:
    """The test driver cannot plug: libvirt's code and message, the share, and a fix are returned."""
    # It places no devices either, so it gets a machine with a port.
    xml = """<domain type='test'><memory>65536</memory><os><type>hvm</type></os><devices>
        <controller type='pci' index='0' model='pcie-root'/>
        <controller type='pci' index='1' model='pcie-root-port'/></devices></domain>"""
    run(domain, name="vm", xml=xml, state="running", shares=[{"tag": "first", "source": places["OTHER"]}])
    result = run(share, domain="vm", tag="data", source=places["SOURCE"])
    assert (result["failed"], result["libvirt_code"]) == (True, libvirt.VIR_ERR_NO_SUPPORT)
    assert result["libvirt_message"] in result["msg"]
    assert "domain vm" in result["msg"]
    assert result["fix"]


def test_more_open_files_than_the_host_allows(run: Run, places: dict[str, str]) -> None:
    shares = [{"tag": "data", "source": places["SOURCE"], "open_files": 2**30}]
    refused = run(domain, name="vm", shares=shares)
    assert "share data: open_files: 1073741824 is more than the host allows" in refused["msg"]
    assert "fs.nr_open" in refused["fix"]


# Many domains.


def test_an_option_that_is_null_counts_as_omitted(run: Run) -> None:
    made = run(domains, domains=[{"name": "vm", "memory": None, "firmware": None}])["domains"]["vm"]["domain"]
    assert (made["memory"], made["firmware"]) == (2048, "bios")


def test_many_domains_and_purge(run: Run, connection: libvirt.virConnect, look: Look) -> None:
    wanted = [{"name": f"vm{number}", "memory": 128} for number in range(3)]
    connection.defineXML(
        "<domain type='test'><name>foreign</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    )
    before = look()
    predicted = run(domains, check=True, domains=wanted)
    assert look() == before
    done = run(domains, domains=wanted)
    assert done["changed"]
    assert done["diff"] == predicted["diff"]
    assert set(done["domains"]) == {"vm0", "vm1", "vm2"}
    assert not run(domains, domains=wanted)["changed"]
    assert not run(domains, domains=wanted[:1])["changed"]
    purged = run(domains, domains=wanted[:1], purge=True)
    assert {name: result["actions"] for name, result in purged["domains"].items()} == {
        "vm0": [],
        "vm1": ["Undefine"],
        "vm2": ["Undefine"],
    }
    assert sorted(machine.name() for machine in connection.listAllDomains()) == ["foreign", "vm0"]


def test_check_mode_takes_a_network_that_an_earlier_task_has_only_predicted(run: Run) -> None:
    wanted = {"name": "vm", "state": "running", "interfaces": [{"type": "network", "source": "predicted"}]}
    refused = run(domain, **wanted)
    assert "interfaces: network predicted does not exist" in refused["msg"]
    predicted = run(domain, **wanted, check=True)
    assert predicted["actions"][-1] == "Start"
    assert "network predicted does not exist" in str(predicted["warnings"])


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ([{"name": "good"}, {"name": "bad", "memory": 0}], "domain bad: memory: 0"),
        (
            [{"name": "good"}, {"name": "bad", "shares": [{"tag": "t", "source": "/nowhere"}]}],
            "/nowhere does not exist",
        ),
        ([{"name": "good"}, {"name": "good"}], "listed twice: good"),
        ([{"name": "good"}, {"memory": 128}], "domains[1]: missing required arguments: name"),
        ([{"name": "good", "nonsense": 1}], "domains[0]: "),
        ([{"name": "good", "state": "sleeping"}], "domains[0]: "),
    ],
)
def test_all_are_checked_before_the_first_is_touched(
    run: Run, look: Look, wanted: list[dict[str, Any]], problem: str
) -> None:
    before = look()
    result = run(domains, domains=wanted)
    assert result["failed"]
    assert problem in result["msg"]
    assert look() == before


def test_domain_info(run: Run, places: dict[str, str]) -> None:
    assert run(domain_info)["domains"] == {}
    for name in ("a", "b"):
        run(domain, name=name, shares=[{"tag": "data", "source": places["SOURCE"], "read_only": True}])
    assert set(run(domain_info)["domains"]) == {"a", "b"}
    assert set(run(domain_info, names=["a", "missing"])["domains"]) == {"a"}
    facts = run(domain_info, names=["a"])["domains"]["a"]
    assert (facts["state"], facts["managed"], facts["shared_memory"]) == ("stopped", True, True)
    assert facts["shares"][0]["read_only"]


def test_a_silent_guest_does_not_delay_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every guest answers only when all five have been asked."""
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        run(domain, name=name, state="running")
    everybody = threading.Barrier(len(names), timeout=30)

    def addresses(_gateway: Gateway, _name: str) -> list[str]:
        everybody.wait()
        return ["192.0.2.1"]

    monkeypatch.setattr(Gateway, "addresses", addresses)
    facts = run(domain_info)["domains"]
    assert [facts[name]["addresses"] for name in names] == [["192.0.2.1"]] * len(names)


# Refused: one clear error, nothing touched.


@pytest.fixture
def refused(run: Run, look: Look) -> Callable[..., dict[str, Any]]:
    """Run a module that must refuse, in check mode as well."""

    def run_refused(module: Any = domain, **options: Any) -> dict[str, Any]:
        before = look()
        results = [run(module, check=check, **options) for check in (True, False)]
        assert look() == before
        assert results[0]["msg"] == results[1]["msg"]
        assert results[1]["failed"]
        assert "Traceback" not in results[1]["msg"]
        return results[1]

    return run_refused


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dir/below").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"source": "BAD/missing"}, "missing does not exist"),
        ({"source": "relative"}, "'relative' is not an absolute path"),
        ({"source": "BAD/file"}, "file is not a directory"),
        ({"source": "BAD/loop"}, "is a symlink loop"),
        ({"source": "BAD/dir", "tag": ""}, "the tag is empty"),
        ({"source": "BAD/dir", "tag": "ü" * 19}, "the tag has 38 bytes"),
        ({"source": "BAD/dir", "tag": "a\tb"}, "control character"),
        ({"source": "BAD/dir/below", "tag": "inner"}, "which share writable exposes writable"),
        ({"source": "BAD/dir", "tag": "same"}, "which share"),
    ],
)
def test_bad_shares(refused: Run, run: Run, bad: Path, given: dict[str, Any], problem: str) -> None:
    options = {"tag": "data", **replaced(given, {given["source"]: given["source"].replace("BAD", str(bad))})}
    writable = {"tag": "writable", "source": str(bad / "dir")}
    result = refused(name="vm", shares=[writable, options])
    assert problem in result["msg"]
    assert "domain vm" in result["msg"]
    run(domain, name="vm", shares=[writable])
    assert problem in refused(share, domain="vm", **options)["msg"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"memory": 10**7}, "MiB is more than the host has"),
        ({"vcpus": 4000}, "is more than QEMU gives a guest here"),
        ({"kernel": "/nowhere/vmlinuz"}, "kernel: /nowhere/vmlinuz is not a file"),
        ({"iso": "/"}, "iso: / is not a file"),
        ({"disks": [{"path": "/usr", "size": 8}]}, "disk /usr is a directory"),
        ({"disks": [{"path": "/nowhere/disk"}]}, "disk /nowhere/disk does not exist"),
        ({"disks": [{"pool": "nowhere", "volume": "v", "size": 1}]}, "cannot open storage pool nowhere"),
        ({"interfaces": [{"mac": "52:54:00:00:00:AA"}]}, "MAC address 52:54:00:00:00:aa belongs to domain owner"),
        ({"disks": [{"path": "OWNED"}]}, "belongs to domain owner"),
        ({"state": "absent", "remove_storage": ["OWNED"]}, "belongs to domain owner"),
        ({"xml": "<domain"}, "the XML from the xml option is malformed"),
        (
            {"xml": "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><domain><name>&e;</name></domain>"},
            "DOCTYPE",
        ),
        ({"xml": "<domain type='test'><name>other</name></domain>"}, "describes a domain named 'other'"),
    ],
)
def test_bad_domains(refused: Run, run: Run, tmp_path: Path, given: dict[str, Any], problem: str) -> None:
    owned = f"{tmp_path}/owned.qcow2"
    run(domain, name="owner", interfaces=[{"mac": "52:54:00:00:00:aa"}], disks=[{"path": owned, "size": 8}])
    result = refused(name="vm", **replaced(given, {"OWNED": owned}))
    assert problem in result["msg"]


@pytest.mark.parametrize("name", [b"SECRET", b'json:{"driver":"file","filename":"SECRET"}', b"file:SECRET"])
@pytest.mark.parametrize("kind", ["over", "adopted", "named"])
def test_a_guest_cannot_name_a_file_of_the_host_in_its_raw_disk(
    refused: Run, tmp_path: Path, name: bytes, kind: str
) -> None:
    """At any level of the chain."""
    secret, evil, top = tmp_path / "secret", tmp_path / "evil.raw", tmp_path / "top.raw"
    secret.touch()
    evil.write_bytes(qcow2_image(name.replace(b"SECRET", str(secret).encode()), b"raw"))
    top.write_bytes(qcow2_image(str(evil).encode(), b"qcow2"))
    disk = {
        "over": {"path": str(tmp_path / "new.qcow2"), "backing": str(evil), "backing_format": "qcow2"},
        "adopted": {"path": str(top), "format": "qcow2", "backing": str(evil), "backing_format": "qcow2"},
        "named": {"path": str(evil), "format": "qcow2", "backing": f"{tmp_path}/{name.decode()}"},
    }[kind]
    refused(name="vm", disks=[disk])


def qcow2_image(backing: bytes, backing_format: bytes) -> bytes:
    """An image of 1 MiB as a guest could write it into its raw disk."""
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 4096, len(backing), 16, 2**20).ljust(100, b"\0")
    extension = struct.pack(">III", 104, 0xE2792ACA, len(backing_format)) + backing_format
    return (head + extension).ljust(4096, b"\0") + backing.ljust(2**21, b"\0")


def test_a_disk_of_another_by_another_name(refused: Run, run: Run, tmp_path: Path) -> None:
    run(domain, name="owner", disks=[{"path": f"{tmp_path}/owned.qcow2", "size": 8}])
    (tmp_path / "link.qcow2").symlink_to("owned.qcow2")
    for name in ("link.qcow2", "../" + tmp_path.name + "/owned.qcow2"):
        result = refused(name="vm", disks=[{"path": f"{tmp_path}/{name}"}])
        assert "belongs to domain owner" in result["msg"]


def test_the_base_of_anothers_disk_is_not_removed(refused: Run, run: Run, tmp_path: Path) -> None:
    base = tmp_path / "base.qcow2"
    run(domain, name="maker", disks=[{"path": str(base), "size": 8}])
    run(domain, name="maker", state="absent")
    run(domain, name="owner", disks=[{"path": f"{tmp_path}/owned.qcow2", "backing": str(base)}])
    result = refused(name="maker", state="absent", remove_storage=[str(base)])
    assert "belongs to domain owner, which has it as backing" in result["msg"]


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "-vm", "x" * 300, "<vm>"])
def test_bad_names(refused: Run, name: str) -> None:
    assert "name: " in refused(name=name)["msg"]


def test_a_uuid_of_another(refused: Run, run: Run) -> None:
    run(domain, name="vm")
    text = "<domain type='test'><name>vm</name><uuid>22222222-2222-2222-2222-222222222222</uuid></domain>"
    assert "the xml option has uuid 22222222" in refused(name="vm", xml=text)["msg"]


def test_a_share_of_a_missing_domain(refused: Run, tmp_path: Path) -> None:
    result = refused(share, domain="missing", tag="data", source=str(tmp_path))
    assert "domain missing, share data: the domain does not exist" in result["msg"]


def test_a_taken_port(refused: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        forwards = [{"host_port": port, "guest_port": 22}]
        result = refused(name="vm", interfaces=[{"type": "user", "forwards": forwards}])
    assert f"port {port} on 127.0.0.1 is taken" in result["msg"]


def test_no_virtiofsd(refused: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "find_virtiofsd", lambda _folders: None)
    result = refused(name="vm", shares=[{"tag": "data", "source": str(tmp_path)}])
    assert "domain vm, share data: tag: share a directory over virtiofs needs a virtiofsd (found none)" in result["msg"]
    assert "keystone.virtiofs.host" in result["fix"]


@pytest.mark.parametrize(
    ("distribution", "fix"),
    [("debian", "apt-get install swtpm swtpm-tools"), ("arch", "pacman -S swtpm"), ("nixos", "Set virtualisation.")],
)
def test_no_swtpm(refused: Run, monkeypatch: pytest.MonkeyPatch, distribution: str, fix: str) -> None:
    monkeypatch.setattr(probe, "has_swtpm", lambda: False)
    monkeypatch.setattr(probe, "os_release", lambda: {"ID": distribution})
    result = refused(domain, name="vm", tpm=True)
    assert "swtpm is not installed" in result["msg"]
    assert result["fix"].startswith(fix)


def test_no_kernel_module_for_a_vsock(refused: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "has_vsock", lambda: False)
    result = refused(domain, name="vm", vsock=True)
    assert "vsock: the host has no /dev/vhost-vsock" in result["msg"]
    assert "modprobe vhost_vsock" in result["fix"]


def test_libvirtd_is_not_running(refused: Run, tmp_path: Path) -> None:
    uri = f"qemu+unix:///system?socket={tmp_path}/nobody"
    for module, options in ((domain, {"name": "vm"}), (domain_info, {}), (share, {"domain": "vm", "tag": "data"})):
        result = refused(module, uri=uri, **options, **({"source": "/srv"} if module is share else {}))
        assert "cannot connect to" in result["msg"]
        assert "systemctl start libvirtd" in result["msg"]
        assert result["libvirt_code"] == libvirt.VIR_ERR_SYSTEM_ERROR


@pytest.mark.parametrize("transport", ["ext", "ssh"])
def test_a_uri_does_not_run_a_command(refused: Run, tmp_path: Path, transport: str) -> None:
    command, done = tmp_path / "command", tmp_path / "done"
    command.write_text(f"#!/bin/sh\ntouch {done}\n")
    command.chmod(0o755)
    uri = f"qemu+{transport}://x/system?command={command}"
    for module, options in ((domain, {"name": "vm"}), (domain_info, {})):
        assert "uri: " in refused(module, uri=uri, **options)["msg"]
        assert not done.exists()


@pytest.mark.parametrize("uri", ["qemu+ssh://localhost/system", "qemu:///session"])
def test_limits_hold_for_every_uri(run: Run, limited: None, uri: str) -> None:
    assert "uri: " in run(domain, name="vm", uri=uri)["msg"]


def test_no_shared_memory(refused: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "supports_memfd", lambda: False)
    result = refused(name="vm", shares=[{"tag": "data", "source": str(tmp_path)}])
    assert "domain vm, share data: the kernel has no memfd" in result["msg"]
    assert "CONFIG_MEMFD_CREATE" in result["fix"]


def connect_as_nobody(socket_path: Path, answers: Connection) -> None:
    unprivileged = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(unprivileged.pw_gid)
    os.setuid(unprivileged.pw_uid)
    try:
        Gateway(f"qemu+unix:///system?socket={socket_path}")
    except GatewayError as error:
        answers.send(str(error))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
def test_a_user_who_is_not_in_group_libvirt() -> None:
    """The socket is one that only root may use, as libvirt's is group libvirt's."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as server:
        Path(directory).chmod(0o755)
        path = Path(directory, "libvirt-sock")
        server.bind(str(path))
        server.listen()
        path.chmod(0o600)
        answers, question = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=connect_as_nobody, args=(path, question))
        process.start()
        assert answers.poll(10), "no answer within 10 s"
        message = answers.recv()
        process.join(10)
    assert "Permission denied" in message
    assert "is the user in group libvirt" in message


def test_another_tool_changes_the_domain(
    run: Run, connection: libvirt.virConnect, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between planning and defining: the other's change stays, and the task says so."""
    run(domain, name="vm", memory=128)
    plan_domain = planner.plan_domain

    def plan_and_be_overtaken(*arguments: Any) -> planner.Plan:
        plan = plan_domain(*arguments)
        other = connection.lookupByName("vm").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        connection.defineXMLFlags(
            other.replace("<domain type='qemu'", '<domain type="qemu"').replace("131072", "65536"), 0
        )
        return plan

    monkeypatch.setattr(planner, "plan_domain", plan_and_be_overtaken)
    result = run(domain, name="vm", memory=256)
    assert result["failed"]
    assert "domain vm: the definition was changed by another tool" in result["msg"]
    assert ">65536<" in look().domains["vm"][0]


@pytest.mark.parametrize(
    ("interface", "problem", "fix"),
    [
        ({"source": "none"}, "network none does not exist", "Create the network, or"),
        ({"source": "idle"}, "network idle is not active", "Start the network: virsh net-start idle;"),
        ({"type": "bridge", "source": "idle"}, "bridge idle does not exist", "Create the bridge, or"),
    ],
)
def test_a_start_needs_the_networks(
    run: Run, connection: libvirt.virConnect, interface: dict[str, str], problem: str, fix: str
) -> None:
    idle = connection.networkDefineXML("<network><name>idle</name></network>")
    try:
        result = run(domain, name="vm", state="running", interfaces=[interface])
        predicted = run(domain, check=True, name="vm", state="running", interfaces=[interface])
    finally:
        idle.undefine()
    assert result["problem"] == f"interfaces: {problem}"
    assert result["fix"].startswith(fix)
    assert problem in str(predicted["warnings"])


def test_a_start_needs_the_files_of_the_definition(run: Run, tmp_path: Path) -> None:
    source, kernel = tmp_path / "source", tmp_path / "kernel"
    source.mkdir()
    kernel.touch()
    run(domain, name="vm", kernel=str(kernel), shares=[{"tag": "data", "source": str(source)}])
    source.rmdir()
    result = run(domain, name="vm", state="running")
    assert f"source {source} of the domain does not exist" in result["problem"]
    source.mkdir()
    kernel.unlink()
    assert f"kernel {kernel} of the domain does not exist" in run(domain, name="vm", state="running")["problem"]


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose administrator allows images in one directory only, which is not that of the pool."""
    file = tmp_path / "limits.json"
    file.write_text(json.dumps({"images": [str(tmp_path / "images")]}))
    monkeypatch.setattr(limits, "FILE", file)


@pytest.mark.parametrize("volume", ["new", "existing"])
def test_a_volume_outside_of_the_limits_is_refused(
    run: Run, connection: libvirt.virConnect, limited: None, volume: str
) -> None:
    pool = connection.storagePoolLookupByName("default-pool")
    pool.createXML("<volume><name>existing</name><capacity>1048576</capacity></volume>")
    disk = {"pool": "default-pool", "volume": volume, "size": 1, "format": "raw"}
    found = run(domain, name="vm", disks=[disk])
    assert f"disk default-pool/{volume} is not among the images that" in found["msg"]
    assert not connection.listAllDomains()


def test_a_file_outside_of_the_limits_is_not_removed(run: Run, tmp_path: Path, limited: None) -> None:
    outside, inside = tmp_path / "passwd", tmp_path / "images/a.raw"
    inside.parent.mkdir()
    for file in (outside, inside):
        file.touch()
    found = run(domain, name="vm", state="absent", remove_storage=[str(outside)])
    assert f"disk {outside} is not among the images that" in found["msg"]
    assert outside.exists()
    assert run(domain, name="vm", state="absent", remove_storage=[str(inside)])["changed"]
    assert not inside.exists()
