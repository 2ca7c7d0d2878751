# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that end before one of their side effects, on libvirt's test driver; scenario faults does it on real hosts.

The driver lives in the process, so nothing can be killed. Instead the process stays in the middle of the run, where no
clean-up of Python happens either, and does the next task from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.controller import Controller
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import VirtiofsError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import probe
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import mount_table, nosuid
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.gateway import Gateway
from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import read_mounts
from ansible_collections.keystone.virtiofs.tests.unit import faults
from ansible_collections.keystone.virtiofs.tests.unit.support import BOOKWORM, TRIXIE, domain, share

from .conftest import URI, Seen

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
    pytest.mark.usefixtures("private_mounts"),
]


class Host:
    """A host of one generation, on the test driver and in a directory."""

    def __init__(self, root: Path, look: Callable[[], Seen]) -> None:
        self.root = root
        self._look = look

    def reset(self) -> None:
        """Back to the beginning; what libvirt has defined ends with the process."""
        for mount in reversed(read_mounts()):
            if mount.mount_point.startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", mount.mount_point], check=True)
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in ("etc", "keystone-virtiofs/domains", "sealed dir", "data", "tuned"):
            (self.root / name).mkdir(parents=True)
        (self.root / "keystone-mounts").touch()

    def state(self) -> faults.State:
        domains, files = self._look()
        found: faults.State = {path: (content, Path(path).lstat().st_mode) for path, content in files.items()}
        if mount_table.TABLE.exists():
            found[str(mount_table.TABLE)] = sorted(mount_table.TABLE.read_bytes().split(b"\n"))
        for name, (text, run_state, autostart) in domains.items():
            found[f"domain {name}"] = faults.definition(text)
            found[f"run state of {name}"] = (run_state[0], autostart)
        for mount in read_mounts():
            if mount.mount_point.startswith(f"{self.root}/"):
                found.setdefault(f"mounts at {mount.mount_point}", []).append(mount.options)
        return found

    def share(self, name: str, **options: Any) -> dict[str, Any]:
        return {"tag": name.split()[0], "source": str(self.root / name), **options}

    def disk(self, size: int = 8) -> dict[str, Any]:
        return {"path": str(self.root / "disk"), "size": size, "format": "raw"}


def apply(name: str = "vm", **options: Any) -> list[str]:
    with Controller(URI, check_mode=False) as controller:
        return list(controller.apply_domain(domain(name, memory=128, vcpus=1, interfaces=[], **options))["actions"])


def apply_share(tag: str, **options: Any) -> list[str]:
    with Controller(URI, check_mode=False) as controller:
        return list(controller.apply_share(share("vm", tag, **options))["actions"])


@pytest.fixture
def host(
    connection: libvirt.virConnect,
    tmp_path: Path,
    look: Callable[[], Seen],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Host]:
    """A libvirt that needs bind mounts and a virtiofsd that needs wrappers: every kind of file and mount."""
    monkeypatch.setattr(probe, "find_virtiofsd", lambda _folders: TRIXIE.virtiofsd)
    monkeypatch.setattr(Gateway, "libvirt_version", lambda _gateway: BOOKWORM.libvirt)
    monkeypatch.setattr(nosuid, "is_nosuid_by_itself", lambda _path: False)
    monkeypatch.setattr(mount_table, "TABLE", tmp_path / "etc/mounts")
    monkeypatch.setattr(mount_table, "PROGRAM", tmp_path / "keystone-mounts")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # most of the time of these tests
    host = Host(tmp_path, look)
    yield host
    host.reset()


def everything(host: Host, state: str = "present") -> list[str]:
    shares = [
        host.share("sealed dir", read_only=True),
        host.share("data"),
        host.share("tuned", read_only=True, inode_file_handles="prefer"),
    ]
    return apply(state=state, shares=shares, disks=[host.disk()])


def absent(host: Host) -> list[str]:
    with Controller(URI, check_mode=False) as controller:
        wanted = domain("vm", state="absent", remove_storage=[host.disk()["path"]])
        return list(controller.apply_domain(wanted)["actions"])


def without(tag: str) -> Callable[[Host], list[str]]:
    return lambda _host: apply_share(tag, state="absent")


def sealed(host: Host) -> list[str]:
    return apply_share(**host.share("sealed dir", read_only=True))


def restarted(host: Host) -> list[str]:
    return apply_share(**host.share("sealed dir", read_only=True), restart="if_required")


def running(_host: Host) -> list[str]:
    return apply(state="running")


Task = Callable[[Host], list[str]]
# The existing domains, the task that ends too early, and the task that wants the opposite.
CASES: dict[str, tuple[list[Task], Task, Task]] = {
    "create": ([], everything, absent),
    "restart": ([running], restarted, absent),
    "unshare": ([everything], without("data"), everything),
    "remove": ([everything], absent, everything),
}


def unlocked() -> None:
    """Let go of the locks of the run, as its end would."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            fcntl.flock(int(descriptor.name), fcntl.LOCK_UN)


class Ended(BaseException):
    """Ends a run whose result is known."""


class Run:
    """A case on a host; each method is for a child of its own."""

    def __init__(self, host: Host, case: str) -> None:
        self.host = host
        self.before, self.task, self.opposite = CASES[case]

    def begin(self) -> None:
        self.host.reset()
        for task in self.before:
            task(self.host)

    def watch(self) -> tuple[list[str], list[faults.State]]:
        self.begin()
        return faults.watch(lambda: self.task(self.host), self.host.state)

    def undisturbed(self, *tasks: Task) -> faults.State:
        self.begin()
        for task in tasks:
            task(self.host)
        return self.host.state()

    def disturbed(self, at: int, following: Task) -> faults.State:
        self.begin()
        found: list[faults.State] = []

        def act() -> None:
            unlocked()
            following(self.host)
            found.append(self.host.state())
            assert following(self.host) == [], "a second run is not empty"
            raise Ended

        with contextlib.suppress(Ended):
            faults.run_until(at, lambda: self.task(self.host), act)
        return found[0]

    def on_full_disk(self, since: int) -> faults.State:
        self.begin()
        with contextlib.suppress(VirtiofsError):
            faults.run_on_full_disk(since, lambda: self.task(self.host))
        return self.host.state()


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_ends_too_early_is_recovered_from(host: Host, case: str) -> None:
    run = Run(host, case)
    names, states = faults.in_child(run.watch)
    after = faults.in_child(lambda: run.undisturbed(run.task))
    undone = [
        faults.in_child(lambda: run.undisturbed(run.task, run.opposite)),
        faults.in_child(lambda: run.undisturbed(run.opposite)),
    ]
    seen: list[faults.State] = []
    for at, state in enumerate(states):
        if state in seen:
            continue
        seen.append(state)
        what = f"ended before {at} ({names[at]})"
        found = faults.in_child(lambda: run.disturbed(at, run.task))  # noqa: B023 - called at once
        assert faults.differences(found, after) == "", f"{what}, then the same"
        found = faults.in_child(lambda: run.disturbed(at, run.opposite))  # noqa: B023
        assert faults.differences(found, *undone) == "", f"{what}, then the opposite"
    assert len(seen) > 2


def test_a_full_disk_leaves_no_temporary_files(host: Host) -> None:
    run = Run(host, "create")
    names, states = faults.in_child(run.watch)
    for since, name in enumerate(names):
        if name in faults.TAKES_ROOM and states[since] not in states[:since]:
            found = faults.in_child(lambda: run.on_full_disk(since))  # noqa: B023 - called at once
            assert [path for path in found if ".keystone-new-" in path] == [], f"full before {since} ({name})"
