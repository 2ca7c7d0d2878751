# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest whose host builds for it may add and build, and how much of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy import builds
from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.builds import BuildLimits
from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.protocol import Operation, Refused
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.builds_support import (
    ADD_MULTIPLE,
    BUILD,
    BUILD_DERIVATION,
    RESULT,
    SOURCE,
    TARGET,
    BuildProxy,
    addition,
    framed,
    hang_up,
    information,
)
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import (
    DERIVATION,
    LIBRARY,
    SYSTEM,
    encode,
    fuzz,
)
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.test_proxy_operations import NUMBERS, PASSED

LIMITS = BuildLimits(at_once=1, free_space=0, look_seconds=0.1, part_seconds=2)
ISOLATED = b'Derive([("out","/nix/store/x","","")],[],'
FIXED = b'Derive([("out","/nix/store/x","r:sha256","00")],[],'
BUILDS = {"AddMultipleToStore", "BuildPathsWithResults"}
CONTENTS = b"contents" * 20


@pytest.fixture
def start_of_derivations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Of those in the store, which is not that of this machine."""
    known = {DERIVATION: ISOLATED}
    monkeypatch.setattr(builds, "read_start", known.__getitem__)
    monkeypatch.setattr(builds, "STORE", str(tmp_path))
    return known


@pytest.fixture
def proxy(tmp_path: Path, start_of_derivations: dict[str, bytes]) -> Iterator[BuildProxy]:
    yield from limited(tmp_path, LIMITS)


def limited(directory: Path, limits: BuildLimits) -> Iterator[BuildProxy]:
    proxy = BuildProxy(directory, limits)
    yield proxy
    proxy.daemon.listener.close()
    proxy.builder.listener.close()


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - set(PASSED) - BUILDS - {"BuildDerivation"}))
def test_no_other_operation_passes(proxy: BuildProxy, name: str) -> None:
    client = proxy.send(encode(NUMBERS[name], SYSTEM, [SYSTEM], 1))
    assert client.result() == f"the operation {name} is refused: guests only read and build"
    assert client.is_closed()
    assert proxy.builder.asked == []


@pytest.mark.parametrize("name", PASSED)
def test_queries_are_answered_as_without_builds(proxy: BuildProxy, name: str) -> None:
    client = proxy.send(encode(NUMBERS[name], *PASSED[name][0]))
    assert client.result() == ""
    client.connection.shutdown(socket.SHUT_WR)
    assert client.stream.read() == encode(*PASSED[name][1])
    assert proxy.builder.asked == []


@pytest.mark.parametrize(
    ("address", "signatures", "kept"),
    [
        (SOURCE, ["key:forged"], []),  # the name follows from the contents, so no signature is needed
        (f"text:sha256:{'0' * 52}", [], []),
        (f"fixed:sha512:{'0' * 103}", [], []),
        ("", ["cache:signature"], ["cache:signature"]),
    ],
)
def test_what_the_daemon_can_verify_is_added(
    proxy: BuildProxy, address: str, signatures: list[str], kept: list[str]
) -> None:
    path = information(LIBRARY, len(CONTENTS), address, signatures) + CONTENTS
    client = proxy.send(addition(path, path))
    assert client.result() == ""
    assert proxy.builder.added == [(LIBRARY, address, kept, SYSTEM, CONTENTS)] * 2
    assert proxy.daemon.asked == []


def test_what_nobody_can_verify_is_dropped(proxy: BuildProxy) -> None:
    """The guest has built it. The host builds it as well when it is needed."""
    dropped = information(LIBRARY, len(CONTENTS), address="") + CONTENTS
    source = information(SYSTEM, len(CONTENTS)) + CONTENTS
    client = proxy.send(addition(dropped, source, dropped, repair=1))
    assert client.result() == ""
    assert [path for path, *_rest in proxy.builder.added] == [SYSTEM]


@pytest.mark.parametrize("address", [f"fixed:md5:{'0' * 52}", f"fixed:r:sha1:{'0' * 52}", "fixed:git:sha1:0", "x"])
def test_a_name_that_follows_from_a_weak_hash_is_refused(proxy: BuildProxy, address: str) -> None:
    client = proxy.send(addition(information(LIBRARY, 8, address) + bytes(8)))
    assert "only names from sha256 and sha512" in client.result()
    assert proxy.builder.added == []


def test_the_error_of_the_daemon_is_for_the_guest(proxy: BuildProxy) -> None:
    proxy.builder.error = "ca hash mismatch"
    client = proxy.send(addition(information(LIBRARY, 8) + bytes(8)))
    assert client.result() == "the host's Nix: ca hash mismatch"
    assert client.is_closed()


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (addition(information(LIBRARY, 2**63)), "the host takes 8 GiB at once from a guest"),
        (addition(information(LIBRARY, 500) + bytes(100)), "frames that end in the middle of a message"),
        (addition(information("/etc/shadow", 8) + bytes(8)), "a text that is not a store path"),
        (encode(ADD_MULTIPLE, 0, 0) + framed(encode(2**64 - 1)), "a list of 18446744073709551615 entries"),
        (encode(ADD_MULTIPLE, 0, 0) + framed(encode(1, 2**40)), "a text of 1099511627776 bytes"),
        (encode(ADD_MULTIPLE, 0, 0) + framed(b""), "frames that end in the middle of a message"),
        (encode(BUILD, ["/bin/sh"], 0), "a text that is not a derivation with outputs"),
        (encode(BUILD, [LIBRARY], 0), "the host only builds derivations for guests"),
        (encode(BUILD, [f"{LIBRARY}!out"], 0), "the host only builds derivations for guests"),
        (encode(BUILD, [TARGET], 1), "neither checks nor repairs"),
        (encode(BUILD, [TARGET], 2), "neither checks nor repairs"),
        (encode(BUILD_DERIVATION, DERIVATION), "could use the network"),
    ],
)
def test_a_request_that_is_refused(proxy: BuildProxy, message: bytes, problem: str) -> None:
    client = proxy.send(message)
    assert problem in client.result()
    assert client.is_closed()
    assert (proxy.builder.added, proxy.builder.built) == ([], [])


def test_what_follows_the_last_path_is_refused(proxy: BuildProxy) -> None:
    client = proxy.send(addition(information(LIBRARY, 8) + bytes(16)))
    assert client.result() == "the guest has sent frames that do not end with their message"


def test_contents_without_end_are_refused_in_time(tmp_path: Path, start_of_derivations: dict[str, bytes]) -> None:
    limits = replace(LIMITS, request_seconds=1)
    for proxy in limited(tmp_path, limits):
        message = addition(information(LIBRARY, 4 << 30))[:-8]
        client = proxy.send(message)
        begun = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - begun < 10:
                client.connection.sendall(encode(65536) + bytes(65536))
                time.sleep(0.05)
        assert time.monotonic() - begun < 5
        assert "the host ends what it does for a guest after 1 s" in client.result()
        assert proxy.builder.added == []


def test_contents_that_stop_are_refused_in_time(proxy: BuildProxy) -> None:
    client = proxy.send(addition(information(LIBRARY, 1000))[:-8])
    assert client.result() == "the guest has sent a message that takes too long"


def test_a_build(proxy: BuildProxy) -> None:
    proxy.builder.will_build = [DERIVATION]
    client = proxy.send(encode(BUILD, [TARGET], 0))
    assert client.result() == ""
    assert b"log \xff\xfe \n" in client.log
    client.connection.shutdown(socket.SHUT_WR)
    assert client.stream.read() == encode(*RESULT)
    assert proxy.builder.built == [TARGET]


def test_why_a_build_has_failed(proxy: BuildProxy) -> None:
    proxy.builder.result[2:4] = [3, "builder failed with exit code 3"]
    client = proxy.send(encode(BUILD, [TARGET], 0))
    assert client.result() == ""
    assert client.log[-1] == b"builder failed with exit code 3"


@pytest.mark.parametrize(
    "start",
    [
        FIXED,
        b'Derive([("out","","r:sha256","")],[],',
        b'Derive([("out","","r:sha256","impure")],[],',
        b'Derive([("out","","","")],[],',
        b'Derive([("a","/nix/store/x","",""),("out","/nix/store/x","sha256","00")],[],',
        b'Derive([("o\\"ut","/nix/store/x","","")],[],',
        b'DrvWithVersion("xp-dyn-drv",[("out","/nix/store/x","","")],[],',
        b"Derive([],[],",
        b"",
    ],
)
def test_a_derivation_that_could_use_the_network_is_not_built(
    proxy: BuildProxy, start_of_derivations: dict[str, bytes], start: bytes
) -> None:
    """Whether it is asked for or needed."""
    needed = DERIVATION.replace("system", "needed")
    start_of_derivations[needed] = start
    proxy.builder.will_build = [DERIVATION, needed]
    client = proxy.send(encode(BUILD, [TARGET], 0))
    assert client.result().startswith(
        f"{needed} has outputs that are named after their contents, and could use the network"
    )
    assert proxy.builder.built == []


def test_a_derivation_with_several_outputs_is_built() -> None:
    assert builds.ISOLATED.match(b'Derive([("dev","/nix/store/x","",""),("out","/nix/store/y","","")],[],')


def test_the_start_of_a_derivation_is_not_that_of_what_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(ISOLATED)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert builds.read_start(str(tmp_path / "secret")) == ISOLATED
    for name in ("link", ".", "missing"):
        with pytest.raises(Refused):
            builds.read_start(str(tmp_path / name))


def test_a_guest_has_so_many_builds_at_once(tmp_path: Path, start_of_derivations: dict[str, bytes]) -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def count(operation: int) -> None:
        nonlocal busy, most
        if operation == BUILD:
            with lock:
                busy += 1
                most = max(most, busy)
            time.sleep(0.3)
            with lock:
                busy -= 1

    for proxy in limited(tmp_path, replace(LIMITS, at_once=2)):
        proxy.builder.before_answer = count
        clients = [proxy.send(encode(BUILD, [TARGET], 0)) for _turn in range(6)]
        assert [client.result() for client in clients] == [""] * 6
        assert all(b"waiting for the host of this guest" in client.log for client in clients)
    assert most == 2


def test_a_build_that_fails_leaves_its_turn(proxy: BuildProxy, start_of_derivations: dict[str, bytes]) -> None:
    proxy.builder.error = "no"
    for _turn in range(3):
        assert proxy.send(encode(BUILD, [TARGET], 0)).result() == "the host's Nix: no"


def test_the_guest_is_told_that_a_silent_build_goes_on(proxy: BuildProxy) -> None:
    proxy.builder.before_answer = lambda operation: time.sleep(2.5 if operation == BUILD else 0)
    client = proxy.send(encode(BUILD, [TARGET], 0))
    assert client.result() == ""
    assert client.log.count(b"progress") >= 2


def test_a_build_has_a_limit_of_time(tmp_path: Path, start_of_derivations: dict[str, bytes]) -> None:
    for proxy in limited(tmp_path, replace(LIMITS, request_seconds=0.5)):
        ended = ends_of_connections(proxy)
        client = proxy.send(encode(BUILD, [TARGET], 0))
        assert "the host ends what it does for a guest after 0.5 s" in client.result()
        assert ended.wait(5), "the daemon still builds"


def test_a_guest_that_hangs_up_ends_its_build(proxy: BuildProxy) -> None:
    ended = ends_of_connections(proxy)
    client = proxy.send(encode(BUILD, [TARGET], 0))
    while BUILD not in proxy.builder.asked:
        time.sleep(0.01)
    hang_up(client)
    assert ended.wait(5), "the daemon still builds"


def ends_of_connections(proxy: BuildProxy) -> threading.Event:
    """A build that only the end of the connection ends, as with Nix."""
    ended = threading.Event()

    def build(operation: int) -> None:
        if operation != BUILD:
            return
        if proxy.builder.peers[-1].stream.read(1) == b"":
            ended.set()

    proxy.builder.before_answer = build
    return ended


@pytest.mark.parametrize("message", [addition(information(LIBRARY, 8) + bytes(8)), encode(BUILD, [TARGET], 0)])
def test_a_store_that_is_almost_full_takes_nothing(
    tmp_path: Path, start_of_derivations: dict[str, bytes], message: bytes
) -> None:
    for proxy in limited(tmp_path, replace(LIMITS, free_space=1 << 60)):
        client = proxy.send(message)
        assert "GiB would be free in the host's store; collect garbage on the host" in client.result()
        assert (proxy.builder.added, proxy.builder.built) == ([], [])


def test_a_path_that_would_fill_the_store_is_refused(tmp_path: Path, start_of_derivations: dict[str, bytes]) -> None:
    store = os.statvfs(tmp_path)
    free = store.f_bavail * store.f_frsize
    for proxy in limited(tmp_path, replace(LIMITS, free_space=free - (1 << 30), most_added=1 << 60)):
        client = proxy.send(addition(information(LIBRARY, 8 << 30)))
        assert "collect garbage on the host" in client.result()


def test_without_the_daemon_for_builds_queries_are_answered(proxy: BuildProxy) -> None:
    proxy.builder.listener.close()
    proxy.builder.path.unlink()
    assert "the host's Nix daemon cannot be used" in proxy.send(encode(BUILD, [TARGET], 0)).result()
    assert proxy.send(encode(NUMBERS["IsValidPath"], SYSTEM)).result() == ""


def test_a_daemon_that_trusts_the_proxies_builds_nothing(proxy: BuildProxy) -> None:
    proxy.builder.trust = 1
    assert "the host's Nix daemon cannot be used" in proxy.send(encode(BUILD, [TARGET], 0)).result()
    assert "trusted-users" in proxy.log[0]


def test_malformed_requests(proxy: BuildProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = fuzz(proxy.guest, tmp_path, monkeypatch, seed=11)
    assert set(proxy.builder.asked) <= {int(Operation.SET_OPTIONS), 39, 40, BUILD}
    assert ended >= 1009
