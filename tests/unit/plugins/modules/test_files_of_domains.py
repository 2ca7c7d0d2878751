# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that one domain uses are out of reach of the others and of their guests, for any purpose and definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.executor import Executor
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import running_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.gateway import Gateway
from ansible_collections.keystone.virtiofs.plugins.modules import domain, share
from ansible_collections.keystone.virtiofs.tests.unit.support import replaced

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/sub").mkdir(parents=True)
    return tmp_path / "project"


def test_a_guest_that_runs_keeps_what_it_had(run: Run, project: Path) -> None:
    """The definition says read-only, but the guest may write until it is restarted."""
    run(domain, name="mallory", state="running", shares=[{"tag": "project", "source": str(project)}])
    changed = run(share, domain="mallory", tag="project", source=str(project), read_only=True)
    assert changed["restart_required"]
    wanted = {"tag": "sub", "source": str(project / "sub")}
    for refused in (run(domain, name="tenant", shares=[wanted]), run(share, domain="mallory", **wanted)):
        assert f"source {project}/sub is inside {project}, which share project" in refused["msg"]


def test_a_guest_that_is_saved_keeps_what_it_had(
    run: Run, connection: libvirt.virConnect, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(domain, name="mallory", state="running", shares=[{"tag": "project", "source": str(project)}])
    saved = connection.lookupByName("mallory").XMLDesc(0)
    monkeypatch.setattr(libvirt.virDomain, "managedSaveGetXMLDesc", lambda _self, _flags=0: saved)
    connection.lookupByName("mallory").managedSave()
    run(share, domain="mallory", tag="project", source=str(project), read_only=True)
    refused = run(domain, name="tenant", shares=[{"tag": "sub", "source": str(project / "sub")}])
    assert f"is inside {project}" in refused["msg"]


def test_paths_are_resolved_again_before_a_start(run: Run, project: Path, tmp_path: Path) -> None:
    """Here a guest has led the way elsewhere before its share became read-only."""
    sub = {"tag": "sub", "source": str(project / "sub")}
    run(domain, name="tenant", shares=[sub])
    (project / "sub").rmdir()
    (project / "sub").symlink_to("/root")
    assert "is a system directory" in run(domain, name="tenant", state="running")["msg"]
    (project / "sub").unlink()
    (project / "sub").mkdir()
    run(domain, name="mallory", shares=[{"tag": "p", "source": str(project)}], allow_unsafe_paths=True)
    assert f"is inside {project}" in run(domain, name="tenant", state="running")["msg"]
    assert "failed" not in run(domain, name="tenant", state="running", allow_unsafe_paths=True)


@pytest.mark.parametrize("module", [domain, share])
def test_a_path_that_changes_during_the_task_is_noticed(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    real_step = Executor._step
    attached: list[str] = []

    def step(self: Executor, name: str, action: Any) -> None:
        real_step(self, name, action)
        if type(action).__name__ == "Define" and not (project / "sub").is_symlink():
            (project / "sub").rmdir()
            (project / "sub").symlink_to("/root")

    sub = {"tag": "sub", "source": str(project / "sub")}
    run(domain, name="tenant", state="running")
    monkeypatch.setattr(Executor, "_step", step)
    monkeypatch.setattr(Gateway, "attach", lambda _self, name, _xml: attached.append(name))
    monkeypatch.setattr(libvirt.virDomain, "create", lambda _self: attached.append("started"))
    if module is domain:
        found = run(domain, name="new", state="running", shares=[sub])
    else:
        monkeypatch.setattr(running_domain, "_plug_obstacle", lambda *_values, **_options: None)
        found = run(share, domain="tenant", **sub)
    assert "is a system directory" in found["msg"]
    assert attached == []


NINEP = """<domain type='test'><name>old</name><memory>65536</memory><os><type>hvm</type></os><devices>
<filesystem type='mount' accessmode='mapped'><source dir='{}'/><target dir='data'/></filesystem></devices></domain>"""


def test_a_file_system_of_another_driver_is_a_share_as_well(
    run: Run, connection: libvirt.virConnect, project: Path
) -> None:
    connection.defineXML(NINEP.format(project))
    refused = run(domain, name="vm", disks=[{"path": f"{project}/disk", "size": 1}])
    assert f"is inside {project}, which share data of domain old exposes writable" in refused["msg"]


@pytest.fixture
def victim(run: Run, tmp_path: Path) -> dict[str, str]:
    """The files of a domain, by kind."""
    files = {kind: str(tmp_path / kind) for kind in ("iso", "kernel", "initrd", "base", "disk", "over", "log")}
    for kind in ("iso", "kernel", "initrd", "base", "log"):
        Path(files[kind]).write_bytes(b"x" * 2**20)
    made = run(
        domain,
        name="victim",
        **{kind: files[kind] for kind in ("iso", "kernel", "initrd")},
        serial_log=files["log"],
        disks=[{"path": files["disk"], "size": 1, "format": "raw"}, {"path": files["over"], "backing": files["base"]}],
    )
    assert made.get("changed"), made
    return files


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        *((kind, {"serial_log": "FILE"}) for kind in ("iso", "kernel", "initrd", "base", "disk", "over", "log")),
        *((kind, {"kernel": "FILE"}) for kind in ("disk", "over", "log")),
        *((kind, {"kernel": "OWN", "initrd": "FILE"}) for kind in ("disk", "over", "log")),
        *((kind, {"iso": "FILE"}) for kind in ("disk", "over", "log")),
        *(
            (kind, {"disks": [{"path": "FILE", "format": "raw"}]})
            for kind in ("iso", "kernel", "initrd", "base", "log")
        ),
        *((kind, {"disks": [{"path": "NEW", "backing": "FILE", "backing_format": "raw"}]}) for kind in ("disk", "log")),
        *(
            (kind, {"state": "absent", "remove_storage": ["FILE"]})
            for kind in ("iso", "kernel", "initrd", "base", "log")
        ),
    ],
)
def test_what_another_domain_uses_is_left_alone(
    run: Run, tmp_path: Path, victim: dict[str, str], kind: str, wanted: dict[str, Any]
) -> None:
    (tmp_path / "own").touch()
    (tmp_path / "link").symlink_to(victim[kind])
    names = {"FILE": str(tmp_path / "link"), "OWN": str(tmp_path / "own"), "NEW": str(tmp_path / "new")}
    refused = run(domain, name="greedy", **replaced(wanted, names))
    assert "belongs to domain victim, which has it as" in refused["msg"]
    assert Path(victim[kind]).exists()


@pytest.mark.parametrize(
    "wanted",
    [
        {"iso": "iso"},
        {"kernel": "kernel", "initrd": "initrd"},
        {"disks": [{"path": "new", "backing": "base"}]},
        {"disks": [{"path": "base", "format": "raw", "read_only": True}]},
    ],
)
def test_what_all_only_read_may_be_used_by_several(
    run: Run, tmp_path: Path, victim: dict[str, str], wanted: dict[str, Any]
) -> None:
    made = run(domain, name="vm", **replaced(wanted, {**victim, "new": str(tmp_path / "new")}))
    assert made.get("changed"), made


def test_a_disk_in_a_directory_that_a_guest_may_write_to_is_not_removed(run: Run, project: Path) -> None:
    run(domain, name="mallory", shares=[{"tag": "project", "source": str(project)}])
    (project / "disk").touch()
    refused = run(domain, name="vm", state="absent", remove_storage=[str(project / "disk")])
    assert f"is inside {project}" in refused["msg"]
    assert (project / "disk").exists()
