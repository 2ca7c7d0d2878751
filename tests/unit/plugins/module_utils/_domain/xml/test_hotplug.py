# SPDX-License-Identifier: GPL-3.0-or-later
"""Places for hot-plugged shares on every type of machine, as libvirt 11.3's source has them."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml

ACPI = "<features><acpi/></features>"


def bus(model: str, index: int, inner: str = "") -> str:
    return f"<controller type='pci' index='{index}' model='{model}'>{inner}</controller>"


def device(bus: int, slot: int = 0, function: int = 0) -> str:
    address = f"type='pci' domain='0x0000' bus='{bus:#04x}' slot='{slot:#04x}' function='{function:#x}'"
    return f"<interface type='user'><address {address}/></interface>"


def machine(name: str, devices: str = "", features: str = "", arch: str = "x86_64") -> DomainXml:
    os = f"<os><type arch='{arch}' machine='{name}'>hvm</type></os>"
    return DomainXml(f"<domain>{os}{features}<devices>{devices}</devices></domain>")


PCIE = bus("pcie-root", 0)
PCI = bus("pci-root", 0)
OFF = "<target hotplug='off'/>"


@pytest.mark.parametrize(
    ("document", "count"),
    [
        # PCI Express: a port is one slot; nothing else takes a share.
        (machine("q35", PCIE), 0),
        (machine("q35", PCIE + bus("pcie-root-port", 1) + bus("pcie-root-port", 2)), 2),
        (machine("q35", PCIE + bus("pcie-root-port", 1) + bus("pcie-root-port", 2) + device(1)), 1),
        (machine("q35", PCIE + bus("pcie-root-port", 1) + device(1, function=3)), 0),
        (machine("q35", PCIE + bus("pcie-root-port", 10) + device(10)), 0),
        (machine("q35", PCIE + bus("pcie-root-port", 1, OFF) + bus("pcie-root-port", 2, OFF)), 0),
        (machine("q35", PCIE + bus("pcie-root-port", 1, "<target chassis='1' hotplug='on'/>")), 1),
        (machine("q35", PCIE + bus("pcie-to-pci-bridge", 1) + bus("dmi-to-pci-bridge", 2) + bus("pci-bridge", 3)), 0),
        (machine("q35", PCIE + bus("pcie-switch-upstream-port", 1) + bus("pcie-switch-downstream-port", 2)), 1),
        (machine("q35", PCIE + bus("pcie-expander-bus", 1) + bus("pcie-root-port", 2)), 1),
        (machine("virt", PCIE + bus("pcie-root-port", 1), arch="aarch64"), 1),
        (machine("virt", "", arch="aarch64"), 0),
        # Conventional PCI: slots of a bus, of which i440fx uses slot 1 itself.
        (machine("pc-i440fx-9.2", PCI, ACPI), 30),
        (machine("pc-i440fx-9.2", PCI), 0),
        (machine("pc-i440fx-9.2", bus("pci-root", 0, OFF), ACPI), 0),
        (machine("pc-i440fx-9.2", PCI + "".join(device(0, slot) for slot in range(1, 32)), ACPI), 0),
        (machine("pc-i440fx-9.2", PCI + bus("pci-bridge", 1) + device(0, 5) + device(1, 1), ACPI), 29 + 30),
        (machine("pc-i440fx-9.2", PCI + bus("pci-expander-bus", 1), ACPI), 30 + 32),
        (machine("pc-i440fx-9.2", PCI + device(0, 5) + device(0, 5, 1), ACPI), 29),
        (machine("pseries", PCI + bus("pci-root", 1), arch="ppc64"), 62),
        (machine("isapc", "", ACPI), 0),
        # s390x.
        (machine("s390-ccw-virtio", "", arch="s390x"), 65536),
    ],
)
def test_free_places(document: DomainXml, count: int) -> None:
    assert document.free_ports() == count
    assert document.free_ports() or document.plug_obstacle()


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (machine("q35", PCIE), "pcie-root-port"),
        (machine("pc", PCI), "<acpi/>"),
        (machine("pc", "", ACPI), "PCI slot"),
    ],
)
def test_why_there_is_no_place(document: DomainXml, word: str) -> None:
    assert word in document.plug_obstacle()


SHARE = "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv'/><target dir='t'/>{}</filesystem>".format
AT = "<address type='pci' domain='0x0000' bus='{:#04x}' slot='0x00' function='0x0'/>".format


@pytest.mark.parametrize(
    ("document", "possible"),
    [
        (machine("q35", PCIE + bus("pcie-root-port", 1) + SHARE(AT(1))), True),
        (machine("q35", PCIE + bus("pcie-root-port", 1, OFF) + SHARE(AT(1))), False),
        (machine("q35", PCIE + SHARE(AT(0))), False),
        (machine("q35", PCIE + bus("pcie-to-pci-bridge", 2) + SHARE(AT(2))), True),
        (machine("pc", PCI + SHARE(AT(0)), ACPI), True),
        (machine("pc", PCI + SHARE(AT(0))), False),
        (machine("pc", bus("pci-root", 0, OFF) + SHARE(AT(0)), ACPI), False),
        (machine("s390-ccw-virtio", SHARE("<address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'/>")), True),
        (machine("q35", PCIE + SHARE("")), True),
    ],
)
def test_whether_a_share_can_leave(document: DomainXml, possible: bool) -> None:
    assert document.can_unplug("t") is possible


def test_ports_are_added_until_enough_of_them_take_a_share() -> None:
    document = machine("q35", PCIE + bus("pcie-root-port", 1, OFF) + bus("pcie-root-port", 2) + device(2))
    document.reserve_ports(3)
    assert len(document.root.findall("devices/controller[@model='pcie-root-port']")) == 2 + 3
    assert (document.reserved_ports, document.wished_ports) == (3, 3)


@pytest.mark.parametrize("document", [machine("pc", PCI, ACPI), machine("s390-ccw-virtio", arch="s390x")])
def test_other_machines_get_no_ports(document: DomainXml) -> None:
    before = len(document.root.find("devices"))
    document.reserve_ports(4)
    assert len(document.root.find("devices")) == before
    assert document.reserved_ports == 4
