# SPDX-License-Identifier: GPL-3.0-or-later
"""Which libvirt and which virtiofsd each virtiofs feature needs. Pure: no I/O, stdlib only.

Sources of the versions:
- libvirt: docs/formatdomain ("since" notes) and NEWS, checked against libvirt 9.0 and 11.3.
- virtiofsd: the first "Bump version" commit that contains the commit which adds the option, found with
  ``git merge-base --is-ancestor`` in virtiofsd's history; the commit is named next to each entry.
- C virtiofsd (part of QEMU up to 7.2): its own ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True)
class Virtiofsd:
    """A virtiofs daemon. ``legacy`` is the C one that came with QEMU; its version is QEMU's.

    ``version`` is None when the daemon does not report it (a wrapper script, or a daemon on another machine):
    it then gets the benefit of the doubt. ``caches_stores``: it has the cache policy store, which is in no release.
    """

    path: str
    version: Version | None
    legacy: bool = False
    caches_stores: bool = False

    def __str__(self) -> str:
        version = "unknown version" if self.version is None else format_version(self.version)
        return f"the C virtiofsd {version}" if self.legacy else f"virtiofsd {version}"


@dataclass(frozen=True)
class Feature:
    """A feature and what it needs."""

    id: str
    summary: str
    libvirt: int
    virtiofsd: Version | None = (1, 0, 0)  # first Rust release that has it; None: no release has it
    legacy: bool = True  # the C virtiofsd has it too
    external: bool = False  # served by a daemon that the user runs, so the host's own is not asked
    patched: bool = False  # no release has it, and the daemon itself reports it


FEATURES: tuple[Feature, ...] = (
    # 6.2 brought virtiofs; only since 6.9 it does without a NUMA node.
    Feature("share", "share a directory over virtiofs", 6009000),
    Feature("queue_size", "size of the request queue", 6009000),
    Feature("cache", "cache mode none, auto or always", 6009000),
    Feature("xattr", "extended attributes", 6009000),
    # Not in libvirt's XML: these go through a wrapper named in <binary path>.
    Feature("cache_metadata", "cache mode metadata", 6009000, (1, 8, 0), legacy=False),  # 598ca8e
    # libvirt must pass --readonly, which that policy requires.
    Feature("cache_store", "cache mode store", 11000000, (1, 13, 2), legacy=False, patched=True),
    Feature(
        "inode_file_handles", "file handles instead of open files", 6009000, (1, 2, 0), legacy=False
    ),  # f5ce5c4: "prefer" under that name; the default since 1.13.3 (964a865)
    Feature("translate", "translate owners between guest and host", 6009000, (1, 13, 0), legacy=False),  # its --help
    # The Rust daemon knows "no_flock" and "no_posix_lock" only, and libvirt refuses <lock> altogether
    # once the daemon reports "separate-options".
    Feature("lock", "file locks across guests", 6009000, None),
    Feature("sandbox", "sandbox mode namespace or chroot", 7002000),
    Feature("socket", "share of a virtiofsd that runs already", 7003000, external=True),
    Feature("hotplug", "attach and detach while the guest runs", 7009000),
    Feature("thread_pool_size", "number of worker threads", 8005000),
    Feature("session", "shares in qemu:///session", 10000000, (1, 6, 0), legacy=False),  # 51210fb
    Feature("idmap", "map user and group ids", 10000000, (1, 6, 0), legacy=False),  # 51210fb
    Feature("open_files", "limit of open files", 10006000),
    Feature("read_only", "read-only, enforced by virtiofsd", 11000000, (1, 13, 0), legacy=False),  # 782d8e1
)

_BY_ID = {feature.id: feature for feature in FEATURES}


def format_version(version: int | Version) -> str:
    """11003000 (libvirt's encoding) or (11, 3, 0) as "11.3.0"."""
    if isinstance(version, int):
        version = (version // 1000000, version // 1000 % 1000, version % 1000)
    return ".".join(str(part) for part in version)


def needs(feature_id: str) -> str:
    """What a feature needs, as text: "libvirt >= 11.0.0, virtiofsd >= 1.13.0"."""
    feature = _BY_ID[feature_id]
    libvirt = f"libvirt >= {format_version(feature.libvirt)}"
    return libvirt if feature.external else f"{libvirt}, {_needed_daemon(feature)}"


def unavailable(feature_id: str, libvirt: int, virtiofsd: Virtiofsd | None) -> str | None:
    """Why a host with these versions cannot do this; None when it can."""
    feature = _BY_ID[feature_id]
    missing = []
    if libvirt < feature.libvirt:
        missing.append(f"libvirt >= {format_version(feature.libvirt)} (found {format_version(libvirt)})")
    if not feature.external and not _daemon_has(feature, virtiofsd):
        missing.append(f"{_needed_daemon(feature)} (found {virtiofsd or 'none'})")
    return f"{feature.summary} needs {' and '.join(missing)}" if missing else None


def _needed_daemon(feature: Feature) -> str:
    if feature.patched:
        return "a virtiofsd with the collection's patch"
    if feature.virtiofsd is None:
        return "the C virtiofsd of QEMU <= 7.2"
    if feature.virtiofsd == (1, 0, 0) and feature.legacy:
        return "a virtiofsd"
    return f"virtiofsd >= {format_version(feature.virtiofsd)}"


def _daemon_has(feature: Feature, daemon: Virtiofsd | None) -> bool:
    if daemon is None:
        return False
    if daemon.legacy:
        return feature.legacy
    if feature.patched:
        return daemon.caches_stores
    if feature.virtiofsd is None:
        return False
    return daemon.version is None or daemon.version >= feature.virtiofsd
