# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that scenario faults disturbs; together they have every kind of action that a plan may have.

The domains have no system, so that all of this is fast. On Debian 12 a read-only share is a bind mount, on Debian 13 a
share can have a wrapper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import model

URI = "qemu:///system"
ETC = Path("/etc")
IMAGES = Path("/var/lib/libvirt/images")
SOURCES = Path("/srv/faults")
DISK = f"{IMAGES}/vm.qcow2"
MEDIA = [f"{SOURCES}/{name}.iso" for name in ("first", "second")]

Task = tuple[str, dict[str, Any]]
"""The name of a module and its options; for "call", a function of this file."""


@dataclass(frozen=True)
class Case:
    """The existing domains, the task that is disturbed, and the task that wants the opposite."""

    name: str
    before: list[Task]
    task: Task
    opposite: Task
    # Kinds of action that this case is there for; whether they occur is checked.
    kinds: set[str] = field(default_factory=set)


def domain(**options: Any) -> Task:
    small = {"name": "vm", "memory": 128, "vcpus": 1, "virt_type": "qemu", "interfaces": []}
    stopping = {"restart": "if_required", "shutdown_timeout": 1, "force_stop": True}
    return "domain", {**small, **({} if options.get("state") == "absent" else stopping), **options}


def absent(**options: Any) -> Task:
    everything = {"remove_storage": [DISK], "remove_nvram": True, "remove_tpm_state": True}
    return "domain", {"name": "vm", "state": "absent", **everything, **options}


def share(tag: str, **options: Any) -> Task:
    return "share", {"domain": "vm", "tag": tag, **options}


def source(name: str) -> str:
    return f"{SOURCES}/{name}"


READ_ONLY = {"tag": "sealed", "source": source("sealed dir"), "read_only": True}
WRITABLE = {"tag": "data", "source": source("data")}
TUNED = {"tag": "tuned", "source": source("tuned"), "read_only": True, "inode_file_handles": "prefer"}


def suspend() -> None:
    connection = libvirt.open(URI)
    connection.lookupByName("vm").suspend()
    connection.close()


def rename() -> None:
    connection = libvirt.open(URI)
    connection.lookupByName("former").rename("vm")
    connection.close()


def leave_behind() -> None:
    """What killed runs have left: a temporary file, an empty directory, an unfinished image."""
    Path("/var/lib/keystone-virtiofs/.keystone-new-mounts-abcdefgh").touch()
    Path("/var/lib/keystone-virtiofs/domains/vm/nosuid").mkdir()
    (IMAGES / ".keystone-new-vm.qcow2-abcdefgh").mkdir()


def cases(has_wrappers: bool) -> list[Case]:
    shares = [READ_ONLY, WRITABLE, *([TUNED] if has_wrappers else [])]
    disk = {"path": DISK, "size": 8}
    everything = domain(state="present", shares=shares, disks=[disk], firmware="uefi", tpm=True, hotplug_ports=1)
    plain = domain(state="present", hotplug_ports=2)
    running = domain(state="running", hotplug_ports=2, shares=[WRITABLE])
    return [
        Case("create with shares", [], everything, absent(), {"CreateDisk", "Define", "ReservePorts", "MountNosuid"}),
        Case("add a read-only share", [plain], share(**READ_ONLY), share("sealed", state="absent")),
        Case(
            "remove a writable share", [everything], share("data", state="absent"), share(**WRITABLE), {"UnmountNosuid"}
        ),
        Case(
            "remove a read-only share",
            [everything],
            share("tuned" if has_wrappers else "sealed", state="absent"),
            everything,
            {"RemoveWrapper" if has_wrappers else "Unbind"},
        ),
        Case(
            "remove what a killed run has left",
            [everything, share("data", state="absent"), ("call", {"function": leave_behind})],
            share(**WRITABLE),
            share("data", state="absent"),
            {"RemoveLeftovers"},
        ),
        Case(
            "take over the state of the former name",
            [domain(name="former", state="present", shares=shares), ("call", {"function": rename})],
            domain(state="present", shares=shares),
            absent(),
            {"RemoveFormerState"},
        ),
        Case(
            "grow and start",
            [everything],
            domain(state="running", disks=[{**disk, "size": 16}], autostart=True),
            domain(state="stopped", autostart=False),
            {"GrowDisk", "SetAutostart", "Start"},
        ),
        Case(
            "plug a share into a running domain",
            [running],
            share(**READ_ONLY),
            absent(),
            {"AttachShare"},
        ),
        Case(
            "add a share with a restart",
            [domain(state="running", hotplug_ports=0)],
            share(**READ_ONLY, restart="if_required", shutdown_timeout=1, force_stop=True),
            absent(),
            {"NoteRestart", "Shutdown"},
        ),
        Case(
            "change the medium and resume",
            [domain(state="running", iso=MEDIA[0]), ("call", {"function": suspend})],
            domain(state="running", iso=MEDIA[1]),
            domain(state="running", iso=MEDIA[0]),
            {"ChangeMedium", "Resume"},
        ),
        Case(
            "purge",
            [plain, domain(name="other", state="present", shares=shares)],
            ("domains", {"domains": [plain[1]], "purge": True}),
            (
                "domains",
                {"domains": [plain[1], domain(name="other", state="present", shares=shares)[1]], "purge": True},
            ),
            {"Undefine", "RemoveState"},
        ),
        Case(
            "remove with storage, NVRAM and TPM",
            [everything, domain(state="running")],
            absent(),
            everything,
            {"Destroy", "RemoveDisk"},
        ),
    ]


def expected_kinds(has_wrappers: bool) -> set[str]:
    """Every kind of action that there is on this platform."""
    kinds = {kind.__name__ for kind in model.Action.__subclasses__()}
    elsewhere = {"BindReadOnly", "Unbind"} if has_wrappers else {"WriteWrapper", "RemoveWrapper"}
    return kinds - elsewhere - {"DetachShare"}  # to unplug, a guest must answer: scenario shares has one
