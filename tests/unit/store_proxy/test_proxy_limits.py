# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile guest can send, and how much of it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.queries import ALLOWED
from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.session import Limits
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import SYSTEM, Proxy, encode, fuzz

IS_VALID_PATH, SET_OPTIONS, QUERY_VALID_PATHS, QUERY_PATH_INFO = 1, 19, 31, 26
SHORT = Limits(request_seconds=0.3, idle_seconds=0.6, longest_text=400, most_entries=10, longest_request=1000)


def send_and_read_error(proxy: Proxy, message: bytes) -> str:
    client = proxy.greeted()
    client.connection.sendall(message)
    text = client.outcome()
    assert client.is_closed()
    assert proxy.daemon.asked == []
    return text


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (encode(IS_VALID_PATH, 65537), "a text of 65537 bytes"),
        (encode(IS_VALID_PATH, 2**64 - 1), "a text of 18446744073709551615 bytes"),
        (encode(QUERY_VALID_PATHS, 20_001), "a list of 20001 entries"),
        (encode(QUERY_VALID_PATHS, 2**64 - 1), "a list of 18446744073709551615 entries"),
        (encode(SET_OPTIONS, *[0] * 12, 20_001), "a list of 20001 entries"),
        (encode(SET_OPTIONS, *[0] * 12, 100, *["x" * 60_000] * 100), "a message that is too long"),
        (encode(IS_VALID_PATH, 5) + b"hello\0\0\1", "a text that is not followed by zeros"),
        (encode(IS_VALID_PATH, 8) + b"\xff" * 8, "a text that is not UTF-8"),
        (encode(IS_VALID_PATH, "/etc/shadow"), "a text that is not a store path"),
        (encode(IS_VALID_PATH, f"{SYSTEM}/../.."), "a text that is not a store path"),
        (encode(IS_VALID_PATH, f"{SYSTEM}\n"), "a text that is not a store path"),
        (encode(IS_VALID_PATH, f"{SYSTEM}é"), "a text that is not a store path"),
        (encode(IS_VALID_PATH, SYSTEM.replace("b", "e", 1)), "a text that is not a store path"),
        (encode(29, "%"), "a text that is not a hash part"),
        (encode(40, ["ssh://host"]), "a text that is not a derivation with outputs"),
        (encode(43, "sha256:0!out"), "a text that is not an output of a derivation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_is_refused(proxy: Proxy, message: bytes, problem: str) -> None:
    assert send_and_read_error(proxy, message) == f"the guest has sent {problem}"


@pytest.mark.parametrize("sent", [encode(IS_VALID_PATH), encode(IS_VALID_PATH, 5) + b"he", b"\1\0\0"])
def test_the_end_in_the_middle_of_a_request(proxy: Proxy, sent: bytes) -> None:
    client = proxy.greeted()
    client.connection.sendall(sent)
    client.connection.shutdown(socket.SHUT_WR)
    client.stream.read()
    proxy.sessions[0].join(5)
    assert not proxy.sessions[0].is_alive()


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", encode(0), encode(0x6E697863, 0x123, 0)[:20]])
def test_something_else_than_nix(tmp_path: Path, greeting: bytes) -> None:
    proxy = Proxy(tmp_path, limits=SHORT)
    client = proxy.connect()
    client.connection.sendall(greeting)
    client.stream.read()  # ends


@pytest.mark.parametrize("pause", [0.05, 0.2])
def test_a_request_that_arrives_byte_by_byte_ends_in_time(tmp_path: Path, pause: float) -> None:
    """Each byte begins no time of its own."""
    client = Proxy(tmp_path, limits=SHORT).greeted()
    begun = time.monotonic()
    with suppress(OSError):
        for byte in encode(IS_VALID_PATH, SYSTEM):
            client.connection.sendall(bytes([byte]))
            time.sleep(pause)
    assert client.outcome() == "the guest has sent a message that takes too long"
    assert time.monotonic() - begun < 5


def test_an_idle_connection_ends(tmp_path: Path) -> None:
    client = Proxy(tmp_path, limits=SHORT).greeted()
    assert client.outcome() == "the guest has sent a message that takes too long"


def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, limits=SHORT)
    proxy.daemon.before_answer = lambda operation: time.sleep(2 if operation == QUERY_PATH_INFO else 0)
    proxy.daemon.start()
    client = proxy.greeted()
    assert "the host's Nix daemon cannot be used" in client.ask(QUERY_PATH_INFO, SYSTEM)
    assert client.is_closed()


def test_requests_of_one_guest_take_turns_at_the_daemon(proxy: Proxy) -> None:
    """A guest that asks on many connections keeps one process of the daemon busy, not many."""
    busy, most, lock = 0, 0, threading.Lock()

    def count(operation: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.005)
        with lock:
            busy -= 1

    proxy.daemon.before_answer = count
    clients = [proxy.greeted() for _turn in range(10)]
    for _turn in range(3):
        for client in clients:
            client.send(QUERY_PATH_INFO, SYSTEM)
    for client in clients:
        assert client.outcome() == ""
    assert most == 1


def test_a_guest_that_floods_does_not_delay_another(proxy: Proxy, tmp_path: Path) -> None:
    """Each guest has a process of its own; here, a lock of its own at the same daemon."""
    (tmp_path / "other").mkdir()
    other = Proxy(tmp_path / "other")
    other.guest.daemon = str(proxy.daemon.path)
    stop = threading.Event()

    def flood() -> None:
        client = proxy.greeted()
        while not stop.is_set():
            client.ask(QUERY_VALID_PATHS, [SYSTEM] * 1000, 0)
            client.texts()

    floods = [threading.Thread(target=flood, daemon=True) for _turn in range(8)]
    for thread in floods:
        thread.start()
    client = other.greeted()
    begun = time.monotonic()
    for _turn in range(10):
        assert client.ask(IS_VALID_PATH, SYSTEM) == ""
        assert client.number() == 1
    stop.set()
    for thread in floods:
        thread.join(30)
    assert time.monotonic() - begun < 10


def test_new_connections_to_the_daemon_have_a_rate(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path)
    proxy.guest.limits = Limits(new_connections_per_second=20)
    proxy.daemon.start()
    begun = time.monotonic()
    for _turn in range(7):
        assert proxy.greeted().ask(IS_VALID_PATH, SYSTEM) == ""
    assert time.monotonic() - begun >= 6 / 20


def test_malformed_requests(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of what the scenario `store` sends to a real daemon. Nothing reaches the daemon but what is allowed."""
    ended = fuzz(proxy.guest, tmp_path, monkeypatch, seed=7)
    assert set(proxy.daemon.asked) <= {int(operation) for operation in ALLOWED}
    assert ended >= 1009


def test_lists_of_the_daemon_are_read_whole(proxy: Proxy) -> None:
    client = proxy.greeted()
    paths = [f"/nix/store/{number:032d}-path" for number in range(20_000)]
    assert client.ask(QUERY_VALID_PATHS, [*paths[:19_999], SYSTEM], 1) == ""
    assert client.texts() == [SYSTEM]
