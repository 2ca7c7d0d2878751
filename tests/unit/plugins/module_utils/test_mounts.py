# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import (
    escape,
    mount_at,
    parse_mountinfo,
    unescape,
)

TABLE = rb"""
21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:31 / /sysroot/nix/.ro-store ro,relatime - virtiofs nix-store-share rw
31 21 0:32 / /sysroot/nix/.rw-store rw,relatime shared:2 master:1 - tmpfs tmpfs rw,size=1015360k,mode=755
32 21 0:33 / /nix/store rw,relatime - overlay overlay rw,lowerdir=/nix/store:/sysroot/nix/.ro-store
33 21 0:34 / /mnt/with\040space\134and\011tab rw - tmpfs none rw
"""
# Names on which splitlines() or a split() without arguments stumbles.
ODD_NAMES = [
    "/a b",
    "/tab\t",
    "/new\nline",
    "/back\\slash",
    "/nbsp\u00a0",
    "/line\u2028separator",
    "/cr\r",
    "/\x85",
    "#x",
]


def test_share() -> None:
    share = mount_at(parse_mountinfo(TABLE), "/sysroot/nix/.ro-store")
    assert share is not None
    assert (share.source, share.type, share.read_only) == ("nix-store-share", "virtiofs", True)


@pytest.mark.parametrize(
    ("mount_point", "read_only"),
    [("/", False), ("/sysroot/nix/.rw-store", False), ("/mnt/with space\\and\ttab", False)],
)
def test_optional_fields_and_escapes(mount_point: str, read_only: bool) -> None:
    mount = mount_at(parse_mountinfo(TABLE), mount_point)
    assert mount is not None
    assert mount.read_only is read_only


def test_the_last_mount_covers_the_others() -> None:
    covered = TABLE + b"40 32 0:33 / /nix/store ro,relatime - overlay overlay rw,lowerdir=/a\n"
    mount = mount_at(parse_mountinfo(covered), "/nix/store")
    assert mount is not None
    assert mount.read_only


def test_nothing_there() -> None:
    assert mount_at(parse_mountinfo(TABLE), "/nix") is None


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_survives_the_way_there_and_back(name: str) -> None:
    assert unescape(escape(name)) == name
    line = b"21 1 0:20 / %b rw - ext4 /dev/vda rw\n" % escape(name)
    assert mount_at(parse_mountinfo(line), name) is not None
