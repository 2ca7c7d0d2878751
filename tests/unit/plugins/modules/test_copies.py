# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules and domains that another tool has cloned or renamed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.controller import Controller
from ansible_collections.keystone.virtiofs.plugins.modules import domain, domain_info, domains, share
from ansible_collections.keystone.virtiofs.tests.unit import support

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def wrapped(tmp_path: Path) -> dict[str, Any]:
    """A share that needs a wrapper, which is a file of the domain."""
    (tmp_path / "source").mkdir()
    return {"tag": "data", "source": f"{tmp_path}/source", "cache": "metadata", "read_only": True}


def clone(connection: libvirt.virConnect) -> None:
    """What virt-clone does: everything but name and uuid is copied, metadata included."""
    text = connection.lookupByName("orig").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("'qemu'", "'test'")
    connection.defineXML(re.sub("<uuid>.*</uuid>", "", text).replace("<name>orig<", "<name>dupe<"))


def wrapper(root: Path, name: str) -> Path:
    return root / f".local/share/keystone-virtiofs/domains/{name}/bin/virtiofsd,cache=metadata"


def test_purge_spares_a_clone(run: Run, connection: libvirt.virConnect) -> None:
    run(domain, name="orig")
    clone(connection)
    assert not run(domains, domains=[{"name": "orig"}], purge=True)["changed"]
    facts = run(domain_info)["domains"]
    assert {name: facts[name]["managed"] for name in facts} == {"orig": True, "dupe": False}


def test_a_clone_outlives_its_original(
    run: Run, connection: libvirt.virConnect, tmp_path: Path, wrapped: dict[str, Any]
) -> None:
    run(domain, name="orig", shares=[wrapped])
    clone(connection)
    with Controller("test:///default", check_mode=True) as controller:
        controller.apply_domain(support.domain("orig", state="absent"))
        assert "domain dupe has shares with mounts or wrappers of domain orig" in controller.warnings[0]
    run(domain, name="orig", state="absent")
    assert run(domain, name="dupe", state="running")["actions"] == ["WriteWrapper", "Define", "Start"]
    assert wrapper(tmp_path, "dupe").is_file()
    assert run(domain, name="dupe", state="running")["actions"] == []
    assert run(share, domain="dupe", **wrapped)["actions"] == []


def test_a_clone_is_removed_and_the_original_stays(
    run: Run, connection: libvirt.virConnect, tmp_path: Path, wrapped: dict[str, Any]
) -> None:
    disk = f"{tmp_path}/disk.qcow2"
    run(domain, name="orig", shares=[wrapped], disks=[{"path": disk, "size": 8}])
    clone(connection)
    created = run(domain_info, names=["dupe"])["domains"]["dupe"]["created_disks"]
    assert run(domain, name="dupe", state="absent", remove_storage=created)["actions"] == ["Undefine"]
    assert (Path(disk).is_file(), wrapper(tmp_path, "orig").is_file()) == (True, True)


def test_a_renamed_domain_takes_its_state_along(
    run: Run, connection: libvirt.virConnect, tmp_path: Path, wrapped: dict[str, Any]
) -> None:
    run(domain, name="orig", shares=[wrapped])
    text = connection.lookupByName("orig").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("'qemu'", "'test'")
    connection.lookupByName("orig").undefine()
    connection.defineXML(text.replace("<name>orig<", "<name>dupe<"))
    assert run(domains, domains=[], purge=True)["domains"] == {}
    assert run(domain, name="dupe")["actions"] == ["WriteWrapper", "Define", "RemoveFormerState"]
    assert [wrapper(tmp_path, name).exists() for name in ("orig", "dupe")] == [False, True]
    assert run(domain, name="dupe")["actions"] == []
    assert run(domain, name="dupe", state="absent")["actions"] == ["RemoveState", "Undefine"]
    assert not list((tmp_path / ".local/share/keystone-virtiofs/domains").iterdir())


def test_a_new_domain_of_the_former_name_keeps_its_state(
    run: Run, connection: libvirt.virConnect, tmp_path: Path, wrapped: dict[str, Any]
) -> None:
    run(domain, name="orig", shares=[wrapped])
    text = connection.lookupByName("orig").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace("'qemu'", "'test'")
    connection.lookupByName("orig").undefine()
    connection.defineXML(text.replace("<name>orig<", "<name>dupe<"))
    assert run(domain, name="orig", shares=[wrapped])["changed"]
    assert run(domain, name="dupe")["actions"] == ["WriteWrapper", "Define"]
    assert wrapper(tmp_path, "orig").is_file()
