# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils import _mounts
from ansible_collections.keystone.virtiofs.plugins.module_utils._guest import store
from ansible_collections.keystone.virtiofs.plugins.module_utils._guest.store import (
    OverlayLayers,
    describe_store,
    is_stale,
    layers_of,
    overlay_layers,
    upper_directory,
)

LAYERS = (
    "lowerdir=/nix/store:/sysroot/nix/.ro-store,"
    "upperdir=/sysroot/nix/.rw-store/upper,workdir=/sysroot/nix/.rw-store/work"
)
GUEST = rf"""
21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:31 / /sysroot/nix/.ro-store ro,relatime - virtiofs nix-store-share rw
31 21 0:32 / /sysroot/nix/.rw-store rw,relatime shared:2 master:1 - tmpfs tmpfs rw,size=1015360k,mode=755
32 21 0:33 / /nix/store rw,relatime - overlay overlay rw,{LAYERS}
""".strip()


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        (
            ["rw", "lowerdir=/nix/store:/ro", "upperdir=/rw/upper", "workdir=/rw/work"],
            OverlayLayers(("/nix/store", "/ro"), "/rw/upper", "/rw/work"),
        ),
        (["ro", "lowerdir+=/a", "lowerdir+=/b:c"], OverlayLayers(("/a", "/b:c"))),
        (["lowerdir=/meta::/data"], OverlayLayers(("/meta", "/data"))),
        (["lowerdir=/with\\:colon:/b"], OverlayLayers(("/with:colon", "/b"))),
        (["rw"], OverlayLayers()),
    ],
)
def test_overlay_layers(options: list[str], layers: OverlayLayers) -> None:
    assert overlay_layers(options) == layers


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        (None, None),
        ("/sysroot/nix/.rw-store/upper", "/sysroot/nix/.rw-store/upper"),
        ("/sysroot/sysroot/nix/.rw-store/upper", "/sysroot/nix/.rw-store/upper"),
        ("/elsewhere/upper", "/elsewhere/upper"),
    ],
)
def test_upper_directory_after_switch_root(upper: str | None, expected: str | None) -> None:
    found = upper_directory(OverlayLayers(upper=upper), "/sysroot/nix/.rw-store")
    assert found == (Path(expected) if expected else None)


@pytest.mark.parametrize(
    ("held_by", "layers"),
    [
        ((), []),
        (("upper",), ["upper"]),
        (("share",), ["share"]),
        (("upper", "share"), ["upper", "share"]),
        (("store",), ["own"]),
        (("store", "share"), ["share"]),
    ],
)
def test_layers_of_a_path(tmp_path: Path, held_by: tuple[str, ...], layers: list[str]) -> None:
    folders = {name: tmp_path / name for name in ("store", "share", "upper")}
    for folder in folders.values():
        folder.mkdir()
    for name in held_by:
        (folders[name] / "abc-hello").touch()
    assert layers_of(Path("abc-hello"), folders["store"], folders["share"], folders["upper"]) == layers


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a whiteout")
def test_deleted_in_the_guest(tmp_path: Path) -> None:
    upper, share = tmp_path / "upper", tmp_path / "share"
    upper.mkdir()
    share.mkdir()
    (share / "abc").touch()
    os.mknod(upper / "abc", 0o020000, os.makedev(0, 0))
    assert layers_of(Path("abc"), tmp_path / "store", share, upper) == ["deleted", "share"]


@pytest.mark.parametrize(
    ("code", "listed", "stale"),
    [
        (errno.ESTALE, True, True),
        (errno.ESTALE, False, True),
        (errno.ENOENT, True, True),
        (errno.ENOENT, False, False),
        (errno.EACCES, True, False),
    ],
)
def test_stale(monkeypatch: pytest.MonkeyPatch, code: int, listed: bool, stale: bool) -> None:
    def lstat(_path: Path) -> os.stat_result:
        raise OSError(code, "")

    monkeypatch.setattr(store.Path, "lstat", lstat)
    assert is_stale(Path("/nix/store/abc"), listed) is stale


def test_a_machine_without_a_store(tmp_path: Path) -> None:
    result = describe_store(
        {
            "mount_point": str(tmp_path / "store"),
            "ro_store": str(tmp_path / "ro"),
            "rw_store": str(tmp_path / "rw"),
            "tag": "nix-store-share",
            "paths": [str(tmp_path / "store" / "abc")],
            "stale_sample": 10,
        }
    )
    assert not result["share"]["mounted"]
    assert not result["overlay"]["mounted"]
    assert (result["readable"], result["writable"], result["entries"]) == (False, False, None)
    assert result["rw_layer"] is None
    assert result["paths"] == [{"path": str(tmp_path / "store" / "abc"), "exists": False, "layers": []}]
    assert result["stale"] == []


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A guest's directories and its mountinfo."""
    for folder in ("store", "ro", "rw/upper"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("abc-hello", "def-own"):
        (tmp_path / "store" / name).touch()
    (tmp_path / "ro" / "abc-hello").touch()
    mountinfo = tmp_path / "mountinfo"
    text = GUEST.replace("/sysroot/nix/.ro-store", f"{tmp_path}/ro").replace("/sysroot/nix/.rw-store", f"{tmp_path}/rw")
    mountinfo.write_text(text.replace("/nix/store", f"{tmp_path}/store"), encoding="utf-8")
    monkeypatch.setattr(_mounts, "MOUNTINFO", mountinfo)
    return {
        "mount_point": f"{tmp_path}/store",
        "ro_store": f"{tmp_path}/ro",
        "rw_store": f"{tmp_path}/rw",
        "tag": "nix-store-share",
        "paths": [f"{tmp_path}/store/abc-hello", f"{tmp_path}/store/def-own"],
        "stale_sample": 10,
    }


def test_a_guest(guest: dict[str, object]) -> None:
    result = describe_store(guest)
    assert result["share"]["mounted"]
    assert result["share"]["read_only"]
    assert result["overlay"]["mounted"]
    assert result["overlay"]["lower"] == [guest["mount_point"], guest["ro_store"]]
    assert (result["entries"], result["share_entries"]) == (2, 1)
    assert [path["layers"] for path in result["paths"]] == [["share"], ["own"]]
    assert result["rw_layer"]["type"] == "tmpfs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a whiteout")
def test_paths_of_the_host_that_were_deleted_in_the_guest(guest: dict[str, object]) -> None:
    assert describe_store(guest)["hidden"] == []
    for name in ("abc-hello", "def-own"):
        os.mknod(f"{guest['rw_store']}/upper/{name}", 0o020000, os.makedev(0, 0))
    assert describe_store(guest)["hidden"] == [f"{guest['mount_point']}/abc-hello"]


def test_another_share_in_its_place(guest: dict[str, object]) -> None:
    result = describe_store({**guest, "tag": "other"})
    assert not result["share"]["mounted"]
    assert result["share"]["source"] == "nix-store-share"
