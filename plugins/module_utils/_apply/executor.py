# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan: every action is a call of the gateway or of a function in _host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from .._domain.definition import differences
from .._domain.model import (
    Action,
    AttachShare,
    BindReadOnly,
    ChangeMedium,
    CreateDisk,
    Define,
    Destroy,
    DetachShare,
    GrowDisk,
    MountNosuid,
    NoteRestart,
    RemoveDisk,
    RemoveFormerState,
    RemoveLeftovers,
    RemoveState,
    RemoveWrapper,
    ReservePorts,
    Resume,
    SetAutostart,
    Shutdown,
    Start,
    Unbind,
    Undefine,
    UnmountNosuid,
    WriteWrapper,
    disk_key,
)
from .._errors import GatewayError, HostError
from .._host.files import bind_mounts, disks, leftovers, logs, nosuid, state, wrappers
from .._host.gateway import Gateway
from .._untrusted import printable


class Executor:
    """Does what a plan says, step by step; ``warnings`` collects what turned out on the way."""

    def __init__(self, gateway: Gateway, state: str) -> None:
        self._gateway = gateway
        self._state = state
        self.warnings: list[str] = []

    def execute(self, domain: str, actions: Iterable[Action], check: Callable[[Action], None]) -> None:
        """Raises HostError and GatewayError; steps done so far are kept, and running the task again continues.

        ``check`` refuses an action that something has made unsafe since it was planned.
        """
        for action in actions:
            check(action)
            began = time.time()
            try:
                self._step(domain, action)
            except GatewayError as error:
                if isinstance(action, (AttachShare, Start)) and not self._gateway.is_remote:
                    self._quote_virtiofsd(error, domain, began)
                raise
            except HostError as error:
                error.domain = domain
                raise
            except OSError as error:
                problem = f"{type(action).__name__} failed: {error}"
                raise HostError(problem, fix="Correct this and run the task again.", domain=domain) from error

    def _quote_virtiofsd(self, error: GatewayError, domain: str, since: float) -> None:
        """Add to an error of a start what the daemon of a share has said about it."""
        paths = logs.virtiofsd_logs(domain, self._gateway.is_session)
        said = logs.last_error(paths, since - 1)  # files keep their time with less precision than the clock
        if said:
            error.problem = printable(f"{error.problem}; {said}")

    def _step(self, name: str, action: Action) -> None:
        steps: dict[type, Callable[[Any], None]] = {
            BindReadOnly: lambda a: bind_mounts.bind_read_only(a.source, a.target),
            Unbind: lambda a: bind_mounts.unbind(a.target),
            MountNosuid: lambda a: nosuid.mount_nosuid(self._state, name, a.source),
            UnmountNosuid: lambda a: nosuid.unmount_nosuid(self._state, name, a.source),
            WriteWrapper: lambda a: wrappers.write_wrapper(a.path, a.virtiofsd, a.flags),
            RemoveWrapper: lambda a: wrappers.remove_wrapper(a.path),
            RemoveLeftovers: lambda a: leftovers.remove_leftovers(a.paths),
            RemoveState: lambda _a: state.remove_state(self._state, name),
            RemoveFormerState: lambda a: self._remove_former_state(a.name),
            RemoveDisk: lambda a: self._remove_disk(a.key),
            CreateDisk: lambda a: self._create_disk(name, a.disk),
            GrowDisk: lambda a: self._grow_disk(name, a),
            Define: self._define,
            ReservePorts: lambda a: self._reserve_ports(name, a.count),
            NoteRestart: lambda a: self._note_restart(name, a.pending),
            Undefine: lambda a: self._gateway.undefine(name, a.remove_nvram, a.remove_tpm_state),
            Start: lambda _a: self._gateway.start(name),
            Resume: lambda _a: self._gateway.resume(name),
            Shutdown: lambda a: self._gateway.shutdown(name, a.timeout, a.force),
            Destroy: lambda _a: self._gateway.destroy(name),
            SetAutostart: lambda a: self._gateway.set_autostart(name, a.enabled),
            AttachShare: lambda a: self._gateway.attach(name, a.xml),
            DetachShare: lambda a: self._gateway.detach_share(name, a.tag, a.xml, a.timeout),
            ChangeMedium: lambda a: self._gateway.change_medium(name, a.path),
        }
        steps[type(action)](action)

    def _define(self, action: Define) -> None:
        defined = self._gateway.define(action.document, action.expected)
        after = defined.shares()
        lost = [
            f"{option} of share {tag}"
            for tag, share in action.document.shares().items()
            for option in differences(share, after.get(tag))
        ]
        if lost:
            self.warnings.append(f"domain {defined.name}: this libvirt dropped {', '.join(lost)}")

    def _reserve_ports(self, name: str, count: int) -> None:
        self._redefine(name, lambda document: document.reserve_ports(count))

    def _note_restart(self, name: str, pending: bool) -> None:
        self._redefine(name, lambda document: document.note_restart(pending))

    def _redefine(self, name: str, edit: Callable[[Any], None]) -> None:
        defined = self._gateway.observe(name).persistent
        if defined is not None:
            edited = defined.copy()
            edit(edited)
            self._gateway.define(edited, defined)

    def _remove_former_state(self, former: str) -> None:
        """Boot files stay: the definition still names them."""
        for target in bind_mounts.list_binds(self._state, former):
            bind_mounts.unbind(target)
        for source in nosuid.list_nosuid(self._state, former):
            nosuid.unmount_nosuid(self._state, former, source)
        for path in wrappers.list_wrappers(self._state, former, ""):
            wrappers.remove_wrapper(path)
        leftovers.remove_leftovers(leftovers.find_leftovers(self._state, former, ()))

    def _remove_disk(self, key: str) -> None:
        pool, _slash, volume = key.partition("/")
        if pool:
            self._gateway.remove_volume(pool, volume)
        else:
            disks.remove_image(key)

    def _create_disk(self, name: str, disk: Mapping[str, Any]) -> None:
        image_format = disk.get("format") or "qcow2"
        base = disk.get("backing"), disk.get("backing_format")
        if disk.get("pool"):
            self._gateway.create_volume(disk["pool"], disk["volume"], disk["size"], image_format, *base)
        else:
            disks.create_image(disk["path"], image_format, disk.get("size"), *base)
        self._redefine(name, lambda document: document.note_created_disk(disk_key(disk), pending=False))

    def _grow_disk(self, name: str, action: GrowDisk) -> None:
        disk = action.disk
        if action.target:
            self._gateway.resize_disk(name, action.target, disk["size"])
        elif disk.get("pool"):
            self._gateway.resize_volume(disk["pool"], disk["volume"], disk["size"])
        else:
            disks.grow_image(disk["path"], action.format, disk["size"])
