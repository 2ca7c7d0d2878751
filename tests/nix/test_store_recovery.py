# SPDX-License-Identifier: GPL-3.0-or-later
"""How the guest module remounts the store and recovers paths of the host, in a mount namespace of its own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import World

REMOUNT = "keystone/remount-store"

# What a garbage collector in the guest does: one path of the host and one of the guest's own store are deleted.
COLLECT = """\
set -e
mount -t tmpfs none {0}
mkdir -p {0}/own/own-path {0}/ro/host-path {0}/ro/other {0}/rw/upper {0}/rw/work {0}/store
echo hello >{0}/ro/host-path/file
mount -t overlay -o lowerdir={0}/own:{0}/ro,upperdir={0}/rw/upper,workdir={0}/rw/work overlay {0}/store
mount --bind {0}/store {0}/store
{1}
mount -o remount,bind,ro,nosuid {0}/store
{2}
ls {0}/store
cat {0}/store/host-path/file
findmnt --noheadings --output VFS-OPTIONS --mountpoint {0}/store | tail -n 1
"""


def settings(root: Path) -> str:
    places = {"roStoreMount": "ro", "rwStoreMount": "rw", "mountPoint": "store"}
    return 'storeRegistration = "none";' + "".join(f'{name} = "{root}/{place}";' for name, place in places.items())


def remount(world: World, root: Path, folder: Path) -> Path:
    """The program that remounts the store, with this machine's packages."""
    entry = world.guest(f'environment.etc."{REMOUNT}"', settings(root))
    assert entry["mode"] == "0755"
    program = folder / "remount-store"
    program.write_text(re.sub(r"/nix/store/[a-z0-9]{32}-[^/ ]*", "/usr", entry["text"]))
    program.chmod(0o755)
    return program


def in_guest(root: Path, steps: str) -> subprocess.CompletedProcess[str]:
    """The steps in a mount namespace of their own."""
    root.mkdir()
    try:
        return subprocess.run(["unshare", "--mount", "sh", "-c", steps], capture_output=True, text=True, check=False)
    finally:
        root.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize(
    ("deleted", "left"),
    [
        ("rm -r {0}/store/host-path {0}/store/own-path", ["host-path", "other"]),
        (":", ["host-path", "other", "own-path"]),
    ],
)
def test_a_path_of_the_host_comes_back(world: World, tmp_path: Path, deleted: str, left: list[str]) -> None:
    root = Path("/run", tmp_path.name)  # an overlay does not lie on another one
    script = world.guest("systemd.services.keystone-store-recovery.script", settings(root))
    (tmp_path / "recovery").write_text(script.replace(f"/etc/{REMOUNT}", str(remount(world, root, tmp_path))))
    run = in_guest(root, COLLECT.format(root, deleted.format(root), f"sh -e {tmp_path}/recovery"))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == [*left, "hello", "ro,nosuid,relatime"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("argument", ["", "{0}/store"])
def test_a_remount_keeps_the_options_and_needs_no_path(world: World, tmp_path: Path, argument: str) -> None:
    # As nix-daemon runs the hook, and as people do.
    root = Path("/run", tmp_path.name)
    hook = f"env -i PATH=/nonexistent {remount(world, root, tmp_path)} {argument}".format(root)
    run = in_guest(root, COLLECT.format(root, f"echo new >{root}/ro/new", hook))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["host-path", "new", "other", "own-path", "hello", "ro,nosuid,relatime"]


def test_a_remount_of_what_is_no_overlay_fails(world: World, tmp_path: Path) -> None:
    hook = remount(world, Path("/nonexistent"), tmp_path)
    assert subprocess.run([hook], capture_output=True, check=False).returncode != 0


def test_it_runs_after_each_change_and_at_boot_where_the_layer_lasts(world: World) -> None:
    path = world.guest("systemd.paths.keystone-store-recovery")
    assert path["pathConfig"] == {"PathChanged": ["/sysroot/nix/.rw-store/upper"]}
    assert path["wantedBy"] == ["multi-user.target"]
    assert world.guest("systemd.services.keystone-store-recovery.wantedBy") == []
    disk = '{ fileSystems."/sysroot/nix/.rw-store" = { device = "/dev/vdb"; fsType = "ext4"; }; }'
    lasting = world.guest("systemd.services.keystone-store-recovery.wantedBy", "persistentRwStore = true;", disk)
    assert lasting == ["multi-user.target"]
