# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules and disks to which an overlay was added: an external snapshot, as backup tools make them."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import disks
from ansible_collections.keystone.virtiofs.plugins.modules import domain, domain_info

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def disk(tmp_path: Path) -> str:
    return f"{tmp_path}/vm.qcow2"


def attach_instead(connection: libvirt.virConnect, old: str, new: str) -> None:
    text = connection.lookupByName("vm").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("'qemu'>", "'test'>", 1)
    connection.defineXML(text.replace(f"'{old}'", f"'{new}'"))


def snapshot(connection: libvirt.virConnect, disk: str, name: str) -> str:
    """What virsh snapshot-create-as --disk-only does."""
    overlay = f"{disk.removesuffix('.qcow2')}.{name}"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay], check=True)
    attach_instead(connection, disk, overlay)
    return overlay


def test_a_disk_with_an_overlay_is_still_the_disk(run: Run, connection: libvirt.virConnect, disk: str) -> None:
    task = {"name": "vm", "state": "running", "disks": [{"path": disk, "size": 8, "format": "qcow2"}]}
    run(domain, **{**task, "state": "present"})
    first = snapshot(connection, disk, "s1")
    second = snapshot(connection, first, "s2")
    assert run(domain, **task)["actions"] == ["Start"]
    again = run(domain, **task)
    assert (again["actions"], again["restart_required"]) == ([], False)
    assert [found["path"] for found in again["domain"]["disks"]] == [second]


def test_the_overlay_grows_and_not_its_base(run: Run, connection: libvirt.virConnect, disk: str) -> None:
    run(domain, name="vm", disks=[{"path": disk, "size": 8}])
    overlay = snapshot(connection, disk, "s1")
    before = Path(disk).read_bytes()
    assert run(domain, name="vm", disks=[{"path": disk, "size": 16}])["actions"] == ["GrowDisk"]
    assert Path(disk).read_bytes() == before
    assert run(domain, name="vm", disks=[{"path": overlay, "size": 16}])["actions"] == []


def test_a_base_is_not_removed_from_below_its_overlay(run: Run, connection: libvirt.virConnect, disk: str) -> None:
    run(domain, name="vm", disks=[{"path": disk, "size": 8}])
    overlay = snapshot(connection, disk, "s1")
    refused = run(domain, name="vm", state="absent", remove_storage=[disk])
    assert f"disk {disk} has the overlay {overlay}" in refused["msg"]
    assert "virsh blockcommit vm vda --active --pivot" in refused["fix"]
    assert Path(disk).is_file()


def test_the_disks_that_were_created_include_their_overlays(
    run: Run, connection: libvirt.virConnect, disk: str, tmp_path: Path
) -> None:
    run(domain, name="vm", disks=[{"path": disk, "size": 8}])
    first = snapshot(connection, disk, "s1")
    second = snapshot(connection, first, "s2")
    created = run(domain_info, names=["vm"])["domains"]["vm"]["created_disks"]
    assert created == [disk, second, first]
    run(domain, name="vm", state="absent", remove_storage=created)
    assert not list(tmp_path.glob("vm.*"))


def test_the_base_of_a_disk_that_the_task_lists_is_another_disk(run: Run, disk: str, tmp_path: Path) -> None:
    base = {"path": f"{tmp_path}/base.qcow2", "size": 8, "format": "qcow2"}
    run(domain, name="other", disks=[base])
    run(domain, name="other", state="absent")
    top = {"path": disk, "backing": base["path"], "backing_format": "qcow2"}
    run(domain, name="vm", disks=[top])
    added = run(domain, name="vm", disks=[top, {**base, "read_only": True}])
    assert [found["path"] for found in added["domain"]["disks"]] == [disk, base["path"]]


def test_a_disk_that_was_moved_is_not_created_again(run: Run, connection: libvirt.virConnect, disk: str) -> None:
    task = {"name": "vm", "disks": [{"path": disk, "size": 8}]}
    run(domain, **task)
    Path(disk).rename(f"{disk}.moved")
    attach_instead(connection, disk, f"{disk}.moved")
    assert f"disk {disk} of the domain does not exist" in run(domain, **task)["msg"]
    assert not Path(disk).exists()


def test_a_disk_whose_storage_is_not_mounted_is_not_created_again(run: Run, disk: str) -> None:
    task = {"name": "vm", "disks": [{"path": disk, "size": 8}]}
    run(domain, **task)
    Path(disk).unlink()
    assert f"disk {disk} of the domain does not exist" in run(domain, **task)["msg"]
    run(domain, name="vm", state="absent")
    assert "CreateDisk" in run(domain, **task)["actions"]


def test_a_disk_whose_creation_was_not_finished_is_created(
    run: Run, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"name": "vm", "disks": [{"path": disk, "size": 8}]}
    with monkeypatch.context() as context:
        context.setattr(disks, "create_image", raise_full)
        assert "No space left" in run(domain, **task)["msg"]
    assert run(domain, **task)["actions"] == ["CreateDisk"]
    assert run(domain, **task)["actions"] == []


def raise_full(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
