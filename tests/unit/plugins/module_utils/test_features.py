# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._features import (
    FEATURES,
    Feature,
    Virtiofsd,
    format_version,
    needs,
    unavailable,
)

C_DAEMON = Virtiofsd("/usr/lib/qemu/virtiofsd", (7, 2, 22), legacy=True)
RUST_1_7 = Virtiofsd("/usr/libexec/virtiofsd", (1, 7, 2))
RUST_1_13 = Virtiofsd("/usr/libexec/virtiofsd", (1, 13, 2))
PATCHED = Virtiofsd("/usr/local/lib/keystone-virtiofs/virtiofsd", (1, 13, 2), caches_stores=True)
UNKNOWN = Virtiofsd("/usr/local/bin/wrapper", None)

NOT_IN_C_DAEMON = {"cache_metadata", "cache_store", "inode_file_handles", "session", "idmap", "read_only", "translate"}
NOT_IN_LIBVIRT_9 = {"session", "idmap", "open_files", "read_only", "cache_store"}


def missing_on(libvirt: int, daemon: Virtiofsd | None) -> set[str]:
    return {feature.id for feature in FEATURES if unavailable(feature.id, libvirt, daemon)}


@pytest.mark.parametrize(
    ("libvirt", "daemon", "missing"),
    [
        pytest.param(9000000, C_DAEMON, NOT_IN_C_DAEMON | NOT_IN_LIBVIRT_9, id="debian-12"),
        pytest.param(11003000, RUST_1_13, {"lock", "cache_store"}, id="debian-13"),
        pytest.param(11003000, PATCHED, {"lock"}, id="debian-13-with-the-patch"),
        pytest.param(
            10000000, PATCHED, {"lock", "open_files", "read_only", "cache_store"}, id="old-libvirt-with-the-patch"
        ),
        pytest.param(
            11003000,
            RUST_1_7,
            {"lock", "cache_metadata", "cache_store", "read_only", "translate"},
            id="new-libvirt-old-daemon",
        ),
        pytest.param(11003000, C_DAEMON, NOT_IN_C_DAEMON, id="new-libvirt-c-daemon"),
        pytest.param(11003000, UNKNOWN, {"lock", "cache_store"}, id="daemon-of-unknown-version"),
        pytest.param(11003000, None, {f.id for f in FEATURES} - {"socket"}, id="no-daemon"),
        pytest.param(6008000, RUST_1_13, {f.id for f in FEATURES}, id="libvirt-needs-numa"),
    ],
)
def test_what_a_host_cannot_do(libvirt: int, daemon: Virtiofsd | None, missing: set[str]) -> None:
    assert missing_on(libvirt, daemon) == missing


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.id)
def test_libvirt_version_is_the_border(feature: Feature) -> None:
    daemon = C_DAEMON if feature.legacy else PATCHED
    assert unavailable(feature.id, feature.libvirt, daemon) is None
    reason = unavailable(feature.id, feature.libvirt - 1, daemon)
    assert reason is not None
    assert f"libvirt >= {format_version(feature.libvirt)}" in reason


@pytest.mark.parametrize(
    ("version", "brings"),
    [
        (6009000, {"share", "queue_size", "cache", "xattr", "cache_metadata", "inode_file_handles", "translate"}),
        (7002000, {"sandbox"}),
        (7003000, {"socket"}),
        (7009000, {"hotplug"}),
        (8005000, {"thread_pool_size"}),
        (10000000, {"session", "idmap"}),
        (10006000, {"open_files"}),
        (11000000, {"read_only", "cache_store"}),
    ],
)
def test_what_a_libvirt_release_brings(version: int, brings: set[str]) -> None:
    assert missing_on(version - 1, PATCHED) - missing_on(version, PATCHED) == brings


@pytest.mark.parametrize(
    ("feature_id", "too_old", "new_enough"),
    [
        ("cache_metadata", (1, 7, 2), (1, 8, 0)),
        ("inode_file_handles", (1, 1, 0), (1, 2, 0)),
        ("session", (1, 5, 1), (1, 6, 0)),
        ("idmap", (1, 5, 1), (1, 6, 0)),
        ("read_only", (1, 12, 0), (1, 13, 0)),
        ("translate", (1, 12, 0), (1, 13, 0)),
    ],
)
def test_virtiofsd_version_is_the_border(
    feature_id: str, too_old: tuple[int, ...], new_enough: tuple[int, ...]
) -> None:
    assert unavailable(feature_id, 12000000, Virtiofsd("x", new_enough)) is None
    assert unavailable(feature_id, 12000000, Virtiofsd("x", too_old))


def test_reason_names_what_is_needed_and_what_was_found() -> None:
    assert unavailable("read_only", 9000000, C_DAEMON) == (
        "read-only, enforced by virtiofsd needs libvirt >= 11.0.0 (found 9.0.0)"
        " and virtiofsd >= 1.13.0 (found the C virtiofsd 7.2.22)"
    )
    assert unavailable("lock", 11003000, RUST_1_13) == (
        "file locks across guests needs the C virtiofsd of QEMU <= 7.2 (found virtiofsd 1.13.2)"
    )
    assert "found none" in str(unavailable("share", 11003000, None))


def test_needs() -> None:
    assert needs("read_only") == "libvirt >= 11.0.0, virtiofsd >= 1.13.0"
    assert needs("sandbox") == "libvirt >= 7.2.0, a virtiofsd"
    assert needs("socket") == "libvirt >= 7.3.0"
    assert needs("cache_store") == "libvirt >= 11.0.0, a virtiofsd with the collection's patch"


@pytest.mark.parametrize(
    ("version", "text"),
    [(11003000, "11.3.0"), (9000000, "9.0.0"), (7002022, "7.2.22"), ((1, 13, 2), "1.13.2")],
)
def test_format_version(version: int | tuple[int, ...], text: str) -> None:
    assert format_version(version) == text


def test_ids_are_unique() -> None:
    assert len({feature.id for feature in FEATURES}) == len(FEATURES)
