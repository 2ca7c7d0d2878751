# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that a guest has as persistent memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    Define,
    DiskImage,
    Host,
    Observed,
    Plan,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.validation import check_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.places import arguments
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.tests.unit.support import TRIXIE, domain, steps

PATH = "/srv/store.erofs"
NEW = Observed("vm")
# A user's own memory device, slots for more, and arguments.
XML = """
<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <maxMemory slots="2" unit="GiB">4</maxMemory>
  <memory unit="GiB">1</memory>
  <os><type arch="x86_64">hvm</type></os>
  <devices>
    <memory model="nvdimm">
      <source><path>/srv/nvdimm</path></source>
      <target><size unit="MiB">512</size></target>
    </memory>
  </devices>
  <qemu:commandline><qemu:arg value="-m"/><qemu:arg value="maxmem=8G"/><qemu:arg value="-S"/></qemu:commandline>
</domain>
"""


def host(size: int = 300) -> Host:
    return replace(TRIXIE, images={PATH: DiskImage(size, "raw", is_public=True)})


def task(pmem: bool | None = True, **options: Any) -> dict[str, Any]:
    return domain("vm", disks=[{"path": PATH, "format": "raw", "read_only": True, "pmem": pmem}], **options)


def definition(plan: Plan) -> DomainXml:
    [document] = [action.document for action in plan.actions if isinstance(action, Define)]
    return document


def defined(wanted: dict[str, Any], seen: Observed = NEW, size: int = 300) -> DomainXml:
    check_domain(wanted)
    return definition(plan_domain(wanted, seen, host(size)))


def running(document: DomainXml) -> Observed:
    return Observed("vm", persistent=document, live=document.copy(), run_state="running")


def qemu(document: DomainXml) -> str:
    return " ".join(f"{option} {value}" for option, value in arguments(document.root)[::2])


def test_the_host_opens_the_image_for_reading() -> None:
    line = qemu(defined(task()))
    assert "share=on,readonly=on" in line
    assert f"size=300M,mem-path={PATH}" in line


def test_the_device_follows_the_size_of_the_image() -> None:
    document = defined(task(), running(defined(task())), size=310)
    assert "size=310M" in qemu(document)
    assert "maxmem=2358M" in qemu(document)


def test_the_address_space_follows_the_memory() -> None:
    seen = running(defined(task()))
    assert "maxmem=4396M" in qemu(definition(plan_domain(domain("vm", memory=4096), seen, TRIXIE)))


def test_a_new_size_is_no_reason_to_restart() -> None:
    assert plan_domain(task(), running(defined(task())), host(310)).restart_reasons == []


@pytest.mark.parametrize("pmem", [True, False])
def test_the_kind_of_device_changes_at_a_restart(pmem: bool) -> None:
    seen = running(defined(task(not pmem)))
    plan = plan_domain(task(pmem), seen, host())
    assert plan.restart_reasons == [f"disks: pmem of {PATH} differs in the running domain"]
    assert definition(plan).disks()[0]["pmem"] is pmem
    assert ("keystone-pmem" in definition(plan).text()) is pmem


def test_a_disk_stays_what_it_is_when_the_task_does_not_say() -> None:
    assert "Define" not in steps(plan_domain(task(None), running(defined(task())), host()))


def test_a_users_memory_devices_and_arguments_stay() -> None:
    document = defined(domain("vm", xml=XML, memory=1536))
    assert document.root.findtext("devices/memory/source/path") == "/srv/nvdimm"
    assert arguments(document.root) == [("-m", "maxmem=8G"), ("maxmem=8G", "-S")]


def test_the_address_space_has_room_for_a_users_memory_devices() -> None:
    assert f"maxmem={4096 + 300}M" in qemu(defined(task(xml=XML)))


@pytest.mark.parametrize(
    "disk",
    [
        {"path": PATH, "format": "raw"},
        {"path": PATH, "format": "qcow2", "read_only": True},
        {"pool": "default", "volume": "v", "format": "raw", "read_only": True},
    ],
)
def test_only_a_raw_read_only_file_becomes_memory(disk: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="pmem requires path, format raw and read_only"):
        check_domain(domain("vm", disks=[{**disk, "pmem": True}]))


@pytest.mark.parametrize("size", [0, 301])
def test_the_guest_could_not_map_an_image_of_any_size(size: int) -> None:
    with pytest.raises(InvalidInput, match="multiple of 2 MiB"):
        defined(task(), size=size)


def test_a_missing_image_does_not_become_memory() -> None:
    with pytest.raises(InvalidInput, match="pmem requires an existing image"):
        plan_domain(task(), NEW, TRIXIE)


def test_no_guest_writes_to_an_image_that_others_share() -> None:
    shared = replace(TRIXIE, images={PATH: DiskImage(300, "raw", is_shared=True)})
    with pytest.raises(InvalidInput, match=f"disk {PATH} is a file with several names"):
        plan_domain(domain("vm", disks=[{"path": PATH, "format": "raw"}]), NEW, shared)
    assert "Define" in steps(plan_domain(task(), NEW, shared))
