# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option that has a place in libvirt's XML is written there and read back."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.schema import (
    DISK,
    DOMAIN,
    FORWARD,
    INTERFACE,
    SHARE,
    Field,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.state_paths import (
    ShareBackend,
    bind_path,
    bound_source,
    wrapper_flags,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.network import mac_for
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.tests.unit.support import options

IDS = [{"start": 0, "target": 100000, "count": 1000}, {"start": 1000, "target": 1000, "count": 1}]
IDMAP = {"uid": IDS, "gid": IDS[:1]}
MAC = "52:54:00:00:00:01"
FORWARDS = [{"host_port": 22220, "guest_port": 22}, {"address": "0.0.0.0", "host_port": 80, "guest_port": 8080}]  # noqa: S104

# Every field of the schema, with the values to try; a field without an example fails a test below.
EXAMPLES: dict[str, dict[str, list[Any]]] = {
    "DOMAIN": {
        "memory": [64, 2048, 1048576],
        "vcpus": [1, 4096],
        "virt_type": ["kvm", "qemu"],
        "cpu": ["host-passthrough", "host-model", "maximum", "qemu64"],
        "firmware": ["bios", "uefi"],
        "secure_boot": ["off", "setup", "enrolled"],
        "tpm": [True, False],
        "vsock": [True, False],
        "iso": ["/srv/a b & <c>.iso", ""],
        "kernel": ["/boot/vmlinuz"],
        "initrd": ["/boot/initrd"],
        "cmdline": ["console=ttyS0 a=\"b\" c='d' <&>"],
        "serial_log": ["/var/log/vm.log"],
        "graphics": ["vnc", "spice", "none"],
        "guest_agent": [True, False],
    },
    "SHARE": {
        "tag": ["data", "ünïcode & <odd>"],
        "source": ["/nix/store", "/srv/a b/100%,=#"],
        "socket": ["/run/virtiofsd.sock"],
        "read_only": [True, False],
        "queue_size": [1, 1024],
        "cache": ["none", "auto", "always", "metadata", "store"],
        "xattr": [True, False],
        "sandbox": ["namespace", "chroot"],
        "thread_pool_size": [0, 64],
        "open_files": [65536],
        "posix_lock": [True, False],
        "flock": [True, False],
        "inode_file_handles": ["never", "prefer", "mandatory"],
        "translate_uid": ["squash-guest:0:1000:4294967295"],
        "translate_gid": ["map:0:100:1"],
        "idmap": [IDMAP, {"uid": IDS, "gid": []}],
    },
    "DISK": {
        "path": ["/srv/disk & <1>.qcow2"],
        "pool": ["default"],
        "volume": ["disk.img"],
        "format": ["qcow2", "raw"],
        "bus": ["virtio", "sata"],
        "read_only": [True, False],
        "pmem": [True, False],
    },
    "INTERFACE": {
        "type": ["network", "bridge", "user"],
        "source": ["lan"],
        "mac": ["52:54:00:12:34:56"],
        "model": ["virtio", "e1000e"],
        "forwards": [FORWARDS],
        "restrict": [True, False],
    },
    "FORWARD": {
        "address": ["127.0.0.1", "192.0.2.1"],
        "host_port": [1, 65535],
        "guest_port": [22],
    },
}
# These have no place in the domain's XML: they are used when a disk or a plan is made.
PLACELESS = {"size", "backing", "backing_format", "next_free", "nosuid"}
# What libvirt has no word for is not in XML at all; virt_type auto is decided before.
UNWRITTEN = {("virt_type", "auto")}
FIELDS = {"DOMAIN": DOMAIN, "SHARE": SHARE, "DISK": DISK, "INTERFACE": INTERFACE, "FORWARD": FORWARD}
REALISATIONS = [
    pytest.param(ShareBackend("vm"), id="readonly-element"),
    pytest.param(ShareBackend("vm", read_only_element=False), id="bind-mount"),
]


def examples(group: str) -> list[Any]:
    return [
        pytest.param(option, value, id=f"{option}={value}")
        for option, values in EXAMPLES[group].items()
        for value in values
    ]


def field_of(group: str, option: str) -> Field:
    return next(field for field in FIELDS[group] if field.option == option)


def reparsed(document: DomainXml) -> DomainXml:
    return DomainXml(document.text())


@pytest.mark.parametrize("group", FIELDS)
def test_every_field_and_every_choice_has_an_example(group: str) -> None:
    known = {field.option: field.choices for field in FIELDS[group] if field.option not in PLACELESS}
    assert set(EXAMPLES[group]) == set(known)
    for option, choices in known.items():
        missing = set(choices) - set(EXAMPLES[group][option] if choices else ())
        assert missing <= {value for name, value in UNWRITTEN if name == option}, option


@pytest.mark.parametrize(("option", "value"), examples("DOMAIN"))
def test_domain_option(option: str, value: Any) -> None:
    document = DomainXml.skeleton("vm", "x86_64")
    field = field_of("DOMAIN", option)
    field.write(document.root, value)
    assert field.read(reparsed(document).root) == value
    # Written over any other value, the result is the same.
    for other in EXAMPLES["DOMAIN"][option]:
        changed = reparsed(document)
        field.write(changed.root, other)
        field.write(changed.root, value)
        assert field.read(changed.root) == value


@pytest.mark.parametrize("how", REALISATIONS)
@pytest.mark.parametrize(("option", "value"), examples("SHARE"))
def test_share_option(option: str, value: Any, how: ShareBackend) -> None:
    wanted = {"tag": "data", **({} if option == "socket" else {"source": "/srv"}), option: value}
    document = DomainXml.skeleton("vm", "x86_64")
    document.set_share(wanted, how)
    assert reparsed(document).shares()[wanted["tag"]][option] == value
    for other in EXAMPLES["SHARE"][option]:
        if option != "tag":
            document.set_share({**wanted, option: other}, how)
            document.set_share(wanted, how)
            assert list(reparsed(document).shares()) == [wanted["tag"]]
            assert reparsed(document).shares()[wanted["tag"]][option] == value


@pytest.mark.parametrize("how", REALISATIONS)
def test_all_share_options_together(how: ShareBackend) -> None:
    wanted = {option: values[0] for option, values in EXAMPLES["SHARE"].items() if option != "socket"}
    document = DomainXml.skeleton("vm", "x86_64")
    document.set_share({**wanted, "cache": "metadata"}, how)
    found = reparsed(document).shares()["data"]
    assert found == {**wanted, "cache": "metadata", "socket": None}


def test_a_share_moves_to_a_socket_and_back() -> None:
    document = DomainXml.skeleton("vm", "x86_64")
    document.set_share({"tag": "data", "source": "/srv", "read_only": True, "cache": "metadata"}, ShareBackend("vm"))
    document.set_share({"tag": "data", "source": None, "socket": "/run/s"}, ShareBackend("vm"))
    share = reparsed(document).shares()["data"]
    assert (share["source"], share["socket"], share["read_only"]) == (None, "/run/s", False)
    assert document.share_element("data").find("binary") is None
    document.set_share({"tag": "data", "source": "/srv", "socket": None}, ShareBackend("vm"))
    share = reparsed(document).shares()["data"]
    assert (share["source"], share["socket"]) == ("/srv", None)


@pytest.mark.parametrize(("option", "value"), examples("DISK"))
def test_disk_option(option: str, value: Any) -> None:
    wanted = {"pool": "default", "volume": "x"} if option in ("pool", "volume") else {"path": "/srv/x"}
    document = DomainXml.skeleton("vm", "x86_64")
    document.add_disk({**wanted, option: value})
    assert reparsed(document).disks()[0][option] == value


@pytest.mark.parametrize(("option", "value"), examples("INTERFACE"))
def test_interface_option(option: str, value: Any) -> None:
    wanted = {
        "mac": MAC,
        "model": "virtio",
        **({"type": "user"} if option in ("forwards", "restrict") else {}),
        option: value,
    }
    if wanted.get("type") != "user":
        wanted = {"source": "default", **wanted}
    interface = options(INTERFACE, wanted)
    for forward in interface["forwards"] or ():
        del forward["next_free"]
    document = DomainXml.skeleton("vm", "x86_64")
    document.set_interfaces([interface])
    assert reparsed(document).interfaces() == [
        {**interface, "forwards": interface["forwards"] or [], "restrict": bool(interface["restrict"])}
    ]


@pytest.mark.parametrize(("option", "value"), examples("FORWARD"))
def test_forward_option(option: str, value: Any) -> None:
    forward = {"address": "127.0.0.1", "host_port": 2222, "guest_port": 22, option: value}
    interface = {**options(INTERFACE, {"type": "user", "mac": MAC, "model": "virtio"}), "forwards": [forward]}
    document = DomainXml.skeleton("vm", "x86_64")
    document.set_interfaces([interface])
    assert reparsed(document).interfaces()[0]["forwards"] == [forward]


# What reading must cope with.


@pytest.mark.parametrize(
    ("xml", "mib"),
    [
        ("<memory>2097152</memory>", 2048),
        ("<memory unit='KiB'>2097152</memory>", 2048),
        ("<memory unit='GiB'>2</memory>", 2048),
        ("<memory unit='b'>1073741824</memory>", 1024),
        ("<memory unit='GB'>1</memory>", 953),
        ("<memory/>", None),
        ("", None),
    ],
)
def test_units_of_memory(xml: str, mib: int | None) -> None:
    assert DomainXml(f"<domain>{xml}</domain>").options()["memory"] == mib


def test_a_guest_gets_all_of_its_new_memory() -> None:
    """libvirt keeps the balloon's size apart: left behind, it would hold the guest at what it had."""
    document = DomainXml("<domain><memory>2097152</memory><currentMemory>1048576</currentMemory></domain>")
    field_of("DOMAIN", "memory").write(document.root, 4096)
    assert document.root.find("currentMemory") is None


def test_topology_and_cells_stay_when_the_cpu_model_changes() -> None:
    document = DomainXml("<domain><cpu mode='host-model'><topology cores='2'/><numa><cell/></numa></cpu></domain>")
    field_of("DOMAIN", "cpu").write(document.root, "qemu64")
    assert [element.tag for element in document.root.find("cpu")] == ["topology", "numa", "model"]


def test_a_log_gets_a_serial_port_that_libvirt_takes() -> None:
    document = DomainXml("<domain/>")  # a user's own XML, without one
    field_of("DOMAIN", "serial_log").write(document.root, "/var/log/vm.log")
    assert document.root.find("devices/serial").get("type") == "pty"


def test_there_are_names_for_more_than_26_disks() -> None:
    document = DomainXml.skeleton("vm", "x86_64")
    for number in range(30):
        document.add_disk({"path": f"/srv/{number}"})
    assert [disk["target"] for disk in document.disks()][24:28] == ["vdy", "vdz", "vdaa", "vdab"]


@pytest.mark.parametrize(
    ("backing", "cells", "shared"),
    [
        ("", "", False),
        ("<source type='memfd'/>", "", False),
        ("<source type='memfd'/><access mode='shared'/>", "", True),
        ("<access mode='shared'/>", "", True),
        ("<access mode='private'/>", "", False),
        ("<access mode='shared'/>", "<cell/><cell/>", True),
        ("<access mode='shared'/>", "<cell/><cell memAccess='private'/>", False),
        ("", "<cell memAccess='shared'/><cell memAccess='shared'/>", True),
        ("", "<cell memAccess='shared'/><cell/>", False),
        ("<access mode='private'/>", "<cell memAccess='shared'/>", True),
    ],
)
def test_shared_memory(backing: str, cells: str, shared: bool) -> None:
    text = f"<domain><memoryBacking>{backing}</memoryBacking><cpu><numa>{cells}</numa></cpu></domain>"
    document = DomainXml(text)
    assert document.has_shared_memory() is shared
    document.share_memory()
    assert document.has_shared_memory()


def test_hugepages_stay_when_memory_becomes_shared() -> None:
    document = DomainXml("<domain><memoryBacking><hugepages/><source type='file'/></memoryBacking></domain>")
    document.share_memory()
    text = document.text()
    assert "<hugepages/>" in text
    assert '<source type="file"/>' in text


@pytest.mark.parametrize("source", ["/nix/store", "/", "/a b/100%/ü", "/x,y=z"])
def test_a_bind_mount_tells_its_source(source: str) -> None:
    path = bind_path(ShareBackend("my vm"), source)
    assert bound_source(path) == source
    assert path.count("/") == "/var/lib/keystone-virtiofs/domains/my vm/ro/x".count("/")


@pytest.mark.parametrize(
    "path", [None, "", "/usr/libexec/virtiofsd", "/srv/ro/%2Fnix", "/x/keystone-virtiofs/domains/vm/ro/a/b"]
)
def test_other_paths_are_no_bind_mounts_and_no_wrappers(path: str | None) -> None:
    assert bound_source(path or "") is None
    assert wrapper_flags(path) == {}


def test_another_tools_virtiofsd_stays() -> None:
    document = DomainXml(
        "<domain><devices><filesystem><driver type='virtiofs'/><binary path='/opt/virtiofsd'/>"
        "<source dir='/srv'/><target dir='data'/></filesystem></devices></domain>"
    )
    document.set_share({"tag": "data", "cache": "none"}, ShareBackend("vm"))
    assert document.share_paths() == {"data": ("/srv", "/opt/virtiofsd")}
    assert document.shares()["data"]["cache"] == "none"


def test_shares_of_other_drivers_are_not_ours() -> None:
    document = DomainXml(
        "<domain><devices><filesystem><source dir='/srv'/><target dir='9p'/></filesystem></devices></domain>"
    )
    assert document.shares() == {}


def test_a_mac_is_stable_and_unicast() -> None:
    assert mac_for("vm", 0) == mac_for("vm", 0) != mac_for("vm", 1)
    assert mac_for("vm", 0).startswith("52:54:00:")


def test_foreign_qemu_arguments_stay() -> None:
    document = DomainXml(
        "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:commandline>"
        "<qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/x,string=y'/></qemu:commandline></domain>"
    )
    interface = {
        "type": "user",
        "source": None,
        "mac": "52:54:00:00:00:01",
        "model": "virtio",
        "forwards": [{"address": "127.0.0.1", "host_port": 1, "guest_port": 2}],
        "restrict": False,
    }
    before = document.digest()
    document.set_interfaces([interface])
    document.set_interfaces([{**interface, "mac": "52:54:00:00:00:02"}])
    assert [found["mac"] for found in document.interfaces()] == ["52:54:00:00:00:02"]
    document.set_interfaces([])
    assert document.digest() == before


# What is refused.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<domain>", "malformed"),
        ("", "malformed"),
        ("not XML", "malformed"),
        ("<network/>", "is a <network>"),
        ("<!DOCTYPE domain [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain><name>&e;</name></domain>", "DOCTYPE"),
        ("<!DOCTYPE domain [<!ENTITY a 'x'><!ENTITY b '&a;&a;'>]><domain>&b;</domain>", "DOCTYPE"),
        ("<domain><name>&undeclared;</name></domain>", "malformed"),
    ],
)
def test_bad_xml_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        DomainXml(text, origin="the xml option")
    assert "root:" not in str(caught.value)
    assert "the xml option" in str(caught.value)


def test_the_digest_ignores_what_means_nothing() -> None:
    one = DomainXml("<domain type='kvm' id='1'><!-- mine --><name>a</name></domain>")
    other = DomainXml("<domain id='1'   type='kvm'>\n  <name>a</name>\n</domain>")
    assert one.digest() == other.digest()
    assert one.digest() != DomainXml("<domain type='kvm' id='1'><name>b</name></domain>").digest()
