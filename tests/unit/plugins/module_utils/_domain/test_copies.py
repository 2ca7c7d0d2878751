# SPDX-License-Identifier: GPL-3.0-or-later
"""Clones and renamed domains: virt-clone and virsh domrename copy the collection's mark and its paths as well."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    BindReadOnly,
    Define,
    Host,
    Observed,
    Plan,
    RemoveFormerState,
    WriteWrapper,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain, plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.unit.support import BOOKWORM, TRIXIE, domain, share, steps

STATE = "/var/lib/keystone-virtiofs/domains"
READ_ONLY = {"tag": "data", "source": "/srv/data", "read_only": True}
WRAPPED = {"tag": "data", "source": "/srv/data", "inode_file_handles": "prefer"}
MINE = "<domain type='qemu'><memory unit='MiB'>256</memory><os><type>hvm</type></os></domain>"
OTHER_UUID = "99999999-8888-7777-6666-555555555555"


def original(host: Host = TRIXIE, **given: Any) -> DomainXml:
    return definition(plan_domain(domain("orig", **given), Observed("orig"), host))


def definition(plan: Plan) -> DomainXml:
    return next(action.document for action in plan.actions if isinstance(action, Define))


def renamed(document: DomainXml, name: str = "dupe") -> DomainXml:
    return DomainXml(document.text().replace("<name>orig</name>", f"<name>{name}</name>"))


def cloned(document: DomainXml) -> DomainXml:
    return DomainXml(re.sub("<uuid>.*</uuid>", f"<uuid>{OTHER_UUID}</uuid>", renamed(document).text()))


def seen(document: DomainXml, **more: Any) -> Observed:
    return Observed(document.name or "", persistent=document, run_state="stopped", **more)


def test_a_mark_belongs_to_the_domain_with_its_uuid() -> None:
    document = original(disks=[{"path": "/srv/a.qcow2", "size": 8}], xml=MINE, hotplug_ports=2)
    document.note_restart(True)
    assert document.is_managed
    assert document.created_disks() == ["/srv/a.qcow2"]
    assert None not in (document.template, document.uuid)
    clone = cloned(document)
    assert not clone.is_managed
    assert clone.created_disks() == []
    assert (clone.template, clone.wished_ports, clone.restart_pending, clone.former_name) == (None, None, False, None)


def test_a_uuid_is_the_same_however_it_is_written() -> None:
    document = original(xml=MINE.replace("<memory", "<uuid>0E9A4E5B4B6B4D6C9D535A2F8F5B7C11</uuid><memory"))
    as_libvirt_writes = re.sub("<uuid>.*</uuid>", "<uuid>0e9a4e5b-4b6b-4d6c-9d53-5a2f8f5b7c11</uuid>", document.text())
    assert DomainXml(as_libvirt_writes).is_managed


def test_a_task_on_a_clone_does_not_make_it_the_collections() -> None:
    clone = cloned(original())
    plan = plan_domain(domain("dupe", memory=256, hotplug_ports=2), seen(clone), TRIXIE)
    assert not definition(plan).is_managed
    assert definition(plan).text().count("<keystone:domain") == 1


def test_a_renamed_domain_is_not_the_collections_but_keeps_what_is_known_of_it() -> None:
    document = renamed(original(disks=[{"path": "/srv/a.qcow2", "size": 8}]))
    assert not document.is_managed
    assert document.former_name == "orig"
    assert document.created_disks() == ["/srv/a.qcow2"]


@pytest.mark.parametrize("copy", [cloned, renamed])
@pytest.mark.parametrize(
    ("host", "given", "kind", "path"),
    [
        (BOOKWORM, READ_ONLY, BindReadOnly, "dupe/ro/%2Fsrv%2Fdata"),
        (TRIXIE, WRAPPED, WriteWrapper, "dupe/bin/virtiofsd,inode-file-handles=prefer"),
    ],
)
@pytest.mark.parametrize("task", ["state", "share", "other share"])
def test_a_copy_gets_state_of_its_own(copy: Any, host: Host, given: Any, kind: type, path: str, task: str) -> None:
    document = copy(original(host, shares=[given]))

    def plan(copied: DomainXml, where: Host) -> Plan:
        if task == "state":
            return plan_domain(domain("dupe"), seen(copied), where)
        wanted = share("dupe", **given) if task == "share" else share("dupe", "other", state="absent")
        return plan_share(wanted, seen(copied), where)

    first = plan(document, host)
    assert [type(action) for action in first.actions] == [kind, Define]
    after = definition(first)
    assert f"{STATE}/orig" not in after.text()
    assert f"{STATE}/{path}" in after.text()
    assert after.shares() == document.shares()
    made = replace(host, binds={f"{STATE}/{path}": True}, wrappers={f"{STATE}/{path}": True})
    used = replace(made, **{"binds" if kind is WriteWrapper else "wrappers": {}})
    assert plan(after, used).actions == []


def test_a_running_copy_leaves_the_originals_mounts_alone() -> None:
    document = cloned(original(BOOKWORM, shares=[READ_ONLY]))
    running = Observed("dupe", persistent=document, live=document.copy(), run_state="running")
    plan = plan_domain(domain("dupe", state="running"), running, BOOKWORM)
    assert steps(plan) == ["BindReadOnly", "Define"]
    assert plan.restart_reasons == []


def test_a_clone_is_removed_without_the_originals_state() -> None:
    clone = cloned(original(BOOKWORM, shares=[READ_ONLY]))
    assert steps(plan_domain(domain("dupe", state="absent"), seen(clone), BOOKWORM)) == ["Undefine"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_what_a_renamed_domain_left_under_its_former_name_is_removed(state: str) -> None:
    document = renamed(original(BOOKWORM, shares=[READ_ONLY]))
    left = replace(BOOKWORM, former_state="orig")
    plan = plan_domain(domain("dupe", state=state), seen(document), left)
    assert RemoveFormerState("orig") in plan.actions


def test_what_a_running_renamed_domain_uses_stays() -> None:
    document = renamed(original(BOOKWORM, shares=[READ_ONLY]))
    running = Observed("dupe", persistent=document, live=document.copy(), run_state="running")
    plan = plan_domain(domain("dupe", state="running"), running, replace(BOOKWORM, former_state="orig"))
    assert steps(plan) == ["BindReadOnly", "Define"]


def test_a_renamed_domain_keeps_nosuid() -> None:
    document = renamed(original(shares=[{"tag": "data", "source": "/srv/data"}]))
    host = replace(TRIXIE, former_state="orig", ignores_setuid=frozenset(), nosuid={"/srv/data": False})
    plan = plan_domain(domain("dupe"), seen(document), host)
    assert steps(plan) == ["MountNosuid", "RemoveFormerState"]
