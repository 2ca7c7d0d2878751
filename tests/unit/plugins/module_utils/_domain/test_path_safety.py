# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of the host a domain may use, by table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import path_safety
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    Define,
    DiskImage,
    Host,
    MountNosuid,
    Observed,
    Plan,
    UnmountNosuid,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.path_safety import PathUse, check_path_safety
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain, plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.tests.unit.support import BOOKWORM, TRIXIE, domain, share

PROJECT = {"tag": "project", "source": "/srv/project"}
SETUID = replace(TRIXIE, ignores_setuid=frozenset())


def source(domain: str, path: str, *, writable: bool = False) -> PathUse:
    return PathUse(domain, "source", path, path, "data", writable)


def refusal(new: list[PathUse], others: list[PathUse]) -> str:
    """What is said about the paths; empty where they are accepted."""
    try:
        check_path_safety(new, others)
    except InvalidInput as error:
        return f"{error}" if error.fix else "no fix"
    return ""


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/etc",
            "/etc/ssh",
            "/root",
            "/root/.ssh",
            "/home",
            "/boot",
            "/dev",
            "/dev/shm",
            "/proc",
            "/proc/1",
            "/sys",
        ),
        *("/run", "/run/libvirt", "/var", "/var/lib", "/var/log", "/var/lib/libvirt/images", "/tmp", "/var/tmp"),
        *("/var/lib/keystone-virtiofs", "/var/lib/keystone-virtiofs/domains", "/var/lib/keystone-virtiofs/guests/ssh"),
        *("/var/lib/keystone-virtiofs/domains/other/view/store", "/var/lib/keystone-virtiofs/domains/vm"),
    ],
)
@pytest.mark.parametrize("writable", [True, False])
def test_system_directories_are_refused(path: str, writable: bool) -> None:
    assert "is a system directory" in refusal([source("vm", path, writable=writable)], [])


@pytest.mark.parametrize("path", ["/usr", "/usr/share/misc", "/nix", "/nix/store", "/nix/var/nix", "/bin", "/lib64"])
def test_programs_of_the_host_are_only_read(path: str) -> None:
    assert refusal([source("vm", path)], []) == ""
    assert "must not be shared writable" in refusal([source("vm", path, writable=True)], [])


@pytest.mark.parametrize(
    "path",
    [
        *("/srv", "/srv/project", "/home/alice/project", "/data", "/mnt/disk", "/opt/app", "/var/lib/app", "/etcetera"),
        *("/rooted", "/var/lib/keystone-virtiofs/database", "/var/lib/keystone-virtiofs/domains/vm/view/store"),
    ],
)
def test_other_directories_are_fine(path: str) -> None:
    assert refusal([source("vm", path, writable=True)], []) == ""


@pytest.mark.parametrize("what", ["disk", "iso", "kernel", "initrd", "backing", "serial_log", "source"])
@pytest.mark.parametrize("other", ["vm", "web"])
def test_nothing_lies_where_a_guest_may_write(what: str, other: str) -> None:
    inner = PathUse("vm", what, "/srv/project/x", "/srv/project/x", "inner" if what == "source" else None)
    said = refusal([inner], [source(other, "/srv/project", writable=True)])
    assert f"{what} /srv/project/x is inside /srv/project" in said
    assert ("of domain web" in said) is (other == "web")
    assert refusal([inner], [source(other, "/srv/project")]) == ""
    assert refusal([inner], [source(other, "/srv/projects", writable=True)]) == ""


def test_a_new_writable_share_must_not_hold_what_others_use() -> None:
    disk = PathUse("web", "disk", "/srv/project/web.qcow2", "/srv/project/web.qcow2")
    said = refusal([source("vm", "/srv/project", writable=True)], [disk])
    assert "disk /srv/project/web.qcow2 of domain web is inside /srv/project" in said
    assert refusal([source("vm", "/srv/project")], [disk]) == ""


@pytest.mark.parametrize("what", ["source", "disk", "kernel"])
def test_a_link_on_the_way_must_not_be_the_guests(what: str) -> None:
    """The guest would point it elsewhere after the check."""
    way = ("/srv", "/srv/project", "/srv/project/link", "/data")
    used = PathUse("vm", what, "/srv/project/link", "/data", way=way)
    project = source("web", "/srv/project", writable=True)
    assert f"{what} /srv/project/link leads through /srv/project" in refusal([used], [project])
    assert f"{what} /srv/project/link of domain vm leads through" in refusal([project], [used])
    assert refusal([used], [source("web", "/srv/project")]) == ""
    # The guest cannot replace the shared directory itself.
    neighbour = PathUse("vm", what, "/srv/project/../data", "/data", way=("/srv", "/srv/project", "/data"))
    assert refusal([neighbour], [project]) == ""


def test_the_way_to_a_path_is_that_of_the_host() -> None:
    host = replace(SETUID, real_paths={"/srv/link": "/data"}, ways={"/srv/link": ("/srv", "/srv/project/x", "/data")})
    with pytest.raises(InvalidInput, match="leads through /srv/project"):
        plan_new(host, shares=[PROJECT, {"tag": "led", "source": "/srv/link", "read_only": True}])


def plan_new(host: Host = TRIXIE, **given: Any) -> Plan:
    return plan_domain(domain(**given), Observed("vm"), host)


@pytest.mark.parametrize(
    "given",
    [
        {"disks": [{"path": "/srv/project/disk", "size": 1}]},
        {"iso": "/srv/project/x.iso"},
        {"kernel": "/srv/project/vmlinuz"},
        {"kernel": "/boot2/vmlinuz", "initrd": "/srv/project/initrd"},
        {"serial_log": "/srv/project/log"},
        {"disks": [{"path": "/srv/disk", "backing": "/srv/project/base"}]},
    ],
)
def test_a_domain_does_not_use_files_that_its_own_guest_may_write(given: dict[str, Any]) -> None:
    host = replace(TRIXIE, images={"/srv/project/base": DiskImage(1, "raw")})
    with pytest.raises(InvalidInput, match="is inside /srv/project"):
        plan_new(host, shares=[PROJECT], **given)
    assert plan_new(host, shares=[PROJECT], allow_unsafe_paths=True, **given).new_paths
    assert plan_new(host, shares=[{**PROJECT, "read_only": True}], **given).new_paths


def test_what_a_domain_has_already_is_not_questioned() -> None:
    document = DomainXml(
        "<domain type='kvm'><name>vm</name><memory>1</memory><devices><filesystem type='mount'>"
        "<driver type='virtiofs'/><source dir='/etc'/><target dir='old'/></filesystem></devices></domain>"
    )
    observed = Observed("vm", persistent=document, run_state="stopped")
    plan = plan_domain(domain(memory=512), observed, TRIXIE)
    assert plan.new_paths == []
    plan = plan_domain(domain(shares=[PROJECT]), observed, TRIXIE)
    assert [use.path for use in plan.new_paths] == ["/srv/project"]


def test_every_path_of_a_definition_is_seen() -> None:
    host = replace(TRIXIE, images={})
    plan = plan_new(
        host,
        shares=[{**PROJECT, "read_only": True}],
        disks=[{"path": "/srv/a", "size": 1}],
        **{option: f"/srv/{option}" for option in ("iso", "kernel", "initrd", "serial_log")},
    )
    assert {use.what for use in plan.new_paths} == {"source", "disk", "iso", "kernel", "initrd", "serial_log"}
    assert {use.what for use in plan.new_paths} == path_safety.OPTIONS - {"backing"}


# What the collection keeps on the host, and what only looks like it.

FOREIGN = """<domain type="qemu"><name>vm</name><memory>1024</memory><os><type>hvm</type></os><devices>
<filesystem type="mount"><driver type="virtiofs"/><binary path="%s"/><source dir="%s"/><target dir="data"/></filesystem>
</devices></domain>"""


@pytest.mark.parametrize(
    "root",
    ["/srv/project/keystone-virtiofs", "/srv/x/var/lib/keystone-virtiofs", "/srv/.local/share/keystone-virtiofs"],
)
def test_a_path_elsewhere_that_looks_like_a_bind_mount_is_none(root: str) -> None:
    source, daemon = f"{root}/domains/vm/ro/%2Fetc", f"{root}/domains/vm/bin/virtiofsd,cache=metadata"
    observed = Observed("vm", persistent=DomainXml(FOREIGN % (daemon, source)), run_state="stopped")
    assert observed.persistent is not None
    found = observed.persistent.shares()["data"]
    if "/.local/share/" not in root:  # where the state of a session may be
        assert (found["source"], found["read_only"], found["cache"]) == (source, False, "auto")
    plan = plan_domain(domain(memory=512), observed, TRIXIE)
    assert [type(action).__name__ for action in plan.actions] == ["Define"]


# A source that belongs to another user than root.

ALICES = replace(SETUID, owners={"/srv/project": (1000, 100)})
SQUASHED = ("squash-guest:0:1000:4294967295", "squash-guest:0:100:4294967295")


def owners(plan: Plan) -> tuple[str | None, str | None]:
    """How the share that a plan defines translates users and groups."""
    (document,) = (action.document for action in plan.actions if isinstance(action, Define))
    share = document.shares()["project"]
    return share["translate_uid"], share["translate_gid"]


@pytest.mark.parametrize(
    ("given", "host", "expected"),
    [
        ({}, ALICES, SQUASHED),
        ({"nosuid": True}, ALICES, SQUASHED),
        ({"source": "/srv/link"}, replace(ALICES, real_paths={"/srv/link": "/srv/project"}), SQUASHED),
        ({}, SETUID, (None, None)),
        ({"nosuid": False}, ALICES, (None, None)),
        ({"read_only": True}, ALICES, (None, None)),
        ({"translate_uid": "map:0:5:1"}, ALICES, ("map:0:5:1", None)),
        ({}, replace(ALICES, ignores_setuid=frozenset({"/srv/project"})), (None, None)),
        ({}, replace(ALICES, session=True), (None, None)),
        ({}, replace(ALICES, virtiofsd=BOOKWORM.virtiofsd), (None, None)),
    ],
)
def test_a_users_directory_keeps_its_owner(given: dict[str, Any], host: Host, expected: tuple[Any, Any]) -> None:
    """Otherwise the guest's root could leave root's setuid programs there, which the user can move elsewhere."""
    assert owners(plan_new(host, shares=[{**PROJECT, **given}])) == expected


@pytest.mark.parametrize("plan", [plan_domain, plan_share])
@pytest.mark.parametrize(
    ("before", "given", "expected"),
    [
        ({}, {"queue_size": 64}, (None, None)),
        ({"source": "/srv/b"}, {}, SQUASHED),
        ({"read_only": True}, {"read_only": False}, SQUASHED),
        ({"read_only": True}, {"queue_size": 64}, (None, None)),
    ],
)
def test_an_owner_is_kept_from_the_first_time_that_a_guest_may_write(
    plan: Any, before: dict[str, Any], given: dict[str, Any], expected: tuple[Any, Any]
) -> None:
    observed = defined(shares=[{**PROJECT, **before}])
    wanted = {**PROJECT, **given}
    task = domain(shares=[wanted]) if plan is plan_domain else share(**wanted)
    assert owners(plan(task, observed, ALICES)) == expected


# The mount with nosuid.


def nosuid(plan: Plan) -> list[tuple[str, str]]:
    """The mounts that a plan makes and removes."""
    return [
        (type(action).__name__.removesuffix("Nosuid"), action.source)
        for action in plan.actions
        if isinstance(action, (MountNosuid, UnmountNosuid))
    ]


@pytest.mark.parametrize(
    ("given", "host", "expected"),
    [
        ({}, SETUID, [("Mount", "/srv/project")]),
        ({"nosuid": True}, SETUID, [("Mount", "/srv/project")]),
        ({"nosuid": False}, SETUID, []),
        ({"read_only": True}, SETUID, []),
        ({}, TRIXIE, []),
        ({}, replace(SETUID, ignores_setuid=frozenset({"/srv/project"})), []),
        ({}, replace(SETUID, session=True), []),
        ({}, replace(SETUID, local=False), []),
        ({"source": "/srv/link"}, replace(SETUID, real_paths={"/srv/link": "/data"}), [("Mount", "/data")]),
    ],
)
def test_a_new_writable_source_is_mounted_with_nosuid(
    given: dict[str, Any], host: Host, expected: list[tuple[str, str]]
) -> None:
    assert nosuid(plan_new(host, shares=[{**PROJECT, **given}])) == expected


def test_it_stays_until_the_share_goes() -> None:
    observed = defined(shares=[PROJECT])
    host = replace(SETUID, nosuid={"/srv/project": True})
    assert nosuid(plan_domain(domain(shares=[PROJECT]), observed, host)) == []
    assert nosuid(plan_domain(domain(memory=512), observed, host)) == []
    incomplete = replace(host, nosuid={"/srv/project": False})
    assert nosuid(plan_domain(domain(), observed, incomplete)) == [("Mount", "/srv/project")]
    off = [{**PROJECT, "nosuid": False}]
    assert nosuid(plan_domain(domain(shares=off), observed, host)) == [("Unmount", "/srv/project")]
    gone = share(tag="project", state="absent")
    assert nosuid(plan_share(gone, observed, host)) == [("Unmount", "/srv/project")]
    assert nosuid(plan_domain(domain(state="absent"), observed, host)) == [("Unmount", "/srv/project")]
    elsewhere = share(tag="project", source="/srv/other")
    moved = [("Mount", "/srv/other"), ("Unmount", "/srv/project")]
    assert nosuid(plan_share(elsewhere, observed, host)) == moved
    assert nosuid(plan_domain(domain(shares=[{**PROJECT, "source": "/srv/other"}]), observed, host)) == moved


def defined(**given: Any) -> Observed:
    """A stopped domain that an earlier task made."""
    plan = plan_new(SETUID, **given)
    document = next(action.document for action in plan.actions if hasattr(action, "document"))
    return Observed("vm", persistent=document, run_state="stopped")


@pytest.mark.parametrize("plan", [plan_domain, plan_share])
@pytest.mark.parametrize(
    ("before", "given", "expected"),
    [
        pytest.param({"nosuid": False}, {"source": "/srv/b"}, [("Mount", "/srv/b")], id="source"),
        pytest.param({}, {"source": "/srv/b", "nosuid": False}, [("Unmount", "/srv/project")], id="source-asked-off"),
        pytest.param({}, {"source": "/srv/b", "read_only": True}, [("Unmount", "/srv/project")], id="to-read-only"),
        pytest.param({"read_only": True}, {"read_only": False}, [("Mount", "/srv/project")], id="writable"),
        pytest.param({"read_only": True}, {"read_only": False, "nosuid": False}, [], id="writable-asked-off"),
        pytest.param({"nosuid": False}, {"queue_size": 64}, [], id="same-source"),
        pytest.param({"nosuid": False}, {"source": "/srv/link"}, [], id="same-source-by-another-path"),
    ],
)
def test_a_source_that_becomes_writable_is_mounted_with_nosuid(
    plan: Any, before: dict[str, Any], given: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    mounted = not before and {"/srv/project": True}
    host = replace(SETUID, nosuid=mounted or {}, real_paths={"/srv/link": "/srv/project"})
    observed = defined(shares=[{**PROJECT, **before}])
    wanted = {**PROJECT, **given}
    task = domain(shares=[wanted]) if plan is plan_domain else share(**wanted)
    assert nosuid(plan(task, observed, host)) == expected


def test_a_source_without_nosuid_that_still_runs_stays_so() -> None:
    """The definition has another source already, which the guest gets at its next start."""
    earlier = defined(shares=[{**PROJECT, "nosuid": False}])
    moved = {**PROJECT, "source": "/srv/b"}
    later = replace(defined(shares=[moved]), live=earlier.persistent, run_state="running")
    host = replace(SETUID, nosuid={"/srv/b": True})
    assert nosuid(plan_domain(domain(shares=[moved]), later, host)) == []
    assert nosuid(plan_share(share(**moved), later, host)) == []


@pytest.mark.parametrize("task", [domain(shares=[{**PROJECT, "source": "/srv/link"}]), domain(memory=512)])
def test_a_link_that_leads_elsewhere_now_gets_a_mount_there(task: Any) -> None:
    """The earlier directory keeps its mount while the running domain serves it."""
    stopped = defined(shares=[{**PROJECT, "source": "/srv/link"}])
    running = replace(stopped, live=stopped.persistent, run_state="running")
    turned = replace(SETUID, nosuid={"/srv/first": True}, real_paths={"/srv/link": "/srv/second"})
    stale = replace(turned, stale_shares=frozenset({"project"}))
    both = replace(stale, nosuid={"/srv/first": True, "/srv/second": True})
    moved = [("Mount", "/srv/second"), ("Unmount", "/srv/first")]
    assert nosuid(plan_domain(task, stopped, turned)) == moved
    assert nosuid(plan_domain(task, running, stale)) == moved[:1]
    assert nosuid(plan_domain(task, running, both)) == []
    assert nosuid(plan_domain({**task, "restart": "if_required"}, running, stale)) == moved


def test_the_mount_of_a_source_that_two_shares_have_stays_for_the_other() -> None:
    twice = [PROJECT, {**PROJECT, "tag": "again"}]
    observed = defined(shares=twice, allow_unsafe_paths=True)
    host = replace(SETUID, nosuid={"/srv/project": True})
    assert nosuid(plan_share(share(tag="again", state="absent"), observed, host)) == []
    moved = share(tag="again", source="/srv/b")
    assert nosuid(plan_share(moved, observed, host)) == [("Mount", "/srv/b")]
    off = share(**PROJECT, nosuid=False, allow_unsafe_paths=True)
    assert nosuid(plan_share(off, observed, host)) == []


def test_the_mount_stays_while_the_running_domain_uses_the_old_source() -> None:
    observed = defined(shares=[PROJECT])
    live = replace(observed, live=observed.persistent, run_state="running")
    host = replace(SETUID, nosuid={"/srv/project": True})
    moved = domain(shares=[{**PROJECT, "source": "/srv/b"}])
    assert nosuid(plan_domain(moved, live, host)) == [("Mount", "/srv/b")]


def test_a_share_of_another_tool_is_left_as_it_is() -> None:
    observed = defined(shares=[{**PROJECT, "nosuid": False}])
    assert nosuid(plan_domain(domain(shares=[PROJECT]), observed, SETUID)) == []
    asked = domain(shares=[{**PROJECT, "nosuid": True}])
    assert nosuid(plan_domain(asked, observed, SETUID)) == [("Mount", "/srv/project")]
