# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.path_safety import PathUse
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import limits
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.limits import Limits
from ansible_collections.keystone.virtiofs.tests.unit.support import domain

SOME = Limits(sources=("/srv", "/nix/store"), images=("/var/lib/libvirt/images",), networks=("lan",), bridges=())


def use(what: str, path: str) -> PathUse:
    return PathUse("vm", what, path, path, "data" if what == "source" else None)


@pytest.mark.parametrize(
    ("what", "path", "allowed"),
    [
        ("source", "/srv", True),
        ("source", "/srv/project", True),
        ("source", "/srvother", False),
        ("source", "/home/alice", False),
        ("disk", "/var/lib/libvirt/images/a.qcow2", True),
        ("disk", "/srv/a.qcow2", False),
        ("iso", "/root/x.iso", False),
        ("kernel", "/boot/vmlinuz", False),
        ("backing", "/etc/topsecret", False),
        ("disk", "/var/lib/keystone-virtiofs/domains/vm/seed/cidata.img", True),
        ("disk", "/var/lib/keystone-virtiofs/domains/other/seed/cidata.img", False),
        ("disk", "/var/lib/keystone-virtiofs/domains/vm/bin/virtiofsd,xattr", False),
        ("source", "/var/lib/keystone-virtiofs/domains/vm/seed", False),
        ("serial_log", "/etc/cron.d/x", False),
        ("serial_log", "/var/lib/libvirt/images/a.qcow2", False),
        ("serial_log", "/var/log/libvirt/qemu/a-serial.log", True),
    ],
)
def test_paths(what: str, path: str, allowed: bool) -> None:
    Limits().check_paths([use(what, path)])
    if allowed:
        SOME.check_paths([use(what, path)])
        return
    with pytest.raises(InvalidInput, match=rf"{what} {path} is not among the (sources|images|logs) that .*limits.json"):
        SOME.check_paths([use(what, path)])


def test_a_task_cannot_have_its_guest_choose_what_the_limits_exclude() -> None:
    """The guest would replace an allowed directory in its share by a link to another one."""
    allowed = [use("source", "/srv/project/nested")]
    Limits().check_paths(allowed, unsafe_paths_allowed=True)
    SOME.check_paths([], unsafe_paths_allowed=True)
    with pytest.raises(InvalidInput, match=r"allow_unsafe_paths: .*limits\.json on this host limits what"):
        SOME.check_paths(allowed, unsafe_paths_allowed=True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"interfaces": [{"source": "lan"}]}, ""),
        ({"interfaces": [{"type": "user"}]}, "network user is not among the networks"),
        ({"interfaces": [{}]}, "network default is not among the networks"),
        ({"interfaces": [{"source": "lan"}, {"source": "other"}]}, "network other is not among"),
        ({"interfaces": [{"type": "bridge", "source": "br0"}]}, "bridge br0 is not among the bridges"),
        ({"xml": "<domain/>"}, "xml: .* limits what domains may use"),
    ],
)
def test_options(options: dict[str, Any], problem: str) -> None:
    wanted = domain(**options)
    Limits().check_options(wanted)
    if not problem:
        SOME.check_options(wanted)
        return
    with pytest.raises(InvalidInput, match=problem):
        SOME.check_options(wanted)


def test_user_networking_can_be_allowed() -> None:
    Limits(networks=("user",)).check_options(domain(interfaces=[{"type": "user"}]))
    Limits(sources=()).check_options(domain(interfaces=[{"type": "user"}]))


@pytest.mark.parametrize(
    ("share", "option"),
    [
        ({"socket": "/run/libvirt/libvirt-sock"}, "socket"),
        ({"source": "/srv/project", "nosuid": False}, "nosuid"),
        ({"source": "/srv/project", "nosuid": True}, ""),
        ({"source": "/srv/project"}, ""),
    ],
)
def test_shares(share: dict[str, Any], option: str) -> None:
    Limits().check_shares([{"tag": "data", **share}], "vm")
    if not option:
        SOME.check_shares([{"tag": "data", **share}], "vm")
        return
    with pytest.raises(InvalidInput, match=rf"{option}: .*limits\.json on this host limits"):
        SOME.check_shares([{"tag": "data", **share}], "vm")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "limits.json"
    monkeypatch.setattr(limits, "FILE", path)
    return path


def test_without_a_file_there_are_no_limits(file: Path) -> None:
    assert limits.read_limits() == Limits()
    assert not limits.read_limits().exist


def test_the_file_is_read(file: Path) -> None:
    file.write_text(json.dumps({"sources": ["/srv"], "bridges": []}))
    assert limits.read_limits() == Limits(sources=("/srv",), bridges=())


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"source": []}', '{"sources": "/"}', '{"sources": [1]}', "null", '{"sources": null}']
)
def test_a_damaged_file_does_not_lift_the_limits(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(HostError, match=r"limits.json"):
        limits.read_limits()


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.write_text("{}")
    file.chmod(mode)
    with pytest.raises(HostError, match="can be changed by users other than root"):
        limits.read_limits()
