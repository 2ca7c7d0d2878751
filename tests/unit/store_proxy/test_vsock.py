# SPDX-License-Identifier: GPL-3.0-or-later
"""Which guest's proxy gets a connection over vsock. libvirt is its own test driver, and states running domains.

The scenario store does the same over a real vsock.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from queue import Queue

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy import __main__, vsock
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import SYSTEM, Client, Proxy

IS_VALID_PATH = 1
DOMAIN = """
<domain type="test" xmlns:test="http://libvirt.org/schemas/domain/test/1.0">
  <name>{}</name><memory>65536</memory><os><type>hvm</type></os>
  <test:runstate>{}</test:runstate>
  <devices>{}</devices>
</domain>
"""
RUNNING, OFF = 1, 5
# name, state, address
DOMAINS: list[tuple[str, int, int | None]] = [
    ("web", RUNNING, 7),
    ("db", RUNNING, 8),
    ("no-proxy", RUNNING, 9),
    ("off", OFF, 10),
    ("twin", RUNNING, 11),
    ("other-twin", RUNNING, 11),
    ("no-vsock", RUNNING, None),
]


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the proxies' sockets, on a host with these domains."""
    devices = '<vsock model="virtio"><cid auto="no" address="{}"/></vsock>'
    domains = [DOMAIN.format(name, state, devices.format(cid) if cid else "") for name, state, cid in DOMAINS]
    (tmp_path / "host.xml").write_text(f"<node>{''.join(domains)}</node>")
    monkeypatch.setattr(vsock, "LIBVIRT", f"test://{tmp_path}/host.xml")
    monkeypatch.setattr(vsock, "PROXIES", tmp_path / "proxies")
    vsock.PROXIES.mkdir()
    for name, _state, _cid in DOMAINS:
        if name != "no-proxy":
            (vsock.PROXIES / f"{name}.vsock").touch()
    return vsock.PROXIES


@pytest.mark.parametrize(
    ("cid", "guest"),
    [
        *((7, "web"), (8, "db")),
        # Without a proxy, not running, not the only one, nobody's, and the host itself.
        *((cid, None) for cid in (9, 10, 11, 12, 77, 0, 1, 2, 2**32 - 1)),
    ],
)
def test_libvirt_says_whose_an_address_is(cid: int, guest: str | None) -> None:
    assert vsock.find_guest(cid) == guest


def test_an_address_is_asked_for_each_time(host: Path, tmp_path: Path) -> None:
    assert vsock.find_guest(7) == "web"
    document = tmp_path / "host.xml"
    document.write_text(document.read_text().replace('"7"', '"70"').replace('"8"', '"7"'))
    assert vsock.find_guest(7) == "db"


def test_a_domain_that_has_just_stopped_has_no_address() -> None:
    with closing(libvirt.openReadOnly(vsock.LIBVIRT)) as connection:
        stopped = connection.lookupByName("off")
        assert 'address="10"' in stopped.XMLDesc().replace("'", '"')
        assert not vsock.has_address(stopped, 10)


class StandInListener:
    """Stands in for a vsock, whose kernel states the address of the peer. Each connection is half of a socketpair."""

    def __init__(self) -> None:
        self.arrived: Queue[tuple[socket.socket, tuple[int, int]]] = Queue()

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        return self.arrived.get()

    def connect(self, cid: int) -> Client:
        ours, theirs = socket.socketpair()
        self.arrived.put((theirs, (cid, 1234)))
        return Client(ours)


@pytest.fixture
def connect() -> Callable[[int], Client]:
    listener = StandInListener()
    threading.Thread(target=vsock.accept, args=(listener,), daemon=True).start()
    return listener.connect


@pytest.fixture
def start(host: Path, tmp_path: Path) -> Iterator[Callable[[str], Proxy]]:
    """The proxy of a guest, as systemd starts it; its nix-daemon is a stand-in."""
    daemons = []

    def start_proxy(name: str) -> Proxy:
        (tmp_path / name).mkdir()
        proxy = Proxy(tmp_path / name)
        proxy.daemon.start()
        (host / f"{name}.vsock").unlink()
        listener, channel = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(host / f"{name}.socket"))
        listener.listen()
        channel.bind(str(host / f"{name}.vsock"))
        daemons.append(proxy.daemon.listener)
        threading.Thread(target=__main__.accept, args=(listener, channel, proxy.guest), daemon=True).start()
        return proxy

    yield start_proxy
    for daemon in daemons:
        daemon.close()


def test_each_guest_is_answered_by_its_own_proxy(
    connect: Callable[[int], Client], start: Callable[[str], Proxy]
) -> None:
    proxies = {7: start("web"), 8: start("db")}
    for cid, proxy in proxies.items():
        client = connect(cid)
        client.greet()
        assert client.ask(IS_VALID_PATH, SYSTEM) == ""
        assert client.number() == 1
        assert proxy.daemon.asked[-1] == IS_VALID_PATH
    assert proxies[7].daemon.asked == proxies[8].daemon.asked


def test_the_proxy_still_answers_behind_ssh(host: Path, start: Callable[[str], Proxy]) -> None:
    start("web")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(host / "web.socket"))
        Client(connection).greet()


@pytest.mark.parametrize("cid", [9, 10, 11, 12, 1])
def test_nobody_else_is_answered(
    connect: Callable[[int], Client],
    start: Callable[[str], Proxy],
    cid: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    start("web")
    assert connect(cid).is_closed()
    assert f"refused a connection of the vsock address {cid}" in capfd.readouterr().err


@pytest.mark.parametrize("has_libvirt", [False, True])
def test_without_libvirt_or_the_proxy_nobody_is_answered(
    connect: Callable[[int], Client], monkeypatch: pytest.MonkeyPatch, has_libvirt: bool
) -> None:
    if not has_libvirt:
        monkeypatch.setattr(vsock, "LIBVIRT", "test:///nowhere/host.xml")
    assert connect(7).is_closed()


def test_a_guest_that_floods_waits_for_itself_only(
    connect: Callable[[int], Client], start: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    start("web")
    find_guest, released = vsock.find_guest, threading.Event()

    def slow_for_the_flood(cid: int) -> str | None:
        if cid == 8:
            released.wait(20)
        return find_guest(cid)

    monkeypatch.setattr(vsock, "find_guest", slow_for_the_flood)
    flood = [connect(8) for _turn in range(3 * vsock.WAITING)]
    connect(7).greet()
    closed = 0
    for client in flood:
        client.connection.setblocking(False)
        with suppress(BlockingIOError):
            closed += client.connection.recv(1) == b""
    assert len(flood) - closed in (vsock.WAITING, vsock.WAITING + 1)
    released.set()
    for client in flood:
        client.connection.settimeout(20)
        assert client.is_closed(), "db has no proxy"
