# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains of other tools are not questioned for what they are: modules share and domain, against the test driver."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.modules import domain, share
from ansible_collections.keystone.virtiofs.tests.unit.plugins.modules.conftest import Run


def template(devices: str, name: str = "") -> str:
    head = f"{name}<memory>65536</memory><os><type>hvm</type></os>"
    return f"<domain type='test'>{head}<devices>{devices}</devices></domain>"


def foreign(connection: libvirt.virConnect, name: str, devices: str = "") -> libvirt.virDomain:
    """A domain that another tool has defined, without libvirt's check against its schema."""
    return connection.defineXML(template(devices, f"<name>{name}</name>"))


def disk(path: str, inner: str = "") -> str:
    return f"<disk type='file' device='disk'><source file='{path}'/><target dev='vda' bus='virtio'/>{inner}</disk>"


@pytest.mark.parametrize(
    ("mine", "theirs", "conflict"),
    [
        ("<shareable/>", "<shareable/>", False),
        ("<readonly/>", "<readonly/>", False),
        ("<readonly/>", "<shareable/>", False),
        ("", "<shareable/>", True),
        ("<readonly/>", "", True),
        ("", "", True),
    ],
)
def test_a_disk_that_says_so_may_be_in_two_domains(
    run: Run, connection: libvirt.virConnect, mine: str, theirs: str, conflict: bool
) -> None:
    foreign(connection, "other", disk("/srv/shared.img", theirs))
    result = run(domain, name="vm", xml=template(disk("/srv/./shared.img", mine)))
    assert ("belongs to domain other" in result.get("msg", "")) is conflict
    assert result.get("failed", False) is conflict


def test_what_two_domains_share_already_stops_no_task(run: Run, connection: libvirt.virConnect, tmp_path: Path) -> None:
    nic = "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
    for name in ("one", "two"):
        foreign(connection, name, disk("/srv/shared.img") + nic)
    result = run(share, domain="one", tag="data", source=str(tmp_path))
    assert result["actions"] == ["Define"]
    own, others = ([{"type": "user", "mac": f"52:54:00:00:00:0{number}"}] for number in (2, 1))
    assert run(domain, name="one", interfaces=own)["changed"]
    assert "belongs to domain" in run(domain, name="one", interfaces=others)["msg"]


def test_a_definition_that_libvirts_schema_rejects_can_be_changed(
    run: Run, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    odd = "<emulator>qemu</emulator>"  # libvirt has it, and its schema wants an absolute path
    foreign(connection, "odd", odd)
    assert run(share, domain="odd", tag="data", source=str(tmp_path))["actions"] == ["Define"]
    assert not run(share, domain="odd", tag="data", source=str(tmp_path))["changed"]
    # What the task itself brings in is still checked.
    result = run(domain, name="new", xml=template(odd))
    assert result["libvirt_code"] == libvirt.VIR_ERR_XML_INVALID_SCHEMA
    assert "xml" in result["fix"]
    foreign(connection, "good")
    assert run(domain, name="good", xml=template(odd))["libvirt_code"] == libvirt.VIR_ERR_XML_INVALID_SCHEMA
