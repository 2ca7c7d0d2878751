# SPDX-License-Identifier: GPL-3.0-or-later
"""What plans are made of: what was observed, what the host can do, the actions. Values only."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .._features import Virtiofsd
from .state_paths import STATE
from .values import plain_path
from .xml.document import DomainXml

Options = Mapping[str, Any]
"""Module options; None means not given."""


@dataclass(frozen=True)
class Observed:
    """A domain as libvirt has it now. ``persistent`` and ``live`` are None where there is no such definition."""

    name: str
    persistent: DomainXml | None = None
    live: DomainXml | None = None
    run_state: str = "absent"  # absent, stopped, running, paused
    autostart: bool = False
    saved: DomainXml | None = None  # what a managed save resumes with at the next start

    @property
    def documents(self) -> list[DomainXml]:
        """All of the domain's definitions, old and new ones; a guest that runs or is saved keeps what it had."""
        return [document for document in (self.persistent, self.live, self.saved) if document is not None]

    @property
    def is_active(self) -> bool:
        return self.run_state in ("running", "paused")

    @property
    def managed_save(self) -> bool:
        return self.saved is not None

    def resumed(self) -> Observed:
        """The domain after a start that resumes its managed save."""
        return replace(self, live=self.saved, run_state="running", saved=None)


@dataclass(frozen=True)
class DiskImage:
    """A disk image that exists; ``size`` is what the guest sees, in MiB.

    ``format`` is empty where it is not recorded and the image has a qcow2 header, which a guest may have written.
    """

    size: int
    format: str
    backing: str | None = None
    backing_format: str = ""
    flaw: str = ""  # why its header must not be followed
    is_block_device: bool = False
    is_public: bool = False  # every user of the host may read it
    is_shared: bool = False  # the file has other names, by which other domains may use it


class Resolved(NamedTuple):
    """A path without links, and the directory entries that lead to it from the path that was resolved."""

    path: str
    way: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """What the planner must know of the host. ``local`` is False where files cannot be reached (remote URI)."""

    libvirt: int
    virtiofsd: Virtiofsd | None
    local: bool = True
    session: bool = False
    state: str = STATE
    has_state: bool = False  # the domain has a directory below state
    leftovers: tuple[str, ...] = ()  # temporary files and empty directories of runs that were killed
    binds: Mapping[str, bool] = field(default_factory=dict)  # target: mounted read-only, also at boot
    nosuid: Mapping[str, bool] = field(default_factory=dict)  # source: mounted with nosuid for the domain, also at boot
    ignores_setuid: frozenset[str] = frozenset()  # sources on file systems that were mounted with nosuid and nodev
    owners: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # user and group of sources that are not root's
    dead_shares: frozenset[str] = frozenset()  # tags of the running domain whose virtiofsd has ended
    stale_shares: frozenset[str] = frozenset()  # tags whose virtiofsd serves a directory that was the source once
    wrappers: Mapping[str, bool] = field(default_factory=dict)  # path: starts the virtiofsd that is there now
    real_paths: Mapping[str, str] = field(default_factory=dict)  # of sources, symbolic links resolved
    ways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # the directory entries that lead there
    images: Mapping[str, DiskImage] = field(default_factory=dict)  # by path or pool/volume
    virt_type: str = "qemu"  # what "auto" means here
    architecture: str = "x86_64"
    new_uuid: str = ""  # for a new domain; libvirt chooses one where this is empty
    former_state: str = ""  # the name that the domain had before it was renamed, while its state is left

    def real_path(self, path: str) -> str:
        return self.real_paths.get(path) or posixpath.normpath(path)

    def resolve(self, path: str) -> Resolved:
        return Resolved(self.real_path(path), self.ways.get(path, ()))


@dataclass(frozen=True)
class Action:
    """One step. The executor carries it out."""


@dataclass(frozen=True)
class BindReadOnly(Action):
    source: str
    target: str


@dataclass(frozen=True)
class Unbind(Action):
    target: str


@dataclass(frozen=True)
class MountNosuid(Action):
    """Mount a source at itself with nosuid and nodev."""

    source: str


@dataclass(frozen=True)
class UnmountNosuid(Action):
    source: str


@dataclass(frozen=True)
class WriteWrapper(Action):
    path: str
    virtiofsd: str
    flags: Mapping[str, str]


@dataclass(frozen=True)
class RemoveWrapper(Action):
    path: str


@dataclass(frozen=True)
class CreateDisk(Action):
    disk: Mapping[str, Any]


@dataclass(frozen=True)
class GrowDisk(Action):
    disk: Mapping[str, Any]
    format: str
    target: str  # of the running domain, "" when it is not running


@dataclass(frozen=True)
class RemoveDisk(Action):
    key: str  # path or pool/volume


@dataclass(frozen=True)
class RemoveState(Action):
    """The domain's directory below STATE."""


@dataclass(frozen=True)
class RemoveFormerState(Action):
    """Mounts and wrappers of the name that a domain had before it was renamed."""

    name: str


@dataclass(frozen=True)
class RemoveLeftovers(Action):
    """What killed runs have left under temporary names, and directories that are empty because of them."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Define(Action):
    document: DomainXml
    expected: DomainXml | None  # what was there when the plan was made: anything else is another tool's change


@dataclass(frozen=True)
class ReservePorts(Action):
    """Add what is missing to this many free ports; they are known only when libvirt has placed all devices."""

    count: int


@dataclass(frozen=True)
class NoteRestart(Action):
    """Remember in the definition that a restart is under way, or that it is done."""

    pending: bool


@dataclass(frozen=True)
class Undefine(Action):
    remove_nvram: bool
    remove_tpm_state: bool


@dataclass(frozen=True)
class Start(Action):
    pass


@dataclass(frozen=True)
class Resume(Action):
    pass


@dataclass(frozen=True)
class Shutdown(Action):
    timeout: int
    force: bool


@dataclass(frozen=True)
class Destroy(Action):
    pass


@dataclass(frozen=True)
class SetAutostart(Action):
    enabled: bool


@dataclass(frozen=True)
class AttachShare(Action):
    tag: str
    xml: str


@dataclass(frozen=True)
class DetachShare(Action):
    tag: str
    xml: str
    timeout: int


@dataclass(frozen=True)
class ChangeMedium(Action):
    path: str


@dataclass
class Plan:
    """What to do, and what it changes."""

    name: str
    actions: list[Action] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    restart_reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    new_paths: list[Any] = field(default_factory=list)  # path_safety.PathUse: files of the host that the plan brings in
    unsafe_paths_allowed: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.actions)

    def claims(self) -> list[Action]:
        """The actions up to the new definition, from which on other tasks see which ports, MACs and disks are taken."""
        last = max((index for index, action in enumerate(self.actions) if isinstance(action, Define)), default=-1)
        return self.actions[: last + 1]


def given_options(wanted: Options) -> dict[str, Any]:
    """The options that the task names."""
    return {option: value for option, value in wanted.items() if value is not None}


def disk_key(disk: Options) -> str:
    """What identifies a disk: its path, however it is written, or pool/volume."""
    return plain_path(disk.get("path") or "") or f"{disk.get('pool')}/{disk.get('volume')}"
