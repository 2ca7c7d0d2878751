# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlays on another machine, whose images cannot be read: libvirt names the files below a running disk."""

from __future__ import annotations

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import Observed
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.overlays import resolve_overlays
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.unit.support import domain

DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2'/><source file='/srv/vm.s2'/><target dev='vda' bus='virtio'/>{}
</disk>
"""
BACKING = """
<backingStore type='file'>
  <format type='qcow2'/><source file='/srv/vm.s1'/>
  <backingStore type='file'><format type='qcow2'/><source file='/srv/vm.qcow2'/><backingStore/></backingStore>
</backingStore>
"""


def document(backing: str) -> DomainXml:
    return DomainXml(f"<domain><name>vm</name><devices>{DISK.format(backing)}</devices></domain>")


def resolved(observed: Observed) -> list[str]:
    wanted = domain(disks=[{"path": "/srv/vm.qcow2"}])
    return [disk["path"] for disk in resolve_overlays(wanted, observed, str, lambda _disk: [])["disks"]]


def test_libvirt_names_the_files_below_a_running_disk() -> None:
    running = Observed("vm", persistent=document(""), live=document(BACKING), run_state="running")
    assert resolved(running) == ["/srv/vm.s2"]


def test_what_nothing_names_is_a_disk_of_its_own() -> None:
    assert resolved(Observed("vm", persistent=document(""), run_state="stopped")) == ["/srv/vm.qcow2"]
    assert resolved(Observed("vm")) == ["/srv/vm.qcow2"]
