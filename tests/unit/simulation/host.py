# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated host: stand-ins for libvirt, the kernel's mounts and the clock. Modules' code and files are real.

Controller, preflight, planner, executor, gateway and the functions on files run as they are, on a temporary directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils import _waiting
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.controller import Controller
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.executor import Executor
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import VirtiofsError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import gateway, limits, lock, ports, probe
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import (
    bind_mounts,
    mount_table,
    mounting,
    nosuid,
    state,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import Mount, unescape
from ansible_collections.keystone.virtiofs.tests.unit import support
from ansible_collections.keystone.virtiofs.tests.unit.simulation import definitions
from ansible_collections.keystone.virtiofs.tests.unit.simulation.definitions import Element
from ansible_collections.keystone.virtiofs.tests.unit.simulation.driver import Libvirt

URI = "qemu:///system"
Result = dict[str, Any]
_THEIRS = """\
<domain type='qemu'><name>theirs</name><memory unit='KiB'>131072</memory><vcpu>1</vcpu>
<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices>
<filesystem type='mount'><driver type='virtiofs'/><source dir='{directory}'/><target dir='a'/></filesystem>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>
<target dev='vda' bus='virtio'/></disk>
<interface type='network'><mac address='52:54:00:00:00:99'/><source network='default'/></interface>
</devices></domain>
"""


class Clock:
    """Time that passes only while a task waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SimulatedHost:
    """A host like Debian 13 (or Debian 12, whose virtiofsd enforces no read-only share)."""

    def __init__(self, root: Path, *, is_old: bool = False) -> None:
        self.root = root
        self.generation = support.BOOKWORM if is_old else support.TRIXIE
        assert self.generation.virtiofsd is not None
        self.libvirt = Libvirt(self.generation.libvirt, self.generation.virtiofsd.path, self)
        self.mounts = [Mount(0, "/", ("rw",), "ext4", "/dev/vda1", ("rw",))]
        self.state = root / ".local/share/keystone-virtiofs"
        self.table = self.state / "mounts"
        self.boot_program = root / "keystone-mounts"
        self.boot_program.touch()
        (self.state / "domains").mkdir(parents=True)
        for name in ("one", "two", "theirs"):
            (root / "srv" / name).mkdir(parents=True)
        self._define_theirs()

    def _define_theirs(self) -> None:
        """A running domain of another tool."""
        image = Path(self.path("theirs.img"))
        image.write_bytes(bytes(2**20))
        self.libvirt.defineXMLFlags(_THEIRS.format(directory=self.path("theirs"), image=image), 0).create()

    def path(self, name: str) -> str:
        return str(self.root / "srv" / name)

    # Tasks.

    def run(self, kind: str, options: Result, *, check: bool = False, killed_after: int | None = None) -> Result:
        """What a module returns for options that AnsibleModule has validated; of a failure the message."""
        try:
            with pytest.MonkeyPatch.context() as patch, Controller(URI, check) as controller:
                if killed_after is not None:
                    patch.setattr(Executor, "_step", _killed(Executor._step, killed_after))
                if kind == "share":
                    return controller.apply_share(options)
                if kind == "domains":
                    return controller.apply_domains(options["domains"], options["purge"])
                return controller.apply_domain(options)
        except (VirtiofsError, Killed) as error:
            return {"failed": True, "msg": str(error)}

    def has_silent_guest(self) -> bool:
        """Only some guest knows when it responds again, or releases a share that another tool unplugs."""
        return any(domain.releasing or not domain.responds for domain in self.libvirt.domains.values())

    def wake_guests(self) -> None:
        for domain in list(self.libvirt.domains.values()):
            domain.respond(True)

    def snapshot(self) -> dict[str, Any]:
        """All that a task could change."""
        return {
            "domains": {name: self._of_domain(name) for name in self.libvirt.domains},
            "mounts": list(self.mounts),
            "files": {str(path): _content(path) for path in sorted(self.root.rglob("*"))},
        }

    def foreign(self) -> dict[str, Any]:
        """What belongs to others."""
        ours = str(self.state)
        return {
            "domain": self._of_domain("theirs"),
            "files": {
                str(path): _content(path)
                for path in sorted(self.root.rglob("*"))
                if not str(path).startswith(ours) and path.name not in ("vm.img", "web.img")
            },
            "mounts": [mount for mount in self.mounts if not mount.mount_point.startswith(str(self.root))],
        }

    def _of_domain(self, name: str) -> Any:
        domain = self.libvirt.domains.get(name)
        if domain is None:
            return None
        texts = [definitions.text_of(root) if root is not None else "" for root in (domain.persistent, domain.live)]
        return [*texts, domain.saved is not None, domain.is_paused, domain.starts_with_host]

    # What the kernel and QEMU do.

    def may_start(self, live: Element) -> None:
        """Raise as libvirt does when a share's directory or its virtiofsd, a disk or a port is not there."""
        for share in definitions.virtiofs(live).values():
            self.may_share(share)
        for disk in live.iterfind("devices/disk/source[@file]"):
            if not Path(disk.get("file")).is_file():
                raise definitions.error(38, f"Cannot access storage file '{disk.get('file')}'")

    def may_share(self, share: Element) -> None:
        """The same for one share."""
        source, daemon = share.find("source").get("dir"), share.find("binary").get("path")
        if not Path(source).is_dir():
            raise definitions.error(definitions.OPERATION_FAILED, f"virtiofs: no directory {source}")
        if source.startswith(str(self.state)) and not self._is_read_only(source):
            raise AssertionError(f"a share starts with {source}, which is not mounted read-only")
        if daemon.startswith(str(self.state)) and not Path(daemon).is_file():
            raise definitions.error(definitions.OPERATION_FAILED, f"virtiofs: no daemon {daemon}")

    def _is_read_only(self, path: str) -> bool:
        return any(mount.mount_point == path and "ro" in mount.options for mount in self.mounts)

    def unsafe_shares(self) -> list[str]:
        """Shares of running domains whose read-only bind mount has gone: a guest could write to the host."""
        found = []
        for name, domain in self.libvirt.domains.items():
            for tag, share in definitions.virtiofs(domain.live).items() if domain.live is not None else ():
                source = share.find("source").get("dir") or ""
                if source.startswith(str(self.state)) and not self._is_read_only(source):
                    found.append(f"{name}/{tag}")
        return found

    def bind(self, source: str, target: str, flags: int) -> None:
        options = [name for name, flag in _FLAGS.items() if flags & flag]
        self.mounts.append(Mount(0, target, tuple(options or ["rw"]), "ext4", source, ("rw",)))

    def unmount_once(self, target: str) -> None:
        mount = next(mount for mount in reversed(self.mounts) if mount.mount_point == target)
        self.mounts.reverse()
        self.mounts.remove(mount)
        self.mounts.reverse()

    def reboot(self) -> None:
        """Everything stops; the table is mounted, and then domains with autostart are started."""
        for domain in list(self.libvirt.domains.values()):
            if domain.live is not None:
                domain.destroy()
        self.mounts = self.mounts[:1]
        for line in self.table.read_text().split("\n")[:-1] if self.table.exists() else ():
            source, target, flags = (unescape(field.encode()) for field in line.split(" "))
            self.bind(source, target, sum(_FLAGS[name] for name in flags.split(",")))
        for domain in self.libvirt.domains.values():
            if domain.starts_with_host:
                with suppress(libvirt.libvirtError):
                    domain.create()


_FLAGS = {"ro": mounting.READ_ONLY, "nosuid": mounting.NOSUID, "nodev": mounting.NODEV}


class Killed(BaseException):
    """The module's process was killed."""


def _killed(step: Callable[..., None], after: int) -> Callable[..., None]:
    """The executor's step, which ends the run when it has been called that often."""
    left = iter(range(after))

    def killed_step(*arguments: Any) -> None:
        if next(left, None) is None:
            raise Killed
        step(*arguments)

    return killed_step


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if path.is_dir():
        return "directory"
    size = path.stat().st_size
    return f"{size} bytes" if size > 65536 else path.read_text(errors="replace")


@contextmanager
def simulated_host(*, is_old: bool = False) -> Iterator[SimulatedHost]:
    """A new host, which the collection's code takes for the one that it runs on."""
    root = Path(tempfile.mkdtemp(prefix="simulated-host-"))
    host = SimulatedHost(root, is_old=is_old)
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libvirt, "open", lambda _uri: host.libvirt)
        patch.setattr(state, "state_root", lambda _session: str(host.state))
        patch.setattr(probe, "find_virtiofsd", lambda _folders: host.generation.virtiofsd)
        patch.setattr(mount_table, "TABLE", host.table)
        patch.setattr(mount_table, "PROGRAM", host.boot_program)
        patch.setattr(limits, "FILE", root / "limits.json")
        patch.setattr(lock, "exclusive", lambda _name: nullcontext())
        patch.setattr(ports, "is_port_taken", lambda _address, _port: False)
        for module in (bind_mounts, mounting, nosuid):
            patch.setattr(module, "read_mounts", lambda: list(host.mounts))
        patch.setattr(mounting, "bind", host.bind)
        patch.setattr(mounting, "unmount_once", host.unmount_once)
        patch.setattr(_waiting, "time", clock)
        patch.setattr(gateway, "time", clock)
        patch.setattr(os, "fsync", lambda _descriptor: None)
        try:
            yield host
        finally:
            shutil.rmtree(root)
