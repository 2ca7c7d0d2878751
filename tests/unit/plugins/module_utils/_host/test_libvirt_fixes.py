# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as libvirt and QEMU really word them, from other people's bug reports, and what to do about each."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import libvirt_fixes

MESSAGES = [
    (55, "Requested operation is not valid: network 'default' is not active", "virsh net-start default"),
    (43, "Network not found: no network with matching name 'lan'", "virsh net-list --all"),
    (55, "Requested operation is not valid: storage pool 'default' is not active", "virsh pool-start default"),
    (49, "Storage pool not found: no storage pool with matching name 'default'", "Create the pool default"),
    (
        38,
        "Cannot access storage file '/root/vm/t1.qcow2' (as uid:64055, gid:108): Permission denied",
        "above /root/vm/t1",
    ),
    (1, "qemu: Could not open '/root/vm/a': Permission denied", "above /root/vm/a"),
    (1, "qemu: could not open kernel file '/root/vm/vmlinuz': Permission denied", "above /root/vm/vmlinuz"),
    (
        67,
        "operation failed: Unable to find 'efi' firmware that is compatible with the current configuration",
        "UEFI",
    ),
    (
        1,
        '-blockdev {"node-name":"libvirt-pflash0-storage"}: Could not open \'/usr/share/OVMF/CODE.fd\': No such file',
        "The UEFI image /usr/share/OVMF/CODE.fd has moved. Set firmware: bios",
    ),
    (1, "qemu: could not open kernel file '/boot/k': No such file or directory", "Restore /boot/k"),
    (1, "qemu-kvm: unable to map backing store for guest RAM: Cannot allocate memory", "vm.nr_hugepages"),
    (1, "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory", "Reduce memory"),
    (1, "Could not set up host forwarding rule 'tcp:127.0.0.1:22220-:22'", "set next_free"),
    (1, "qemu: load of migration failed: Input/output error", "virsh managedsave-remove web;"),
    (38, "virtiofsd died unexpectedly: No such process", "last error in its log"),
    (1, "vhost_backend_init failed: Protocol error", "last error in its log"),
    (
        38,
        "Failed to connect to '/var/lib/libvirt/qemu/domain-1-vm/fs0-fs.sock': Connection refused",
        "virtiofsd has ended",
    ),
    (38, "unable to open vhost-vsock device: No such file or directory", "modprobe vhost_vsock"),
    (1, 'qemu: Failed to get "write" lock', "Another process uses the disk"),
    (38, "Cannot get interface MTU on 'br0': No such device", "Create the bridge br0"),
    (1, "internal error: Network is already in use by interface virbr1", "vm_network_prefix"),
    (55, "Requested operation is not valid: domain is not running", "domain_info"),
    (3, "this function is not supported by the connection driver", "too old"),
]


@pytest.mark.parametrize(("code", "message", "fix"), MESSAGES)
def test_an_error_has_its_own_fix(code: int, message: str, fix: str) -> None:
    said = libvirt_fixes.fix_for(code, message, libvirt_fixes.OTHERS, "web")
    assert fix in said
    assert "{" not in said


def test_an_unknown_error_has_none() -> None:
    assert libvirt_fixes.fix_for(1, "internal error: something new", libvirt_fixes.OTHERS) == ""
