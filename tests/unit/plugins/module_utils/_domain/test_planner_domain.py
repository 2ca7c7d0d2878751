# SPDX-License-Identifier: GPL-3.0-or-later
"""plan_domain as tables: what is wanted, what libvirt has (real dumps) -> steps, differences, reasons to restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.forwards import resolve_forwards
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    AttachShare,
    BindReadOnly,
    ChangeMedium,
    CreateDisk,
    Define,
    DiskImage,
    GrowDisk,
    Host,
    Observed,
    Plan,
    RemoveDisk,
    RemoveLeftovers,
    Shutdown,
    Unbind,
    Undefine,
    WriteWrapper,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain, plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput, Unsupported, VirtiofsError
from ansible_collections.keystone.virtiofs.tests.unit.support import (
    BOOKWORM,
    SID,
    TRIXIE,
    domain,
    host_of,
    observed,
    share,
    steps,
    task_of,
)

NEW = Observed("vm")
STORE = {"tag": "nix-store-share", "source": "/nix/store"}
DATA = {"tag": "data", "source": "/srv/data"}
UNSAFE = {"allow_unsafe_paths": True}
BIND = "/var/lib/keystone-virtiofs/domains/store/ro/%2Fnix%2Fstore"
STOP = ["NoteRestart", "Shutdown", "Start", "NoteRestart"]


def plan_for(
    name: str, *, generation: str = "libvirt-11.3", running: bool = False, host: Host | None = None, **changes: Any
) -> Plan:
    """The plan that changes a dumped domain."""
    seen = observed(generation, name, running=running)
    wanted = resolve_forwards(task_of(generation, name, **changes), seen, lambda _address, _port: False)
    return plan_domain(wanted, seen, host or host_of(generation, name))


def plan_new(host: Host = TRIXIE, **given: Any) -> Plan:
    return plan_domain(domain(**given), NEW, host)


def defined(plan: Plan) -> DomainXml:
    return next(action.document for action in plan.actions if isinstance(action, Define))


def of_type(plan: Plan, kind: type) -> list[Any]:
    return [action for action in plan.actions if isinstance(action, kind)]


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """The lines of a diff: every place where two values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(set(before) | set(after))
        return [line for key in keys for line in differences(before.get(key), after.get(key), f"{path}/{key}")]
    return [] if before == after else [path]


# Creating.


@pytest.mark.parametrize(
    ("given", "host", "expected"),
    [
        ({}, TRIXIE, ["Define", "ReservePorts"]),
        ({"state": "stopped"}, TRIXIE, ["Define", "ReservePorts"]),
        ({"state": "running"}, TRIXIE, ["Define", "ReservePorts", "Start"]),
        ({"state": "running", "autostart": True}, TRIXIE, ["Define", "ReservePorts", "Start", "SetAutostart"]),
        ({"autostart": False}, TRIXIE, ["Define", "ReservePorts"]),
        ({"hotplug_ports": 0}, TRIXIE, ["Define", "ReservePorts"]),
        ({"shares": [STORE]}, TRIXIE, ["Define", "ReservePorts"]),
        ({"shares": [STORE]}, BOOKWORM, ["BindReadOnly", "Define", "ReservePorts"]),
        ({"shares": [DATA]}, BOOKWORM, ["Define", "ReservePorts"]),
        ({"shares": [{**DATA, "cache": "metadata"}]}, SID, ["WriteWrapper", "Define", "ReservePorts"]),
        ({"shares": [{**STORE, "read_only": False}], **UNSAFE}, BOOKWORM, ["Define", "ReservePorts"]),
        (
            {"state": "running", "disks": [{"path": "/srv/a", "size": 1}, {"pool": "p", "volume": "v", "size": 1}]},
            TRIXIE,
            ["Define", "ReservePorts", "CreateDisk", "CreateDisk", "Start"],
        ),
        (
            {"disks": [{"path": "/srv/a", "backing": "/srv/b"}]},
            replace(TRIXIE, images={"/srv/b": DiskImage(1, "raw")}),
            ["Define", "ReservePorts", "CreateDisk"],
        ),
        ({"xml": "<domain type='qemu'><name>vm</name></domain>"}, TRIXIE, ["Define"]),
        (
            {"xml": "<domain type='qemu'/>", "hotplug_ports": 2, "shares": [STORE]},
            TRIXIE,
            ["Define", "ReservePorts"],
        ),
    ],
)
def test_create(given: dict[str, Any], host: Host, expected: list[str]) -> None:
    plan = plan_new(host, **given)
    assert steps(plan) == expected
    assert plan.before == {"state": "absent", **({"autostart": False} if "autostart" in given else {})}
    assert plan.after["state"] == ("running" if given.get("state") == "running" else "stopped")


@pytest.mark.parametrize(
    ("given", "host_type", "virt_type", "cpu"),
    [
        ({}, "qemu", "qemu", "qemu64"),
        ({}, "kvm", "kvm", "host-passthrough"),
        ({"virt_type": "auto"}, "kvm", "kvm", "host-passthrough"),
        ({"virt_type": "auto"}, "qemu", "qemu", "qemu64"),
        ({"virt_type": "qemu"}, "kvm", "qemu", "qemu64"),
        ({"virt_type": "kvm"}, "qemu", "kvm", "host-passthrough"),
        ({"virt_type": "kvm", "cpu": "host-model"}, "qemu", "kvm", "host-model"),
    ],
)
def test_virt_type_and_cpu_of_a_new_domain(given: dict[str, Any], host_type: str, virt_type: str, cpu: str) -> None:
    found = defined(plan_new(replace(TRIXIE, virt_type=host_type), **given)).options()
    assert (found["virt_type"], found["cpu"]) == (virt_type, cpu)


def test_virt_type_auto_keeps_what_a_domain_has() -> None:
    assert steps(plan_for("store", virt_type="auto", host=replace(TRIXIE, virt_type="kvm"))) == []


@pytest.mark.parametrize(
    ("given", "firmware", "secure_boot"),
    [
        ({}, "bios", "off"),
        ({"firmware": "bios", "secure_boot": "off"}, "bios", "off"),
        ({"firmware": "uefi"}, "uefi", "off"),
        ({"firmware": "uefi", "secure_boot": "off"}, "uefi", "off"),
        ({"secure_boot": "setup"}, "uefi", "setup"),
        ({"firmware": "uefi", "secure_boot": "enrolled"}, "uefi", "enrolled"),
    ],
)
def test_firmware_of_a_new_domain(given: dict[str, Any], firmware: str, secure_boot: str) -> None:
    found = defined(plan_new(**given)).options()
    assert (found["firmware"], found["secure_boot"]) == (firmware, secure_boot)


# Changing one thing: one line of diff.


@pytest.mark.parametrize(
    ("name", "change", "lines"),
    [
        ("store", {"memory": 512}, ["/memory"]),
        ("store", {"vcpus": 4}, ["/vcpus"]),
        ("store", {"cpu": "max"}, ["/cpu"]),
        ("store", {"virt_type": "kvm"}, ["/virt_type"]),
        ("store", {"tpm": True}, ["/tpm"]),
        ("everything", {"tpm": False}, ["/tpm"]),
        ("store", {"vsock": True}, ["/vsock"]),
        ("store", {"iso": "/srv/x.iso"}, ["/iso"]),
        ("everything", {"iso": ""}, ["/iso"]),
        ("store", {"kernel": "/boot/k"}, ["/kernel"]),
        ("store", {"kernel": "/boot/k", "initrd": "/boot/i", "cmdline": "q"}, ["/cmdline", "/initrd", "/kernel"]),
        ("store", {"serial_log": "/srv/log"}, ["/serial_log"]),
        ("store", {"graphics": "spice"}, ["/graphics"]),
        ("everything", {"graphics": "none"}, ["/graphics"]),
        ("store", {"guest_agent": False}, ["/guest_agent"]),
        ("store", {"firmware": "uefi"}, ["/firmware"]),
        ("store", {"firmware": "uefi", "secure_boot": "off"}, ["/firmware"]),
        ("everything", {"secure_boot": "enrolled"}, ["/secure_boot"]),
        ("everything", {"secure_boot": "off"}, ["/secure_boot"]),
        ("store", {"hotplug_ports": 8}, ["/hotplug_ports"]),
        ("store", {"autostart": True}, ["/autostart"]),
        ("store", {"shares": [{**STORE, "queue_size": 64}]}, ["/shares/nix-store-share/queue_size"]),
        ("store", {"shares": [{**STORE, "read_only": False}], **UNSAFE}, ["/shares/nix-store-share/read_only"]),
        ("store", {"shares": [DATA]}, ["/shares/data"]),
        ("store", {"disks": [{"path": "/srv/new", "size": 1}]}, ["/disks"]),
        ("everything", {"interfaces": [{"source": "other"}]}, ["/interfaces"]),
    ],
)
def test_one_change_is_one_line(name: str, change: dict[str, Any], lines: list[str]) -> None:
    plan = plan_for(name, **change)
    assert plan.changed
    assert differences(plan.before, plan.after) == lines


@pytest.mark.parametrize("cid", ['auto="yes"', 'auto="yes" address="3"', 'auto="no" address="77"'])
def test_a_vsock_stays_as_it_is(cid: str) -> None:
    """libvirt adds the address, in the running domain also the CID; another tool may have chosen one."""
    seen = observed("libvirt-11.3", "store", running=True)
    for document in (seen.persistent, seen.live):
        vsock = etree.fromstring(f'<vsock model="virtio"><cid {cid}/><address type="pci" bus="0x05"/></vsock>')
        document.root.find("devices").append(vsock)
    for given in ({}, {"vsock": True}):
        plan = plan_domain(domain("store", **given), seen, host_of("libvirt-11.3", "store"))
        assert (steps(plan), plan.restart_reasons) == ([], [])
    removed = plan_domain(domain("store", vsock=False), seen, host_of("libvirt-11.3", "store"))
    assert defined(removed).root.find("devices/vsock") is None


def test_what_is_not_given_is_not_compared() -> None:
    plan = plan_domain(
        domain("everything"), observed("libvirt-11.3", "everything"), host_of("libvirt-11.3", "everything")
    )
    assert steps(plan) == []


@pytest.mark.parametrize("generation", ["libvirt-9.0", "libvirt-11.3", "libvirt-12"])
@pytest.mark.parametrize(
    "change",
    [{"memory": 512}, {"shares": [DATA]}, {"secure_boot": "enrolled"}, {"graphics": "none"}, {"tpm": False}],
)
def test_the_identity_of_a_domain_stays(generation: str, change: dict[str, Any]) -> None:
    before = observed(generation, "everything").persistent
    after = defined(plan_for("everything", generation=generation, **change))
    assert (after.uuid, after.macs()) == (before.uuid, before.macs())
    assert set(before.shares()) <= set(after.shares())
    assert after.disks() == before.disks()


@pytest.mark.parametrize("change", [{"firmware": "bios", "secure_boot": "off"}, {"secure_boot": "enrolled"}])
def test_new_firmware_is_selected_anew(change: dict[str, Any]) -> None:
    """libvirt pins the files of the old one; with them it would refuse or ignore the new wish."""
    root = defined(plan_for("everything", **change)).root
    assert root.find("os/loader") is None
    assert root.find("os/nvram") is None
    assert root.find("features/smm") is None


def test_firmware_that_stays_keeps_its_files() -> None:
    assert (
        defined(plan_for("everything", memory=512)).nvram() == observed("libvirt-11.3", "everything").persistent.nvram()
    )


# Running domains.


@pytest.mark.parametrize(
    ("name", "change", "expected", "reasons"),
    [
        ("store", {"memory": 512}, ["Define"], ["memory: 256 in the running domain, 512 in its definition"]),
        (
            "store",
            {"vcpus": 4, "cpu": "max"},
            ["Define"],
            ["vcpus: 1 in the running domain", "cpu: qemu64 in the running domain"],
        ),
        ("store", {"tpm": True}, ["Define"], ["tpm: False in the running domain, True in its definition"]),
        ("store", {"vsock": True}, ["Define"], ["vsock: False in the running domain, True in its definition"]),
        ("everything", {"graphics": "none"}, ["Define"], ["graphics: vnc in the running domain"]),
        ("everything", {"secure_boot": "enrolled"}, ["Define"], ["secure_boot: setup in the running domain"]),
        ("store", {"iso": "/srv/x.iso"}, ["Define"], ["iso: None in the running domain"]),
        ("everything", {"iso": "/srv/x.iso"}, ["Define", "ChangeMedium"], []),
        ("everything", {"iso": ""}, ["Define", "ChangeMedium"], []),
        ("store", {"disks": [{"path": "/a", "size": 1}]}, ["Define", "CreateDisk"], ["disks: /a is not attached"]),
        (
            "everything",
            {"interfaces": [{"source": "other"}]},
            ["Define"],
            ["interfaces: settings differ in the running domain"],
        ),
        ("store", {"hotplug_ports": 8}, ["ReservePorts"], []),
        ("store", {"autostart": True}, ["SetAutostart"], []),
        ("store", {"shares": [DATA]}, ["Define", "AttachShare"], []),
        ("store", {"shares": [DATA, {"tag": "b", "source": "/b"}]}, ["Define", "AttachShare", "AttachShare"], []),
        (
            "store",
            {"shares": [{**STORE, "queue_size": 64}]},
            ["Define"],
            [f"share {STORE['tag']}: queue_size differs in the running domain"],
        ),
        (
            "store",
            {"shares": [{**STORE, "read_only": False}], **UNSAFE},
            ["Define"],
            [f"share {STORE['tag']}: read_only differs in the running domain"],
        ),
        (
            "store",
            {"shares": [{**DATA, "cache": "metadata"}]},
            ["WriteWrapper", "Define", "AttachShare"],
            [],
        ),
        ("plugged", {"shares": [DATA]}, ["Define"], ["share data: the domain has no free pcie-root-port"]),
        (
            "plugged",
            {"shares": [{"tag": "share1", "source": "/b"}]},
            ["Define"],
            ["share share1: source differs in the running domain"],
        ),
    ],
)
@pytest.mark.parametrize("policy", ["never", "if_required"])
def test_change_of_a_running_domain(
    policy: str, name: str, change: dict[str, Any], expected: list[str], reasons: list[str]
) -> None:
    plan = plan_for(name, running=True, restart=policy, **change)
    if reasons and policy == "if_required":
        expected, reasons = [*expected, *STOP], []
    assert steps(plan) == expected
    assert len(plan.restart_reasons) == len(reasons)
    for found, reason in zip(plan.restart_reasons, reasons, strict=True):
        assert found.startswith(reason)


def test_a_restart_takes_everything_along_at_once() -> None:
    plan = plan_for("store", running=True, restart="if_required", memory=512, shares=[DATA])
    assert steps(plan) == ["Define", *STOP]


def test_how_a_domain_is_stopped_is_the_tasks_choice() -> None:
    plan = plan_for("store", running=True, state="stopped", shutdown_timeout=7, force_stop=True)
    assert plan.actions == [Shutdown(7, True)]


def test_a_running_domain_that_shall_stop_is_not_restarted() -> None:
    plan = plan_for("store", running=True, restart="if_required", state="stopped", memory=512)
    assert steps(plan) == ["Define", "Shutdown"]
    assert plan.restart_reasons == []


@pytest.mark.parametrize(
    ("run_state", "state", "expected"),
    [
        ("stopped", "present", []),
        ("stopped", "stopped", []),
        ("stopped", "running", ["Start"]),
        ("running", "present", []),
        ("running", "running", []),
        ("running", "stopped", ["Shutdown"]),
        ("paused", "present", []),
        ("paused", "running", ["Resume"]),
        ("paused", "stopped", ["Shutdown"]),
    ],
)
def test_run_state(run_state: str, state: str, expected: list[str]) -> None:
    seen = replace(observed("libvirt-11.3", "store", running=run_state != "stopped"), run_state=run_state)
    assert steps(plan_domain(domain("store", state=state), seen, TRIXIE)) == expected


@pytest.mark.parametrize(
    ("generation", "name", "obstacle"),
    [
        ("libvirt-11.3", "plugged", "no free pcie-root-port"),
        ("libvirt-9.0", "store", "needs libvirt >= 7.9.0"),
    ],
)
def test_why_a_share_cannot_be_plugged(generation: str, name: str, obstacle: str) -> None:
    host = replace(host_of(generation, name), libvirt=7008000) if generation == "libvirt-9.0" else None
    plan = plan_for(name, generation=generation, running=True, host=host, shares=[{**DATA}])
    assert steps(plan) == ["Define"]
    assert obstacle in plan.restart_reasons[0]


def test_the_first_share_needs_shared_memory_and_so_a_restart() -> None:
    seen = observed("libvirt-11.3", "store", running=True)
    for document in (seen.persistent, seen.live):
        document.remove_share("nix-store-share")
        document.root.remove(document.root.find("memoryBacking"))
    plan = plan_domain(domain("store", shares=[STORE]), seen, TRIXIE)
    assert steps(plan) == ["Define"]
    assert plan.restart_reasons == ["share nix-store-share: the domain runs without shared memory"]
    assert "/shared_memory" in differences(plan.before, plan.after)
    assert defined(plan).has_shared_memory()


def test_only_as_many_shares_are_plugged_as_there_are_ports() -> None:
    shares = [{"tag": f"t{index}", "source": f"/srv/{index}"} for index in range(6)]
    plan = plan_for("store", running=True, shares=shares)
    assert [action.tag for action in of_type(plan, AttachShare)] == ["t0", "t1", "t2", "t3"]
    assert [reason.partition(":")[0] for reason in plan.restart_reasons] == ["share t4", "share t5"]


# Read-only, wrappers, what the host must have ready.


@pytest.mark.parametrize(
    ("host", "share", "binds"),
    [
        (BOOKWORM, STORE, True),
        (BOOKWORM, {**DATA, "read_only": True}, True),
        (BOOKWORM, DATA, False),
        (BOOKWORM, {**STORE, "read_only": False}, False),
        (BOOKWORM, {"tag": "x", "source": "/nix/store/abc"}, True),
        (BOOKWORM, {"tag": "x", "source": "/nix/storehouse"}, False),
        (TRIXIE, STORE, False),
        (replace(TRIXIE, virtiofsd=BOOKWORM.virtiofsd), STORE, True),
        (replace(TRIXIE, local=False), STORE, False),
    ],
)
def test_who_enforces_read_only(host: Host, share: dict[str, Any], binds: bool) -> None:
    plan = plan_new(host, shares=[share], **UNSAFE)
    assert bool(of_type(plan, BindReadOnly)) is binds
    wanted = share.get("read_only", share["source"].startswith("/nix/store") and "storehouse" not in share["source"])
    found = defined(plan).shares()[share["tag"]]
    assert (found["read_only"], found["source"]) == (wanted, share["source"])


@pytest.mark.parametrize(
    ("bound", "expected"),
    [({}, ["BindReadOnly"]), ({BIND: False}, ["BindReadOnly"]), ({BIND: True}, [])],
)
def test_a_lost_bind_mount_is_made_again(bound: dict[str, bool], expected: list[str]) -> None:
    host = replace(host_of("libvirt-9.0", "store"), binds=bound)
    assert steps(plan_for("store", generation="libvirt-9.0", host=host)) == expected


def test_a_lost_wrapper_is_written_again() -> None:
    host = replace(host_of("libvirt-11.3", "everything"), wrappers={})
    [wrapper] = plan_for("everything", host=host).actions
    assert isinstance(wrapper, WriteWrapper)
    assert wrapper.virtiofsd == "/usr/libexec/virtiofsd"
    assert wrapper.flags == {"cache": "metadata", "inode-file-handles": "prefer"}


@pytest.mark.parametrize(
    ("wrappers", "expected"),
    [
        # OWN stands for the wrapper that the dumped domain uses.
        ({"OWN": False}, ["WriteWrapper"]),  # virtiofsd has moved
        ({"OWN": True, "/old/virtiofsd,cache=metadata": True}, ["RemoveWrapper"]),
    ],
)
def test_wrappers_follow_what_they_wrap(wrappers: dict[str, bool], expected: list[str]) -> None:
    host = host_of("libvirt-11.3", "everything")
    [own] = host.wrappers
    found = {own if path == "OWN" else path: current for path, current in wrappers.items()}
    assert steps(plan_for("everything", host=replace(host, wrappers=found))) == expected


@pytest.mark.parametrize("running", [False, True])
def test_a_bind_mount_goes_with_its_last_use(running: bool) -> None:
    plan = plan_for(
        "store",
        generation="libvirt-9.0",
        running=running,
        restart="if_required",
        shares=[{**STORE, "read_only": False}],
        **UNSAFE,
    )
    stop = STOP if running else []
    assert steps(plan) == ["Define", *stop, "Unbind"]
    assert plan.actions[-1] == Unbind(BIND)


def test_a_bind_mount_stays_while_the_running_domain_uses_it() -> None:
    """The new source needs a restart, which the task did not allow: the running guest still reads the old one."""
    plan = plan_for("store", generation="libvirt-9.0", running=True, shares=[{**STORE, "read_only": False}], **UNSAFE)
    assert steps(plan) == ["Define"]


def test_a_remote_hosts_files_are_left_alone() -> None:
    plan = plan_for("everything", host=replace(host_of("libvirt-11.3", "everything"), local=False, wrappers={}))
    assert steps(plan) == []


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ({"disks": [{"path": "/srv/a", "size": 10}]}, {}),
        ({"disks": [{"path": "/srv/a", "size": 10}]}, {"/srv/a": DiskImage(0, "qcow2")}),
        ({"state": "absent", "remove_storage": ["/srv/a"]}, {"/srv/a": DiskImage(0, "qcow2")}),
    ],
)
def test_a_file_of_this_machine_is_not_taken_for_a_remote_hosts(
    options: dict[str, Any], images: dict[str, DiskImage]
) -> None:
    with pytest.raises(Unsupported, match="/srv/a: image files cannot be created"):
        plan_new(replace(TRIXIE, local=False, images=images), **options)


# Disks.

QCOW2 = DiskImage(100, "qcow2")
SHADOW = DiskImage(1, "qcow2", backing="/etc/shadow")


@pytest.mark.parametrize(
    ("disk", "image", "expected"),
    [
        ({"size": 100}, None, ["CreateDisk"]),
        ({"size": 100}, QCOW2, []),
        ({"size": 200}, QCOW2, ["GrowDisk"]),
        ({"size": 50}, QCOW2, []),
        ({}, QCOW2, []),
        ({"backing": "/srv/base"}, QCOW2, []),
    ],
)
@pytest.mark.parametrize("where", [{"path": "/srv/a"}, {"pool": "p", "volume": "a"}])
def test_disk_images(where: dict[str, str], disk: dict[str, Any], image: DiskImage | None, expected: list[str]) -> None:
    key = where.get("path", "p/a")
    plan = plan_new(replace(TRIXIE, images={key: image} if image else {}), disks=[{**where, **disk}])
    assert steps(plan) == ["Define", "ReservePorts", *expected]
    assert bool(plan.warnings) is (disk.get("size") == 50)
    assert defined(plan).created_disks() == ([key] if "CreateDisk" in expected else [])
    for action in of_type(plan, CreateDisk) + of_type(plan, GrowDisk):
        assert action not in plan.claims(), "qemu-img would run while the host's lock is held"
        assert action.disk["size"] == disk.get("size")


@pytest.mark.parametrize(
    ("disk", "image", "problem"),
    [
        ({}, DiskImage(1, ""), "has a qcow2 header, but nothing says that this is its format"),
        ({"backing": "/srv/base"}, DiskImage(1, "", backing="/srv/base"), "nothing says that this is its format"),
        ({"format": "qcow2"}, SHADOW, "has the backing file /etc/shadow, which the task does not name"),
        ({"format": "qcow2", "backing": "/srv/base"}, SHADOW, "has the backing file /etc/shadow"),
        (
            {"format": "qcow2"},
            DiskImage(1, "qcow2", flaw="keeps its data in another file"),
            "keeps its data in another file",
        ),
        (
            {"format": "qcow2", "backing": "/b"},
            DiskImage(1, "qcow2", "/b", "raw", flaw="keeps its data in another file"),
            "keeps its data in another",
        ),
        ({"format": "raw"}, DiskImage(1, "raw"), None),
        ({"backing": "/srv/base"}, DiskImage(1, "qcow2", "/srv/base", "raw"), None),
        ({"backing": "/srv/../srv/base"}, DiskImage(1, "qcow2", "/srv/base", "raw"), "backing image .* does not exist"),
        ({"backing": "/srv/base"}, DiskImage(1, "qcow2", "/srv/base", "qcow2"), "backing file is qcow2, but it is raw"),
        ({"backing": "/srv/over"}, DiskImage(1, "qcow2", "/srv/over", "qcow2"), "is based on /etc/shadow, which the"),
    ],
)
def test_a_format_that_leads_to_a_file_of_the_host_is_not_trusted(
    disk: dict[str, Any], image: DiskImage, problem: str | None
) -> None:
    host = replace(TRIXIE, images={"/srv/a": image, "/srv/base": DiskImage(1, "raw"), "/srv/over": SHADOW})
    if problem is None:
        assert defined(plan_new(host, disks=[{"path": "/srv/a", **disk}])).disks()[0]["format"] in ("raw", "qcow2")
    else:
        with pytest.raises(InvalidInput, match=problem):
            plan_new(host, disks=[{"path": "/srv/a", **disk}])


@pytest.mark.parametrize(
    ("disk", "problem"),
    [
        ({"path": "/srv/a", "backing": "/srv/gone"}, "backing image /srv/gone does not exist"),
        ({"path": "/srv/a", "backing": "/srv/base", "size": 1}, "is less than the 8 MiB of its backing image"),
        ({"pool": "p", "volume": "v", "backing": "/srv/base"}, "disk p/v does not exist"),
    ],
)
def test_a_disk_over_another_that_cannot_be(disk: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        plan_new(replace(TRIXIE, images={"/srv/base": DiskImage(8, "raw")}), disks=[disk])


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        (DiskImage(8, "qcow2", flaw="keeps its data in another file"), "keeps its data in another file"),
        (SHADOW, "is based on /etc/shadow, which the task does not name"),
    ],
)
def test_a_backing_image_that_leads_to_a_file_of_the_host_is_not_used(base: DiskImage, problem: str) -> None:
    host = replace(TRIXIE, images={"/srv/base": base})
    with pytest.raises(InvalidInput, match=f"backing image /srv/base {problem}"):
        plan_new(host, disks=[{"path": "/srv/a", "backing": "/srv/base", "backing_format": "qcow2"}])


def test_a_block_device_is_attached_as_one() -> None:
    host = replace(TRIXIE, images={"/dev/vg/a": DiskImage(8, "raw", is_block_device=True)})
    document = defined(plan_new(host, disks=[{"path": "/dev/vg/a"}]))
    assert document.root.find("devices/disk").get("type") == "block"
    assert document.disks()[0]["path"] == "/dev/vg/a"


def test_a_disk_that_is_not_there_needs_a_size() -> None:
    with pytest.raises(InvalidInput, match="disk /srv/a does not exist"):
        plan_new(disks=[{"path": "/srv/a"}])


@pytest.mark.parametrize(("running", "target"), [(True, "vda"), (False, "")])
def test_a_disk_grows_in_the_running_domain(running: bool, target: str) -> None:
    disks = [{"path": "/var/lib/libvirt/images/everything.qcow2", "size": 16}]
    [action] = plan_for("everything", running=running, disks=disks).actions
    assert isinstance(action, GrowDisk)
    assert action.target == target


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_an_existing_image_keeps_its_format(image_format: str) -> None:
    host = replace(TRIXIE, images={"/srv/a": DiskImage(1, image_format)})
    assert defined(plan_new(host, disks=[{"path": "/srv/a"}])).disks()[0]["format"] == image_format


@pytest.mark.parametrize("change", [{"format": "raw"}, {"bus": "sata"}])
def test_a_disk_does_not_become_another(change: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=f"it cannot become {next(iter(change.values()))}"):
        plan_for("everything", disks=[{"path": "/var/lib/libvirt/images/everything.qcow2", **change}])


# Interfaces.


FORWARD = {"address": "127.0.0.1", "host_port": 2222, "guest_port": 22}


def sketch(document: DomainXml) -> list[str]:
    """Every interface as TYPE:SOURCE, or TYPE>PORT of the host."""
    return [
        f"{interface['type']}>{interface['forwards'][0]['host_port']}"
        if interface["forwards"]
        else f"{interface['type']}:{interface['source'] or ''}"
        for interface in document.interfaces()
    ]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        # The dumped domain has network:default, bridge:virbr0 and user>22221.
        ([{"source": "default"}], None),
        ([{"source": "other"}], ["network:other", "bridge:virbr0", "user>22221"]),
        ([{"source": "other"}, {"type": "user"}], ["network:other", "user:", "user>22221"]),
        ([{"type": "user", "forwards": [FORWARD]}], ["network:default", "bridge:virbr0", "user>2222"]),
        (
            [{"type": "user", "forwards": [FORWARD]}, {"type": "user", "forwards": [{**FORWARD, "host_port": 1}]}],
            ["bridge:virbr0", "user>2222", "user>1"],
        ),
        (
            [{}, {}, {}, {}],
            ["network:default", "network:default", "network:default", "network:default"],
        ),
        (
            [{}, {"type": "bridge", "source": "virbr0"}, {"type": "user", "forwards": [FORWARD]}, {"type": "user"}],
            ["network:default", "bridge:virbr0", "user:", "user>2222"],
        ),
    ],
)
def test_interfaces_are_matched_by_kind_and_position(listed: list[dict[str, Any]], expected: list[str] | None) -> None:
    before = observed("libvirt-11.3", "everything").persistent
    plan = plan_for("everything", interfaces=listed)
    assert plan.changed is (expected is not None)
    if expected:
        after = defined(plan)
        assert sketch(after) == expected
        assert len(set(after.macs())) == len(expected)
        assert set(before.macs()) <= set(after.macs())
        # The same task again changes nothing.
        seen = Observed("everything", persistent=after, run_state="stopped")
        again = resolve_forwards(domain("everything", interfaces=listed), seen, lambda _address, _port: False)
        assert steps(plan_domain(again, seen, host_of("libvirt-11.3", "everything"))) == []


def test_what_another_tool_wrote_into_an_interface_stays() -> None:
    seen = observed("libvirt-11.3", "everything")
    seen.persistent.root.find("devices/interface/source").set("portgroup", "engineering")
    wanted = domain("everything", interfaces=[{"source": "default"}, {"type": "bridge", "source": "other"}])
    document = defined(plan_domain(wanted, seen, host_of("libvirt-11.3", "everything")))
    assert document.root.find("devices/interface/source").get("portgroup") == "engineering"


def test_a_new_domains_macs_can_be_foretold() -> None:
    given = {"interfaces": [{}, {"type": "user"}, {"mac": "52:54:00:AA:BB:CC"}]}
    macs = defined(plan_new(**given)).macs()
    assert macs == defined(plan_new(**given)).macs()
    assert len(set(macs)) == 3
    assert macs[2] == "52:54:00:aa:bb:cc"


def test_a_network_interface_is_on_the_default_network() -> None:
    assert defined(plan_new(interfaces=[{}])).interfaces()[0]["source"] == "default"


# Restarts that were begun, and states that were saved.


def restarting(run_state: str) -> Observed:
    """A domain whose restart a killed run has left half done."""
    seen = observed("libvirt-11.3", "store", running=run_state == "running")
    seen.persistent.note_restart(True)
    return seen


@pytest.mark.parametrize(
    ("run_state", "state", "expected"),
    [
        ("stopped", "present", ["Start", "NoteRestart"]),
        ("stopped", "running", ["Start", "NoteRestart"]),
        ("stopped", "stopped", ["NoteRestart"]),
        ("running", "present", ["NoteRestart"]),
        ("running", "stopped", ["Shutdown", "NoteRestart"]),
        ("stopped", "absent", ["Undefine"]),
    ],
)
def test_a_restart_that_was_begun_is_finished(run_state: str, state: str, expected: list[str]) -> None:
    assert steps(plan_domain(domain("store", state=state), restarting(run_state), TRIXIE)) == expected


def test_a_saved_domain_resumes_with_what_it_was_saved_with() -> None:
    saved = observed("libvirt-11.3", "store", running=True).live
    seen = replace(observed("libvirt-11.3", "store"), saved=saved)
    plan = plan_domain(domain("store", state="running", memory=512), seen, TRIXIE)
    assert steps(plan) == ["Define", "Start"]
    assert plan.restart_reasons == ["memory: 256 in the running domain, 512 in its definition"]
    assert plan_domain(domain("store", state="running"), seen, TRIXIE).restart_reasons == []
    # It is not discarded, also where a restart is allowed.
    restarted = plan_domain(domain("store", state="running", memory=512, restart="if_required"), seen, TRIXIE)
    assert steps(restarted) == ["Define", "Start", "NoteRestart", "Shutdown", "Start", "NoteRestart"]


def test_a_saved_domain_gets_a_new_share_when_it_has_resumed() -> None:
    saved = observed("libvirt-11.3", "store", running=True).live
    seen = replace(observed("libvirt-11.3", "store"), saved=saved)
    shares = [{"tag": "data", "source": "/srv/data", "nosuid": False}]
    assert steps(plan_domain(domain("store", state="running", shares=shares), seen, TRIXIE)) == [
        *("Define", "Start", "AttachShare")
    ]
    assert steps(plan_domain(domain("store", state="present", shares=shares), seen, TRIXIE)) == ["Define"]


def test_a_saved_domain_keeps_what_it_needs_to_resume() -> None:
    seen = replace(observed("libvirt-9.0", "store"), saved=observed("libvirt-9.0", "store", running=True).live)
    host = host_of("libvirt-9.0", "store")
    shares = [{"tag": "nix-store-share", "source": "/nix/store", "read_only": False}]
    options = {"shares": shares, "allow_unsafe_paths": True}
    assert "Unbind" not in steps(plan_domain(domain("store", **options), seen, host))
    assert "Unbind" in steps(plan_domain(domain("store", **options), observed("libvirt-9.0", "store"), host))


@pytest.mark.parametrize("state", ["present", "running", "stopped"])
def test_a_domain_without_a_definition_is_not_given_an_empty_one(state: str) -> None:
    seen = replace(observed("libvirt-11.3", "store", running=True), persistent=None)
    with pytest.raises(InvalidInput, match="transient"):
        plan_domain(domain("store", state=state), seen, TRIXIE)


def test_a_domain_that_is_shut_down_lets_go_of_its_bind_mounts() -> None:
    seen = observed("libvirt-9.0", "store", running=True)
    shares = [{"tag": "nix-store-share", "source": "/nix/store", "read_only": False}]
    task = domain("store", shares=shares, allow_unsafe_paths=True, state="stopped")
    assert steps(plan_domain(task, seen, host_of("libvirt-9.0", "store"))) == ["Define", "Shutdown", "Unbind"]


@pytest.mark.parametrize(
    ("run_state", "given", "after"),
    [
        ("paused", {"state": "present"}, "paused"),
        ("paused", {"state": "present", "memory": 512, "restart": "if_required"}, "running"),
        ("running", {"state": "present", "memory": 512, "restart": "if_required"}, "running"),
        ("paused", {"state": "running"}, "running"),
        ("paused", {"state": "stopped"}, "stopped"),
    ],
)
def test_the_diff_knows_the_state_after_a_restart(run_state: str, given: dict[str, Any], after: str) -> None:
    seen = replace(observed("libvirt-11.3", "store", running=True), run_state=run_state)
    assert plan_domain(domain("store", **given), seen, TRIXIE).after["state"] == after


# A user's own XML.

MINE = """
<domain type='qemu'>
  <name>vm</name>
  <memory>262144</memory>
  <devices>
    <interface type='network'><source network='default'/></interface>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
  </devices>
</domain>
"""


def as_defined(plan: Plan, uuid: str = "11111111-1111-1111-1111-111111111111") -> Observed:
    """What libvirt adds: a uuid and MAC addresses."""
    document = defined(plan).copy()
    if document.uuid is None:
        document.root.append(DomainXml(f"<domain><uuid>{uuid}</uuid></domain>").root[0])
    for index, interface in enumerate(document.root.iterfind("devices/interface")):
        if interface.find("mac") is None:
            interface.append(DomainXml(f"<domain><mac address='52:54:00:ff:00:0{index}'/></domain>").root[0])
    return Observed("vm", persistent=document, run_state="stopped")


def test_the_same_xml_again_is_no_change() -> None:
    seen = as_defined(plan_new(xml=MINE, shares=[STORE]))
    assert steps(plan_domain(domain(xml=MINE, shares=[STORE]), seen, TRIXIE)) == []
    assert steps(plan_domain(domain(xml=MINE.replace("\n", " "), shares=[STORE]), seen, TRIXIE)) == []


def test_other_xml_keeps_uuid_and_macs() -> None:
    seen = as_defined(plan_new(xml=MINE, shares=[STORE]))
    plan = plan_domain(domain(xml=MINE.replace("262144", "524288"), shares=[STORE]), seen, TRIXIE)
    assert steps(plan) == ["Define"]
    assert differences(plan.before, plan.after) == ["/memory", "/xml"]
    assert defined(plan).uuid == seen.persistent.uuid
    assert defined(plan).macs() == ["52:54:00:ff:00:00", "52:54:00:00:00:01"]


def test_options_win_over_the_xml() -> None:
    document = defined(plan_new(xml=MINE, memory=1024, vcpus=3))
    assert (document.options()["memory"], document.options()["vcpus"]) == (1024, 3)


def test_a_running_domain_with_earlier_xml_needs_a_restart() -> None:
    seen = as_defined(plan_new(xml=MINE))
    running = replace(seen, live=seen.persistent.copy(), run_state="running")
    plan = plan_domain(domain(xml=MINE.replace("262144", "524288")), running, TRIXIE)
    assert plan.restart_reasons == ["xml: the running domain was started from an earlier version"]


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (MINE.replace("<name>vm<", "<name>other<"), "describes a domain named 'other'"),
        (MINE.replace("</name>", "</name><uuid>22222222-2222-2222-2222-222222222222</uuid>"), "has uuid 2222"),
        ("<domain", "the xml option is malformed"),
        ("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>", "DOCTYPE"),
        ("<network/>", "not a <domain>"),
    ],
)
def test_xml_that_is_refused(xml: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        plan_domain(domain(xml=xml), as_defined(plan_new(xml=MINE)), TRIXIE)


def test_a_private_numa_cell_becomes_shared() -> None:
    text = (
        "<domain type='qemu'><name>vm</name><cpu><numa><cell id='0' memAccess='private' memory='1'/></numa></cpu>"
        "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking></domain>"
    )
    assert defined(plan_new(xml=text, shares=[STORE])).has_shared_memory()
    assert not defined(plan_new(xml=text)).has_shared_memory()


# Removing.


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (NEW, []),
        (observed("libvirt-11.3", "store"), ["Undefine"]),
        (observed("libvirt-11.3", "store", running=True), ["Destroy", "Undefine"]),
        (replace(observed("libvirt-11.3", "store", running=True), run_state="paused"), ["Destroy", "Undefine"]),
        (replace(observed("libvirt-11.3", "store"), saved=observed("libvirt-11.3", "store").persistent), ["Undefine"]),
        (replace(observed("libvirt-11.3", "store", running=True), persistent=None), ["Destroy"]),
    ],
)
def test_absent(seen: Observed, expected: list[str]) -> None:
    plan = plan_domain(domain(seen.name, state="absent"), seen, TRIXIE)
    assert steps(plan) == expected
    assert plan.after["state"] == "absent"
    assert plan.changed is bool(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Undefine(remove_nvram=False, remove_tpm_state=False)),
        ({"remove_nvram": True}, Undefine(remove_nvram=True, remove_tpm_state=False)),
        ({"remove_tpm_state": True}, Undefine(remove_nvram=False, remove_tpm_state=True)),
    ],
)
def test_absent_removes_only_what_is_named(given: dict[str, bool], expected: Undefine) -> None:
    plan = plan_domain(domain("everything", state="absent", **given), observed("libvirt-11.3", "everything"), TRIXIE)
    assert plan.actions == [expected]


@pytest.mark.parametrize(
    ("named", "there", "removed"),
    [
        ([], ["/a"], []),
        (["/a"], ["/a", "/b"], ["/a"]),
        (["/a", "/gone"], ["/a"], ["/a"]),
        (["/a", "p/v"], ["/a", "p/v"], ["/a", "p/v"]),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_remove_storage(exists: bool, named: list[str], there: list[str], removed: list[str]) -> None:
    seen = observed("libvirt-11.3", "store") if exists else Observed("store")
    host = replace(TRIXIE, images=dict.fromkeys(there, QCOW2))
    plan = plan_domain(domain("store", state="absent", remove_storage=named), seen, host)
    assert [action.key for action in of_type(plan, RemoveDisk)] == removed
    assert plan.changed is (exists or bool(removed))


def test_a_block_device_is_neither_removed_nor_counted_as_removed() -> None:
    host = replace(TRIXIE, images={"/dev/vg/lv": DiskImage(8, "raw", is_block_device=True)})
    plan = plan_domain(domain("store", state="absent", remove_storage=["/dev/vg/lv"]), Observed("store"), host)
    assert (plan.actions, plan.before["storage"]) == ([], [])


def test_leftovers_of_a_killed_run_are_removed_last() -> None:
    left = ("/etc/.keystone-new-mounts-abcdefgh",)
    host = replace(host_of("libvirt-9.0", "store"), leftovers=left)
    seen = observed("libvirt-9.0", "store")
    wanted = task_of("libvirt-9.0", "store", state="present")
    assert plan_domain(wanted, seen, host).actions == [RemoveLeftovers(left)]
    assert plan_share(share("store", "other", state="absent"), seen, host).actions == [RemoveLeftovers(left)]
    assert steps(plan_domain(domain("store", state="absent"), seen, host)) == [
        *("Unbind", "RemoveLeftovers", "RemoveState", "Undefine")
    ]


def test_absent_takes_its_own_files_along() -> None:
    """Also when an earlier run was ended between undefining and cleaning up."""
    for seen in (observed("libvirt-9.0", "store"), Observed("store")):
        plan = plan_domain(domain("store", state="absent"), seen, host_of("libvirt-9.0", "store"))
        assert steps(plan) == ["Unbind", "RemoveState", *(["Undefine"] if seen.persistent else [])]


def test_mounts_go_before_disks() -> None:
    """A disk below a bind mount must not be reached through it."""
    host = replace(host_of("libvirt-9.0", "store"), images={"/a": QCOW2})
    wanted = domain("store", state="absent", remove_storage=["/a"])
    plan = plan_domain(wanted, observed("libvirt-9.0", "store"), host)
    assert steps(plan) == ["Unbind", "RemoveDisk", "RemoveState", "Undefine"]


def test_a_share_never_outlives_its_nosuid_mount() -> None:
    """A task that wants the domain back after a killed removal could not see that the share had one."""
    seen = observed("libvirt-11.3", "everything")
    assert seen.persistent is not None
    writable = next(tag for tag, share in seen.persistent.shares().items() if share["read_only"] is False)
    host = replace(TRIXIE, nosuid={seen.persistent.shares()[writable]["source"]: True})
    plan = plan_domain(domain("everything", state="absent"), seen, host)
    assert steps(plan) == ["Define", "UnmountNosuid", "Undefine"]
    (define,) = of_type(plan, Define)
    assert define.document.shares().keys() == seen.persistent.shares().keys() - {writable}
    again = plan_domain(domain("everything", state="absent"), replace(seen, persistent=define.document), host)
    assert steps(again) == ["UnmountNosuid", "Undefine"]


# What the host cannot do.


@pytest.mark.parametrize(
    ("share", "host", "problem"),
    [
        ({"cache": "metadata"}, BOOKWORM, "cache: cache mode metadata needs virtiofsd >= 1.8.0"),
        ({"inode_file_handles": "prefer"}, BOOKWORM, "inode_file_handles: .* needs virtiofsd >= 1.2.0"),
        ({"open_files": 1024}, BOOKWORM, "open_files: .* needs libvirt >= 10.6.0 \\(found 9.0.0\\)"),
        ({"idmap": {"uid": [], "gid": []}}, BOOKWORM, "idmap: .* libvirt >= 10.0.0"),
        ({"flock": True}, TRIXIE, "flock: .* needs the C virtiofsd of QEMU <= 7.2"),
        ({"thread_pool_size": 1}, replace(TRIXIE, libvirt=8004000), "thread_pool_size: .* libvirt >= 8.5.0"),
        ({"sandbox": "chroot"}, replace(TRIXIE, libvirt=7001000), "sandbox: .* libvirt >= 7.2.0"),
        ({}, replace(TRIXIE, virtiofsd=None), "tag: .* needs a virtiofsd \\(found none\\)"),
        ({}, replace(BOOKWORM, session=True), "needs libvirt >= 10.0.0"),
        ({"read_only": True}, replace(TRIXIE, session=True, libvirt=10000000), "read_only: .* needs libvirt >= 11.0.0"),
        ({"read_only": True}, replace(BOOKWORM, local=False), "read_only: .* can only be made by root on the host"),
    ],
)
def test_what_this_host_is_too_old_for(share: dict[str, Any], host: Host, problem: str) -> None:
    with pytest.raises(Unsupported, match=problem) as caught:
        plan_new(host, shares=[{**DATA, **share}])
    assert (caught.value.domain, caught.value.share) == ("vm", "data")
    assert caught.value.fix


@pytest.mark.parametrize(
    "share", [{"flock": True}, {"posix_lock": False}, {"xattr": True}, {"cache": "none"}, {"thread_pool_size": 2}]
)
def test_what_even_the_oldest_host_can_do(share: dict[str, Any]) -> None:
    assert steps(plan_new(BOOKWORM, shares=[{**DATA, **share}])) == ["Define", "ReservePorts"]


def test_a_socket_needs_no_virtiofsd_of_the_hosts_own() -> None:
    plan = plan_new(replace(TRIXIE, virtiofsd=None), shares=[{"tag": "external", "socket": "/run/s"}])
    assert steps(plan) == ["Define", "ReservePorts"]


@pytest.mark.parametrize(
    ("shares", "culprit"),
    [
        ([DATA, {"tag": "inner", "source": "/srv/data/inner"}], "inner"),
        ([{"tag": "inner", "source": "/srv/data/inner", "read_only": True}, DATA], "inner"),
        ([DATA, {"tag": "same", "source": "/srv/data"}], "data"),
        ([DATA, {"tag": "outer", "source": "/srv"}], "data"),
    ],
)
def test_a_share_below_a_writable_one_is_refused(shares: list[dict[str, Any]], culprit: str) -> None:
    with pytest.raises(InvalidInput, match=r"which share .* exposes writable") as caught:
        plan_new(shares=shares)
    assert caught.value.share == culprit


@pytest.mark.parametrize(
    "shares",
    [
        [{**DATA, "read_only": True}, {"tag": "inner", "source": "/srv/data/inner"}],
        [DATA, {"tag": "neighbour", "source": "/srv/data2"}],
    ],
)
def test_shares_beside_each_other_are_fine(shares: list[dict[str, Any]]) -> None:
    assert plan_new(shares=shares).changed


def test_a_link_into_a_writable_share_is_refused() -> None:
    host = replace(TRIXIE, real_paths={"/innocent": "/srv/data/inner", "/srv/data": "/srv/data"})
    with pytest.raises(InvalidInput, match="source /innocent is inside /srv/data"):
        plan_new(host, shares=[DATA, {"tag": "inner", "source": "/innocent"}])


def test_the_store_is_read_only_by_any_path() -> None:
    for source in ("/nix", "/", "/nix/../nix/store", "/link"):
        host = replace(TRIXIE, real_paths={"/link": "/nix/store"})
        plan = plan_new(host, shares=[{"tag": "t", "source": source}], **UNSAFE)
        assert defined(plan).shares()["t"]["read_only"], source


def test_a_share_below_one_that_the_domain_has_already_is_refused() -> None:
    with pytest.raises(VirtiofsError, match="is inside /srv/my data"):
        plan_for("everything", shares=[{"tag": "inner", "source": "/srv/my data/inner"}])


def test_the_new_medium_is_what_was_asked_for() -> None:
    [_define, action] = plan_for("everything", running=True, iso="").actions
    assert action == ChangeMedium("")


@pytest.mark.parametrize(
    ("found", "problem"),
    [("dead_shares", "its virtiofsd has ended"), ("stale_shares", "its source was replaced or mounted over")],
)
def test_a_share_that_only_a_new_daemon_repairs_needs_a_restart(found: str, problem: str) -> None:
    host = replace(host_of("libvirt-11.3", "store"), **{found: frozenset({STORE["tag"]})})
    seen = observed("libvirt-11.3", "store", running=True)
    plan = plan_domain(task_of("libvirt-11.3", "store", state="running"), seen, host)
    assert plan.restart_reasons[0].startswith(f"share {STORE['tag']}: {problem}")
    assert len(plan.restart_reasons) == 1
    plan = plan_domain(task_of("libvirt-11.3", "store", state="running", restart="if_required"), seen, host)
    assert steps(plan) == ["NoteRestart", "Shutdown", "Start", "NoteRestart"]
