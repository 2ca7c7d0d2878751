# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts of a guest's Nix store: the share, the overlay over it, and which layer holds a path."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._mounts import Mount, mount_at, read_mounts


@dataclass(frozen=True)
class OverlayLayers:
    """The directories of an overlay as its mount options name them."""

    lower: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None


def overlay_layers(options: Iterable[str]) -> OverlayLayers:
    """The layers, from "lowerdir=a:b" or from one "lowerdir+=" for each lower layer (Linux 6.8)."""
    lower: list[str] = []
    named: dict[str, str] = {}
    for option in options:
        name, _equals, value = option.partition("=")
        if name == "lowerdir":
            lower += [_unescape(part) for part in re.split(r"(?<!\\):+", value)]
        elif name == "lowerdir+":
            lower.append(_unescape(value))
        else:
            named[name] = _unescape(value)
    return OverlayLayers(tuple(lower), named.get("upperdir"), named.get("workdir"))


def _unescape(path: str) -> str:
    """Overlay options escape colon, comma and backslash with a backslash."""
    return re.sub(r"\\(.)", r"\1", path)


def upper_directory(layers: OverlayLayers, rw_store: str) -> Path | None:
    """Where the running guest has the directory of the writable layer.

    The initrd mounts the layers below /sysroot, and the mount options keep those paths.
    """
    if layers.upper is None:
        return None
    before_switch_root = f"/sysroot{rw_store}/"
    prefix = "/sysroot" if layers.upper.startswith(before_switch_root) else ""
    return Path(layers.upper[len(prefix) :])


def layers_of(name: Path, mount_point: Path, share: Path, upper: Path | None) -> list[str]:
    """The layers that hold a name; the first one decides what the guest sees."""
    layers = []
    if upper is not None and os.path.lexists(upper / name):
        layers.append("deleted" if _is_whiteout(upper / name) else "upper")
    if os.path.lexists(share / name):
        layers.append("share")
    if not layers and os.path.lexists(mount_point / name):
        layers.append("own")
    return layers


def _is_whiteout(path: Path) -> bool:
    """Overlayfs marks a deleted name with a character device 0:0."""
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def hidden_names(upper: Path | None, share_names: Iterable[str]) -> list[str]:
    """The names in the share that were deleted in the guest, which only hides them."""
    if upper is None:
        return []
    try:
        deleted = {entry.name for entry in upper.iterdir() if _is_whiteout(entry)}
    except OSError:
        return []
    return sorted(deleted.intersection(share_names))


def is_stale(path: Path, listed: bool) -> bool:
    """Whether the kernel has cached a path that was removed since, or the absence of a path that was added since."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ESTALE or (listed and error.errno == errno.ENOENT)
    return False


def list_directory(directory: Path) -> list[str] | None:
    """The sorted names in a directory; None when the directory cannot be listed."""
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return None


def describe_mount(mount: Mount | None, expected: bool) -> dict[str, Any]:
    return {
        "mounted": mount is not None and expected,
        "source": mount.source if mount else None,
        "type": mount.type if mount else None,
        "options": list(mount.options) if mount else [],
        "read_only": mount is not None and mount.read_only,
    }


def describe_space(rw_store: str, mount: Mount | None) -> dict[str, Any] | None:
    if mount is None:
        return None
    space = os.statvfs(rw_store)
    return {
        "type": mount.type,
        "size": space.f_blocks * space.f_frsize,
        "used": (space.f_blocks - space.f_bfree) * space.f_frsize,
        "inodes": space.f_files,
        "inodes_used": space.f_files - space.f_ffree,
    }


def describe_path(path: str, mount_point: Path, share: Path, upper: Path | None) -> dict[str, Any]:
    layers = layers_of(Path(path).relative_to(mount_point), mount_point, share, upper)
    return {"path": path, "exists": os.path.lexists(path), "layers": layers}


def describe_store(params: dict[str, Any]) -> dict[str, Any]:
    store, ro_store = Path(params["mount_point"]), Path(params["ro_store"])
    mounts = read_mounts()
    share = mount_at(mounts, params["ro_store"])
    overlay = mount_at(mounts, params["mount_point"])
    is_overlay = overlay is not None and overlay.type == "overlay"
    layers = overlay_layers(overlay.super_options) if overlay and is_overlay else OverlayLayers()
    upper = upper_directory(layers, params["rw_store"])
    names, share_names = list_directory(store), list_directory(ro_store)
    listed = [str(store / name) for name in names or []]
    candidates = dict.fromkeys(params["paths"] + listed[: params["stale_sample"]])
    return {
        "share": describe_mount(share, share is not None and (share.type, share.source) == ("virtiofs", params["tag"])),
        "overlay": {
            **describe_mount(overlay, is_overlay),
            "lower": list(layers.lower),
            "upper": layers.upper,
            "work": layers.work,
        },
        "readable": names is not None,
        "writable": os.access(store, os.W_OK),
        "entries": None if names is None else len(names),
        "share_entries": None if share_names is None else len(share_names),
        "rw_layer": describe_space(params["rw_store"], mount_at(mounts, params["rw_store"])),
        "paths": [describe_path(path, store, ro_store, upper) for path in params["paths"]],
        "hidden": [str(store / name) for name in hidden_names(upper, share_names or ())],
        "stale": [path for path in candidates if is_stale(Path(path), path in listed)],
        "nix": shutil.which("nix-store") is not None,
    }
