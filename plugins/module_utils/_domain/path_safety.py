# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the host's files that a domain uses are out of reach of guests. Pure: paths are values.

A guest controls everything in a directory that it may write to: it can replace a share's source by a link to /etc, or
a disk by an image that names any file of the host.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Callable, NamedTuple

from .._errors import InvalidInput
from .model import Host, Options, Resolved
from .schema import is_below
from .state_paths import STATE
from .xml.document import DomainXml

# No guest has business with these, not even reading: they hold secrets, state of the host, or other guests' files.
_PRIVATE = (
    *("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/lib/libvirt", "/var/log", "/var/spool"),
    STATE,
)
# A guest that writes to these runs its own programs on the host.
_PROGRAMS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/nix/var", "/sbin", "/usr")
# These hold many users' files; a directory below may be shared.
_CROWDED = ("/home", "/tmp", "/var/tmp")  # noqa: S108 - nothing is created there
# Of the collection's own state, what is made to be shared.
_SHARED_STATE = (f"{STATE}/database", f"{STATE}/benchmark")


# The options of a domain and of a disk that name a file or directory of the host.
OPTIONS = {"source", "disk", "backing", "iso", "kernel", "initrd", "serial_log"}


class PathUse(NamedTuple):
    """A path of the host that a domain uses, as its definition says it and without links.

    ``what`` names the option for messages. ``is_writable``: its guest writes to the file, or to what is in the
    directory.
    """

    domain: str
    what: str
    stated: str
    path: str
    share: str | None = None
    is_writable: bool = False
    way: tuple[str, ...] = ()
    is_shared: bool = False

    @property
    def is_led(self) -> bool:
        """Links lead to another place than the one that is stated."""
        return self.stated.startswith("/") and self.path != posixpath.normpath(self.stated)


def uses(name: str, document: DomainXml, resolve: Callable[[str], Resolved]) -> list[PathUse]:
    """Every path that a domain's definition names."""
    return [
        PathUse(name, file.kind, file.path, path, file.share, file.is_written, way, file.is_shared)
        for file in document.files()
        for path, way in [resolve(file.path)]
    ]


def new_uses(name: str, wanted: Options, before: DomainXml | None, after: DomainXml, host: Host) -> list[PathUse]:
    """The paths that a change brings into a definition: what a domain has already is not questioned again."""
    old = uses(name, before, host.resolve) if before else []
    found = [use for use in uses(name, after, host.resolve) if use not in old]
    backing = (disk["backing"] for disk in wanted.get("disks") or () if disk.get("backing"))
    return found + [
        PathUse(name, "backing", path, host.real_path(path), way=host.resolve(path).way) for path in backing
    ]


def check_path_safety(new: Iterable[PathUse], others: Iterable[PathUse]) -> None:
    """Raise InvalidInput when a new path, or one of the others, would be in a directory that a guest may write to."""
    exposed = list(others)
    for use in new:
        if use.what == "source":
            refuse_system_directory(use)
        for other in exposed:
            check_reach(use, other)
            if use.what == "source" and use.is_writable and not _is_same(use, other) and _is_in_reach(other, use.path):
                raise _refusal(use, other, use)


def check_reach(use: PathUse, other: PathUse) -> None:
    """Raise InvalidInput when a guest that writes to the other path could replace what is used."""
    if other.what == "source" and other.is_writable and not _is_same(use, other) and _is_in_reach(use, other.path):
        raise _refusal(use, use, other)


def check_files(new: Iterable[PathUse], others: Iterable[PathUse]) -> None:
    """Raise InvalidInput when one domain would write to a file that another one uses, for any purpose."""
    files = {use.path: use for use in new if use.what != "source"}
    for other in others:
        use = files.get(other.path)
        if use is None or use.domain == other.domain or other.what == "source" or (use.is_shared and other.is_shared):
            continue
        if use.is_writable or other.is_writable:
            raise InvalidInput(
                f"{use.what} {use.stated} belongs to domain {other.domain}, which has it as {other.what}",
                fix="Use another file for this domain.",
                domain=use.domain,
            )


def _is_same(use: PathUse, other: PathUse) -> bool:
    return (use.domain, use.what, use.share, use.path) == (other.domain, other.what, other.share, other.path)


def _is_in_reach(use: PathUse, directory: str) -> bool:
    """Whether a guest that writes to the directory could replace what is used, or lead the way there elsewhere."""
    return is_below(use.path, directory) or any(is_below(entry, directory) and entry != directory for entry in use.way)


def refuse_system_directory(use: PathUse) -> None:
    own_view = f"{STATE}/domains/{use.domain}/view"
    if is_below(use.path, own_view) or any(is_below(use.path, place) for place in _SHARED_STATE):
        return
    forbidden = _PRIVATE + (_PROGRAMS if use.is_writable else ())
    place = next((place for place in forbidden if is_below(use.path, place) or is_below(place, use.path)), None)
    if place is None and use.path not in _CROWDED:
        return
    how = "writable" if use.is_writable and place in _PROGRAMS else "with a guest"
    raise InvalidInput(
        f"source {use.stated} is a system directory, which must not be shared {how}",
        fix="Share another directory, or set allow_unsafe_paths if this is intended.",
        domain=use.domain,
        share=use.share,
    )


def _refusal(use: PathUse, inner: PathUse, outer: PathUse) -> InvalidInput:
    whose = "" if inner.domain == use.domain else f" of domain {inner.domain}"
    other = "" if outer.domain == use.domain else f" of domain {outer.domain}"
    how = "is" if inner.path == outer.path else "is inside" if is_below(inner.path, outer.path) else "leads through"
    return InvalidInput(
        f"{inner.what} {inner.stated}{whose} {how} {outer.stated}, which share {outer.share}{other} exposes"
        " writable, so the guest could replace it",
        fix="Use another directory, make the share read_only (which a running guest heeds only after a restart), or set"
        " allow_unsafe_paths if this is intended.",
        domain=use.domain,
        share=inner.share if inner.domain == use.domain else use.share,
    )
