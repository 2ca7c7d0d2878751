# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains that other tools wrote: each test has the smallest document in which something once went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    AttachShare,
    Define,
    DiskImage,
    Host,
    Observed,
    Plan,
    ReservePorts,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain, plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.validation import check_domain, check_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput, VirtiofsError
from ansible_collections.keystone.virtiofs.tests.unit.support import BOOKWORM, TRIXIE, domain, share, steps

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
PORT = "<controller type='pci' index='{}' model='pcie-root-port'>{}</controller>"
PCIE = "<controller type='pci' index='0' model='pcie-root'/>"
UNPLUGGABLE = "<target hotplug='off'/>"
NEW = Observed("vm")
OTHER = {"tag": "other", "source": "/srv/other"}


def text(inner: str = "", *, name: str = "vm", memory: str = "<memory unit='MiB'>256</memory>", **parts: str) -> str:
    """A domain; parts: ``os``, ``devices``, ``machine``."""
    machine = parts.get("machine", "arch='x86_64' machine='q35'")
    return (
        f"<domain type='qemu'><name>{name}</name>{memory}<os><type {machine}>hvm</type></os>{inner}"
        f"<devices>{parts.get('devices', '')}</devices></domain>"
    )


def filesystem(tag: str, source: str, inner: str = "") -> str:
    return (
        f"<filesystem type='mount'><driver type='virtiofs'/>{inner}<source dir='{source}'/>"
        f"<target dir='{tag}'/></filesystem>"
    )


def seen(document: str, *, running: bool = False, live: str | None = None) -> Observed:
    """A domain that libvirt has; a running one as it is defined unless ``live`` says otherwise."""
    return Observed(
        "vm",
        persistent=DomainXml(document),
        live=DomainXml(live or document) if running else None,
        run_state="running" if running else "stopped",
    )


def share_plan(
    document: str, *, running: bool = False, live: str | None = None, host: Host = TRIXIE, **given: Any
) -> Plan:
    wanted = share("vm", **{**OTHER, **given})
    check_share(wanted)
    return plan_share(wanted, seen(document, running=running, live=live), host)


def domain_plan(observed: Observed = NEW, host: Host = TRIXIE, **given: Any) -> Plan:
    wanted = domain("vm", **given)
    check_domain(wanted)
    return plan_domain(wanted, observed, host)


def defined(plan: Plan) -> DomainXml:
    return next(action.document for action in plan.actions if isinstance(action, Define))


def as_libvirt_has(plan: Plan) -> str:
    """What a plan defines, in the place of what libvirt would return."""
    return defined(plan).text()


# F1: namespaces.


@pytest.mark.parametrize(
    "metadata", ["<vmtemplate xmlns='unraid' name='Linux'/>", "<a:b xmlns:a='x y'/>", "<n xmlns=''/>"]
)
def test_no_namespace_stops_a_task(metadata: str) -> None:
    document = text(f"<metadata>{metadata}</metadata>")
    plan = share_plan(document)
    assert steps(plan) == ["Define"]
    assert steps(share_plan(as_libvirt_has(plan), state="absent", source=None)) == ["Define"]
    assert steps(domain_plan(seen(document), memory=512)) == ["Define"]
    assert steps(domain_plan(xml=document)) == ["Define"]


# F2: a uuid is compared as a number.


@pytest.mark.parametrize(
    "uuid",
    [
        "ABCDEF11-1111-4111-8111-1111111111AB",
        "abcdef111111411181111111111111ab",
        " abcdef11-1111-4111-8111-1111111111ab\n",
    ],
)
def test_a_uuid_in_any_notation_is_the_same(uuid: str) -> None:
    has = text("<uuid>abcdef11-1111-4111-8111-1111111111ab</uuid>")
    assert "Define" in steps(domain_plan(seen(has), xml=text(f"<uuid>{uuid}</uuid>")))
    with pytest.raises(InvalidInput, match="uuid"):
        domain_plan(seen(has), xml=text("<uuid>abcdef11-1111-4111-8111-1111111111ac</uuid>"))
    with pytest.raises(InvalidInput, match="uuid"):
        domain_plan(seen(has), xml=text("<uuid>{{ uuid }}</uuid>"))


# F3: what the task does not touch is not questioned.


def test_writable_shares_of_another_tool_may_overlap() -> None:
    document = text(SHARED, devices=filesystem("home", "/home") + filesystem("me", "/home/me"))
    assert steps(share_plan(document)) == ["Define"]
    assert steps(share_plan(document, tag="me", source="/home/me", queue_size=64)) == ["Define"]
    assert steps(share_plan(document, tag="me", state="absent", source=None)) == ["Define"]
    assert "Define" in steps(domain_plan(seen(document), memory=512))


# F4: text is read and written whole.


def test_a_comment_in_a_text_is_no_end_of_it() -> None:
    template = text(
        name="<!-- prod -->vm",
        memory="<memory unit='MiB'><!-- small -->256</memory><vcpu>1<?odd?>2</vcpu>",
    )
    document = defined(domain_plan(xml=template, memory=512, vcpus=3))
    assert (document.name, document.options()["memory"], document.options()["vcpus"]) == ("vm", 512, 3)
    assert document.root.find("name").xpath("string()") == "vm"
    assert document.root.find("memory").xpath("string()") == "512"
    assert DomainXml(template).options()["vcpus"] == 12


# F5: hot plug where libvirt and QEMU can (the counting itself: xml/test_hotplug.py).


@pytest.mark.parametrize(
    ("machine", "features", "devices", "problem"),
    [
        ("q35", "<features><acpi/></features>", PCIE + PORT.format(1, UNPLUGGABLE), "hotplug_ports"),
        ("pc", "", "<controller type='pci' index='0' model='pci-root'/>", "acpi"),
        ("pc", "", "", "PCI"),
    ],
)
def test_a_share_that_cannot_be_plugged_needs_a_restart(
    machine: str, features: str, devices: str, problem: str
) -> None:
    document = text(SHARED + features, machine=f"arch='x86_64' machine='{machine}'", devices=devices)
    plan = share_plan(document, running=True)
    assert steps(plan) == ["Define"]
    assert problem in plan.restart_reasons[0]
    assert "Start" in steps(share_plan(document, running=True, restart="if_required"))


@pytest.mark.parametrize("given", [{"state": "absent", "source": None}, {"queue_size": 64, "replug": True}])
def test_a_share_that_cannot_be_unplugged_needs_a_restart(given: dict[str, Any]) -> None:
    address = "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
    inner = filesystem("other", "/srv/other").replace("</filesystem>", address + "</filesystem>")
    fixed = text(SHARED, devices=PCIE + PORT.format(1, UNPLUGGABLE) + PORT.format(2, "") + inner)
    plan = share_plan(fixed, running=True, **given)
    assert steps(plan) == ["Define"]
    assert "cannot be unplugged" in plan.restart_reasons[0]
    free = fixed.replace(UNPLUGGABLE, "")
    assert "DetachShare" in steps(share_plan(free, running=True, **given))


# F6: memory that NUMA cells and dimms make up.

CELL = "<cell id='{0}' cpus='{0}' memory='131072'/>"
CELLS = f"<vcpu>2</vcpu><cpu><numa>{CELL.format(0)}{CELL.format(1)}</numa></cpu>"
DIMM = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"


@pytest.mark.parametrize(("devices", "cells"), [("", ["256", "256"]), (DIMM, ["192", "192"])])
def test_memory_is_spread_over_the_cells(devices: str, cells: list[str]) -> None:
    document = text(CELLS, devices=devices)
    plan = domain_plan(seen(document), memory=512)
    assert "Define" in steps(plan)
    found = defined(plan)
    assert [(cell.get("memory"), cell.get("unit")) for cell in found.root.iterfind("cpu/numa/cell")] == [
        (size, "MiB") for size in cells
    ]
    assert found.options()["memory"] == 512
    assert "Define" not in steps(domain_plan(seen(found.text()), memory=512))
    assert defined(domain_plan(xml=document, memory=512)).options()["memory"] == 512


def test_memory_that_the_cells_have_already_is_no_change() -> None:
    assert "Define" not in steps(domain_plan(seen(text(CELLS, memory="")), memory=256))


@pytest.mark.parametrize(
    ("inner", "devices", "memory"),
    [(CELLS, DIMM, 128), ("<maxMemory slots='4' unit='MiB'>1024</maxMemory>" + CELLS, "", 2048)],
)
def test_memory_that_cannot_be_is_refused(inner: str, devices: str, memory: int) -> None:
    with pytest.raises(InvalidInput, match="domain vm: memory: ") as caught:
        domain_plan(seen(text(inner, devices=devices)), memory=memory)
    assert caught.value.fix


# F7: a changed template keeps what the collection added.


def test_a_changed_template_keeps_reserved_ports() -> None:
    first = defined(domain_plan(xml=text(PCIE), hotplug_ports=4))
    first.reserve_ports(4)
    has = seen(first.text())
    for given in ({}, {"hotplug_ports": 4}):
        plan = domain_plan(has, xml=text("<description>new</description>"), **given)
        assert ReservePorts(4) in plan.actions
        unchanged = domain_plan(has, xml=text(PCIE), **given)
        assert not unchanged.actions


def test_a_changed_template_keeps_shares_that_other_tasks_added() -> None:
    first = defined(domain_plan(xml=text(devices=filesystem("mine", "/srv/mine"))))
    second = defined(share_plan(first.text(), queue_size=64))
    third = defined(domain_plan(seen(second.text()), xml=text("<description>new</description>")))
    # Elements that the template had and no longer has are removed.
    assert third.shares().keys() == {"other"}
    assert third.shares()["other"]["queue_size"] == 64
    assert third.has_shared_memory()
    # A share that was removed since does not come back; one that the template has is the template's.
    gone = defined(share_plan(third.text(), state="absent", source=None))
    assert not defined(domain_plan(seen(gone.text()), xml=text())).shares()
    template = text(devices=filesystem("other", "/srv/elsewhere"))
    assert defined(domain_plan(seen(third.text()), xml=template)).shares()["other"]["source"] == "/srv/elsewhere"


# F9: the text is Unicode already.


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "windows-1252", "utf-16", "UTF-8", "klingon"])
def test_a_declared_encoding_changes_nothing(encoding: str) -> None:
    document = f"<?xml version='1.0' encoding='{encoding}'?>\n" + text("<title>Größe</title>")
    assert DomainXml(document).root.findtext("title") == "Größe"
    assert DomainXml("\ufeff" + document).root.findtext("title") == "Größe"


# F10: values that are not numbers, and that are not text.


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (text(memory="<memory>{{ ram }}</memory>"), "memory"),
        (text(memory="<memory unit='foo'>1</memory>"), "unit"),
        (text(memory="<memory>1.5</memory>"), "memory"),
        (text(memory="<memory>1_000</memory>"), "memory"),
        (text(memory="<memory>٣</memory>"), "memory"),
        (text(memory=f"<memory>{'9' * 5000}</memory>"), "memory"),
        (text("<vcpu> </vcpu>"), "vcpu"),
        (text("<vcpu>two</vcpu>"), "vcpu"),
        (text("<cpu><numa><cell memory='x'/></numa></cpu>"), "cell"),
        (text(devices="<memory model='dimm'><target><size>x</size></target></memory>"), "size"),
        (text(devices=filesystem("other", "/srv/other").replace("virtiofs'", "virtiofs' queue=''")), "queue"),
        (text(devices=filesystem("other", "/srv/other", "<idmap><uid start='0' target='0'/></idmap>")), "count"),
        (text(devices=filesystem("other", "/srv/other", "<binary><openfiles max='many'/></binary>")), "openfiles"),
        (text("<title>\ud800</title>"), "Unicode"),
        (text("<title>\x00</title>"), "malformed"),
        (text("<title>\x01</title>"), "malformed"),
        ("<a>" * 1000, "malformed"),
    ],
)
def test_a_malformed_document_is_refused_with_the_place(document: str, place: str) -> None:
    with pytest.raises(InvalidInput, match=place) as caught:
        domain_plan(xml=document, memory=512, vcpus=2, shares=[OTHER])
    assert "xml option" in str(caught.value)


@pytest.mark.parametrize(
    ("memory", "mib"),
    [
        ("<memory unit='bytes'>1048576</memory>", 1),
        ("<memory unit='byte'>1048576</memory>", 1),
        ("<memory unit='PiB'>1</memory>", 2**30),
        ("<memory unit='E'>1</memory>", 2**40),
        ("<memory unit='pb'>1</memory>", 10**15 // 2**20),
        ("<memory unit=''>1024</memory>", 1),
        ("<memory> 1024 </memory>", 1),
        ("<memory unit='b'>1</memory>", 0),
    ],
)
def test_every_unit_of_libvirt(memory: str, mib: int) -> None:
    assert DomainXml(text(memory=memory)).options()["memory"] == mib


# F11: an empty document.


@pytest.mark.parametrize("document", ["", " \n", "<!-- nothing -->"])
def test_an_empty_template_is_refused(document: str) -> None:
    with pytest.raises(InvalidInput, match="xml"):
        domain_plan(xml=document)


# F13: what libvirt would refuse only when it is defined.


def test_a_tag_of_another_driver_is_refused() -> None:
    nine_p = "<filesystem type='mount' accessmode='mapped'><source dir='/srv/b'/><target dir='other'/></filesystem>"
    with pytest.raises(InvalidInput, match=r"share other: .*tag"):
        share_plan(text(devices=nine_p))
    assert not share_plan(text(devices=nine_p), state="absent", source=None).changed


@pytest.mark.parametrize(
    "drive",
    [
        "<disk type='block' device='cdrom'>{}<source dev='/dev/sr0' index='1'/>{}</disk>",
        "<disk type='network' device='cdrom'>{}<source protocol='http' name='a.iso'><host name='h'/></source>{}</disk>",
        "<disk type='volume' device='cdrom'>{}<source pool='default' volume='a.iso'/>{}</disk>",
        "<disk type='file' device='cdrom'>{}<source file='/srv/a.iso'/><backingStore/>{}</disk>",
        "<disk type='file' device='cdrom'>{}<source file='/srv/a.iso' startupPolicy='optional'/>{}</disk>",
        "<disk type='block' device='cdrom'>{}{}</disk>",
    ],
)
def test_any_medium_can_be_changed_and_ejected(drive: str) -> None:
    rest = "<target dev='sda' bus='sata'/><readonly/>"
    document = text(devices=drive.format("<driver name='qemu' type='raw'/>", rest))
    changed = defined(domain_plan(seen(document), iso="/srv/x.iso"))
    assert changed.options()["iso"] == "/srv/x.iso"
    found = changed.root.find("devices/disk")
    assert found.get("type") == "file"
    assert found.find("backingStore") is None
    assert set(found.find("source").attrib) <= {"file", "startupPolicy"}
    assert not len(found.find("source"))
    empty = DomainXml(document)
    has_medium = empty.root.find("devices/disk/source") is not None
    plan = domain_plan(seen(document), iso="")
    assert ("Define" in steps(plan)) is has_medium
    if has_medium:
        assert defined(plan).root.find("devices/disk/source") is None
        assert defined(plan).options()["iso"] == ""


@pytest.mark.parametrize(
    ("old", "given", "kept", "gone"),
    [
        ("<source network='a' portgroup='p'/><virtualport/>", {"source": "a", "model": "e1000e"}, ["portgroup"], []),
        ("<source network='a' portgroup='p'/>", {"source": "a", "mac": "52:54:00:00:00:02"}, ["portgroup"], []),
        ("<source network='a' portgroup='p'/>", {"source": "b"}, ['network="b"'], ["portgroup"]),
        ("<source network='a'/><virtualport/>", {"type": "user"}, [], ["virtualport", "source"]),
        (
            "<source network='a'/><vlan><tag id='1'/></vlan><mtu size='9000'/><link state='up'/>",
            {"type": "bridge", "source": "br0"},
            ['bridge="br0"', "link"],
            ["network="],
        ),
    ],
)
def test_what_belongs_to_the_source_of_an_interface(
    old: str, given: dict[str, Any], kept: list[str], gone: list[str]
) -> None:
    mac = "<mac address='52:54:00:00:00:01'/>"
    document = text(devices=f"<interface type='network'>{mac}{old}<model type='virtio'/></interface>")
    plan = domain_plan(seen(document), interfaces=[given])
    result = defined(plan).text()
    assert [word for word in kept if word not in result] == []
    assert [word for word in gone if word in result] == []
    assert defined(plan).interfaces()[0]["mac"] == given.get("mac", "52:54:00:00:00:01")


@pytest.mark.parametrize("kind", ["direct", "ethernet", "hostdev", "vdpa", "user"])
def test_an_interface_of_any_kind_becomes_one_on_a_network(kind: str) -> None:
    old = f"<interface type='{kind}'><mac address='52:54:00:00:00:01'/><source dev='eth0' mode='bridge'/>"
    document = text(devices=f"{old}<backend type='passt'/><model type='virtio'/></interface>")
    found = defined(domain_plan(seen(document), interfaces=[{"source": "lan"}]))
    assert found.interfaces()[0]["source"] == "lan"
    assert dict(found.root.find("devices/interface/source").attrib) == {"network": "lan"}
    assert found.root.find("devices/interface/backend") is None


# F14: existing names.

ODD_NAMES = ["Tom's VM", 'a"b', "a&b", "<a>", ".hidden", "-dash", " blank ", "a" * 255]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_existing_domain_may_have_an_odd_name(name: str) -> None:
    has = DomainXml(text(SHARED))
    has.set_name(name)
    observed = Observed(name, persistent=has, run_state="stopped")
    for given in (OTHER, {**OTHER, "read_only": True}):
        wanted = share(name, **given)
        check_share(wanted)
        assert "Define" in steps(plan_share(wanted, observed, BOOKWORM if "read_only" not in given else TRIXIE))
    wanted = domain(name, memory=512)
    check_domain(wanted)
    assert "Define" in steps(plan_domain(wanted, observed, TRIXIE))
    assert steps(plan_domain(domain(name, state="absent"), observed, TRIXIE)) == ["Undefine"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_new_domain_may_not(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        plan_domain(domain(name), Observed(name), TRIXIE)
    assert not plan_domain(domain(name, state="absent"), Observed(name), TRIXIE).changed


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "a\ud800", "é" * 128])
def test_a_name_that_no_domain_has(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        check_domain(domain(name))
    with pytest.raises(InvalidInput, match="domain"):
        check_share(share(name, **OTHER))


# F15: memory devices.


@pytest.mark.parametrize("model", ["dimm", "virtio-mem"])
def test_a_private_memory_device_becomes_shared(model: str) -> None:
    device = f"<memory model='{model}' access='private'><target><size>1048576</size></target></memory>"
    document = DomainXml(text(SHARED, devices=device))
    assert not document.has_shared_memory()
    plan = share_plan(text(SHARED, devices=device))
    assert defined(plan).has_shared_memory()
    assert (plan.before["shared_memory"], plan.after["shared_memory"]) == (False, True)
    reasons = share_plan(text(SHARED, devices=device + PCIE + PORT.format(1, "")), running=True).restart_reasons
    assert reasons == ["share other: the domain runs without shared memory"]


def test_a_file_that_a_guest_sees_as_memory_stays_private() -> None:
    """Made shared, an nvdimm would write what the guest changes into its file."""
    device = "<memory model='nvdimm' access='private'><source><path>/srv/pmem</path></source></memory>"
    assert DomainXml(text(SHARED, devices=device)).has_shared_memory()
    assert "private" in defined(share_plan(text(devices=device))).text()


# F16: the small ones.


def test_a_socket_takes_no_idmap() -> None:
    idmap = "<idmap><uid start='0' target='1000' count='10'/><gid start='0' target='100' count='10'/></idmap>"
    has = text(SHARED, devices=filesystem("other", "/srv/other", idmap))
    found = defined(share_plan(has, source=None, socket="/run/x.sock"))
    assert found.shares()["other"]["idmap"] is None
    assert found.share_element("other").find("idmap") is None


def test_a_restart_leaves_no_mark_in_another_tools_domain() -> None:
    for metadata in ("", "<metadata><a xmlns='urn:x'/></metadata>"):
        document = DomainXml(text(metadata))
        before = document.digest()
        document.note_restart(True)
        assert document.restart_pending
        document.note_restart(False)
        assert document.digest() == before


@pytest.mark.parametrize("source", ["/srv/a/", "//srv/a", "/srv//a", "/srv/./a"])
def test_the_same_directory_written_otherwise_is_no_change(source: str) -> None:
    ports = PCIE + PORT.format(1, "")
    has = text(SHARED, devices=ports + filesystem("other", "/srv/a"))
    assert not share_plan(has, running=True, source=source).actions
    assert "AttachShare" in steps(share_plan(has, running=True, source="/srv/b", replug=True))
    other = text(SHARED, devices=ports + filesystem("other", source))
    assert not share_plan(other, running=True, source="/srv/a").actions


def test_the_same_file_written_otherwise_is_no_change() -> None:
    os = "<os><kernel>/srv//k</kernel><initrd>/srv/./i</initrd></os>"
    disks = (
        "<disk type='file' device='disk'><source file='/srv//d'/><target dev='vda' bus='virtio'/></disk>"
        "<disk type='file' device='cdrom'><source file='/srv/./x.iso'/><target dev='sda' bus='sata'/></disk>"
        "<serial type='pty'><log file='//srv/log'/></serial>"
    )
    document = f"<domain type='qemu'><name>vm</name>{os}<devices>{disks}</devices></domain>"
    host = replace(TRIXIE, images={"/srv/d": DiskImage(1, "raw")})
    wanted = {"kernel": "/srv/k", "initrd": "/srv/i", "iso": "/srv/x.iso", "serial_log": "/srv/log"}
    plan = domain_plan(seen(document, running=True), host, disks=[{"path": "/srv/d"}], **wanted)
    assert not {"Define", "CreateDisk", "ChangeMedium"} & set(steps(plan))
    assert not plan.restart_reasons


LONG = "/srv/" + "共" * 30


@pytest.mark.parametrize(
    ("given", "host", "works"),
    [
        ({}, TRIXIE, True),
        ({"read_only": True}, TRIXIE, True),
        ({}, BOOKWORM, True),
        ({"read_only": True}, BOOKWORM, False),
    ],
)
def test_a_long_source_is_refused_only_where_its_name_must_be_a_file_name(
    given: dict[str, Any], host: Host, works: bool
) -> None:
    if works:
        assert steps(share_plan(text(SHARED), host=host, source=LONG, **given)) == ["Define"]
    else:
        with pytest.raises(VirtiofsError, match="source"):
            share_plan(text(SHARED), host=host, source=LONG, **given)


@pytest.mark.parametrize("source", ["/" + "a" * 256, "/srv/" + "a/" * 2100, "/a\x00b", "/a\ud800", "/a\ufffe"])
def test_a_path_that_no_file_has(source: str) -> None:
    with pytest.raises(InvalidInput, match="source"):
        check_share(share("vm", tag="t", source=source))


def test_a_users_own_virtiofsd_is_not_replaced_by_a_wrapper() -> None:
    has = text(SHARED, devices=filesystem("other", "/srv/other", "<binary path='/opt/virtiofsd'/>"))
    with pytest.raises(InvalidInput, match=r"share other: .*/opt/virtiofsd") as caught:
        share_plan(has, cache="metadata")
    assert "cache" in str(caught.value)
    assert steps(share_plan(has, cache="none")) == ["Define"]
    # The one that the collection would use itself is nobody's own: libvirt writes it into a running domain.
    stock = has.replace("/opt/virtiofsd", TRIXIE.virtiofsd.path if TRIXIE.virtiofsd else "")
    assert steps(share_plan(stock, cache="metadata")) == ["WriteWrapper", "Define"]


def test_what_only_the_running_share_has_is_kept() -> None:
    ports = PCIE + PORT.format(1, "") + PORT.format(2, "")
    daemon = "<binary path='/usr/libexec/virtiofsd' xattr='on'/>"
    plugged = filesystem("other", "/srv/other", daemon + "<alias name='fs0'/>").replace(
        "virtiofs'", "virtiofs' queue='512'"
    )
    plan = share_plan(
        text(SHARED, devices=ports),
        running=True,
        live=text(SHARED, devices=ports + plugged),
        cache="none",
        replug=True,
    )
    found = defined(plan).shares()["other"]
    assert (found["queue_size"], found["xattr"], found["cache"]) == (512, True, "none")
    assert "fs0" not in defined(plan).text()
    attached = next(action.xml for action in plan.actions if isinstance(action, AttachShare))
    assert 'queue="512"' in attached


def test_a_name_that_the_user_gave_a_device_is_kept() -> None:
    ports = PCIE + PORT.format(1, "") + PORT.format(2, "")
    inner = filesystem("other", "/srv/other", "<alias name='ua-mine'/>")
    has = text(SHARED, devices=ports + inner)
    plan = share_plan(has, running=True, cache="none", replug=True)
    assert "ua-mine" in next(action.xml for action in plan.actions if isinstance(action, AttachShare))
