# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents that new domains are defined with, compared with those in golden/.

After an intended change, run this file with UPDATE_GOLDEN=1 and read the diff.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.forwards import resolve_forwards
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    Define,
    DiskImage,
    Host,
    Observed,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.validation import check_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.unit.support import BOOKWORM, TRIXIE, domain

GOLDEN = Path(__file__).parents[3] / "golden"
STORE = {"tag": "nix-store-share", "source": "/nix/store"}
NUMA = """
<domain type="kvm">
  <name>numa</name>
  <memory unit="GiB">2</memory>
  <cpu><numa>
    <cell id="0" cpus="0" memory="1" unit="GiB" memAccess="private"/>
    <cell id="1" cpus="1" memory="1" unit="GiB"/>
  </numa></cpu>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
"""
EVERYTHING = {
    "memory": 4096,
    "vcpus": 4,
    "virt_type": "kvm",
    "cpu": "host-model",
    "firmware": "uefi",
    "secure_boot": "setup",
    "tpm": True,
    "vsock": True,
    "iso": "/srv/installer.iso",
    "kernel": "/boot/vmlinuz",
    "initrd": "/boot/initrd",
    "cmdline": "console=ttyS0 quiet",
    "serial_log": "/var/log/libvirt/qemu/everything-serial.log",
    "graphics": "spice",
    "guest_agent": True,
    "disks": [
        {"path": "/srv/root.qcow2", "size": 8192},
        {"path": "/srv/more.img", "size": 1024, "format": "raw", "bus": "sata"},
        {"pool": "default", "volume": "data.qcow2", "size": 1024, "bus": "sata"},
    ],
    "interfaces": [
        {"source": "lan", "mac": "52:54:00:00:00:0A"},
        {"type": "bridge", "source": "br0", "model": "e1000e"},
        {"type": "user"},
    ],
    "shares": [
        STORE,
        {
            "tag": "everything",
            "source": "/srv/data",
            "queue_size": 512,
            "cache": "metadata",
            "xattr": True,
            "sandbox": "chroot",
            "thread_pool_size": 4,
            "open_files": 65536,
            "inode_file_handles": "prefer",
        },
        {"tag": "never-changes", "source": "/srv/fixed", "read_only": True, "cache": "always"},
    ],
}
FORWARDS = [{"host_port": 22220, "guest_port": 22, "next_free": True}, {"host_port": 8080, "guest_port": 80}]
CASES: dict[str, tuple[Host, dict[str, Any]]] = {
    "minimal": (TRIXIE, {}),
    "kvm": (replace(TRIXIE, virt_type="kvm"), {"virt_type": "auto"}),
    "everything": (TRIXIE, EVERYTHING),
    "read-only-by-virtiofsd": (TRIXIE, {"shares": [STORE]}),
    "read-only-by-bind-mount": (BOOKWORM, {"shares": [STORE]}),
    "persistent-memory": (
        replace(TRIXIE, images={"/srv/a,b.erofs": DiskImage(314, "raw", is_public=True)}),
        {
            "disks": [{"path": "/srv/a,b.erofs", "format": "raw", "read_only": True, "pmem": True}],
            "interfaces": [{"type": "user", "forwards": FORWARDS}],
        },
    ),
    "wrapper": (TRIXIE, {"shares": [{**STORE, "cache": "metadata", "inode_file_handles": "mandatory"}]}),
    "idmap": (
        replace(TRIXIE, session=True, state="/home/me/.local/share/keystone-virtiofs"),
        {
            "shares": [
                {
                    "tag": "home",
                    "source": "/home/me",
                    "idmap": {
                        "uid": [{"start": 0, "target": 1000, "count": 1}],
                        "gid": [
                            {"start": 0, "target": 1000, "count": 1},
                            {"start": 1, "target": 100000, "count": 65535},
                        ],
                    },
                }
            ]
        },
    ),
    "socket": (TRIXIE, {"shares": [{"tag": "external", "socket": "/run/virtiofsd.sock", "queue_size": 128}]}),
    "user-networking": (TRIXIE, {"interfaces": [{"type": "user", "forwards": FORWARDS}]}),
    "numa": (TRIXIE, {"xml": NUMA, "shares": [STORE]}),
}


def rendered(name: str) -> str:
    host, given = CASES[name]
    task = domain(name, **given)
    check_domain(task)
    observed = Observed(name)
    plan = plan_domain(resolve_forwards(task, observed, lambda _address, _port: False), observed, host)
    return next(action.document.text() for action in plan.actions if isinstance(action, Define))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    golden = GOLDEN / f"{name}.xml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(rendered(name))
    assert rendered(name) == golden.read_text()


def test_there_are_no_other_golden_files() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_rendered_document_is_not_changed_by_the_task_that_made_it(name: str) -> None:
    host, given = CASES[name]
    observed = Observed(name, persistent=DomainXml(rendered(name)), run_state="stopped")
    task = resolve_forwards(domain(name, **given), observed, lambda _address, _port: False)
    assert not [action for action in plan_domain(task, observed, host).actions if isinstance(action, Define)]
