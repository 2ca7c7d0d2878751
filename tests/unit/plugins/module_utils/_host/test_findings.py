# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._features import Virtiofsd
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.findings import HostFacts, find_problems
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.kvm import KvmProbe
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.probe import Firmware

SETUP_MODE = Firmware("setup", uefi=True, secure_boot=True, enrolled_keys=False)
ENROLLED = Firmware("enrolled", uefi=True, secure_boot=True, enrolled_keys=True)

READY = HostFacts(
    libvirt=11003000,
    libvirt_error="",
    libvirt_installed=True,
    python_binding=True,
    session=False,
    user="alice",
    may_use_libvirt=True,
    systemd=True,
    os_release={"ID": "debian"},
    emulator="/usr/bin/qemu-system-x86_64",
    qemu=(10, 0, 13),
    kvm=KvmProbe(True, smm=True),
    kvm_device_inaccessible=False,
    virtiofsd=Virtiofsd("/usr/libexec/virtiofsd", (1, 13, 2)),
    virtiofsd_executable=True,
    broken_descriptors=(),
    memfd=True,
    apparmor=False,
    firmware=(ENROLLED, SETUP_MODE),
    swtpm=True,
    vsock=True,
    subordinate_ids=True,
)
DOWN = {"libvirt": None, "libvirt_error": "connection refused"}
NO_DAEMON = {"virtiofsd": None, "virtiofsd_executable": False}


def test_nothing_to_say_about_a_ready_host() -> None:
    assert find_problems(READY) == []


@pytest.mark.parametrize(
    ("differs", "finding", "severity", "fix"),
    [
        (DOWN, "libvirt_unreachable", "error", "systemctl start libvirtd"),
        (
            {**DOWN, "systemd": False},
            "libvirt_unreachable",
            "error",
            "service virtlogd start; service libvirtd start",
        ),
        ({**DOWN, "session": True}, "libvirt_unreachable", "error", "as this user"),
        ({**DOWN, "may_use_libvirt": False}, "not_in_libvirt_group", "error", "usermod -aG libvirt alice"),
        (
            {**DOWN, "python_binding": False},
            "python_libvirt_missing",
            "error",
            "apt-get install python3-libvirt",
        ),
        (
            {**DOWN, "libvirt_installed": False},
            "libvirt_missing",
            "error",
            "apt-get install libvirt-daemon-system",
        ),
        ({"libvirt": 6008000}, "libvirt_too_old", "error", "Upgrade"),
        ({"emulator": None}, "qemu_missing", "error", "apt-get install qemu-system-x86"),
        (NO_DAEMON, "virtiofsd_missing", "error", "apt-get install virtiofsd"),
        (
            {**NO_DAEMON, "os_release": {"ID": "fedora"}},
            "virtiofsd_missing",
            "error",
            "dnf install virtiofsd",
        ),
        ({**NO_DAEMON, "os_release": {"ID": "nixos"}}, "virtiofsd_missing", "error", "vhostUserPackages"),
        (
            {**NO_DAEMON, "os_release": {"ID": "mint", "ID_LIKE": "ubuntu debian"}},
            "virtiofsd_missing",
            "error",
            "apt-get install virtiofsd",
        ),
        ({**NO_DAEMON, "os_release": {}}, "virtiofsd_missing", "error", "package manager"),
        ({"virtiofsd_executable": False}, "virtiofsd_not_executable", "error", "apt-get install virtiofsd"),
        ({"broken_descriptors": ["/etc/x.json"]}, "vhost_user_descriptor_broken", "error", "Repair"),
        ({"memfd": False}, "no_shared_memory", "error", "kernel"),
        ({"session": True, "subordinate_ids": False}, "no_subordinate_ids", "error", "--add-subuids"),
        ({"session": True, "libvirt": 9000000}, "session_unsupported", "error", "qemu:///system"),
        ({"kvm": KvmProbe(False, "hangs")}, "kvm_unusable", "warning", "VT-x"),
        ({"kvm": KvmProbe(True, smm=False)}, "kvm_without_smm", "info", "hypervisor"),
        ({"kvm_device_inaccessible": True}, "kvm_device_inaccessible", "warning", "chgrp kvm"),
        ({"libvirt": 10000000}, "read_only_by_bind_mount", "info", "Nothing to do"),
        ({"apparmor": True}, "apparmor_wrapper", "info", "PUx"),
        ({"firmware": ()}, "no_uefi", "info", "apt-get install ovmf"),
        ({"firmware": (ENROLLED,)}, "no_setup_mode", "info", "ovmf"),
        ({"swtpm": False}, "no_swtpm", "info", "apt-get install swtpm"),
        ({"vsock": False}, "no_vsock", "info", "modprobe vhost_vsock"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_problem_is_found_with_its_fix(differs: dict[str, Any], finding: str, severity: str, fix: str) -> None:
    found = {problem.id: problem for problem in find_problems(replace(READY, **differs))}
    assert finding in found
    assert found[finding].severity == severity
    assert fix in found[finding].fix
    assert found[finding].problem


def test_worst_first() -> None:
    facts = replace(READY, swtpm=False, kvm=KvmProbe(False, "hangs"), memfd=False)
    assert [problem.severity for problem in find_problems(facts)] == ["error", "warning", "info"]
