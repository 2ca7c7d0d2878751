# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's end of the connection: Nix gets an answer or a reason, and never waits for long."""

from __future__ import annotations

import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import SYSTEM, Client, Proxy

PROGRAM = Path(__file__).parents[3] / "nix/modules/keystone-store-relay"
IS_VALID_PATH = 1
Serve = Callable[[socket.socket], None]


@pytest.fixture
def relay(tmp_path: Path) -> Any:
    loader = SourceFileLoader("keystone_store_relay", str(PROGRAM))
    specification = spec_from_loader(loader.name, loader)
    assert specification is not None
    program = module_from_spec(specification)
    loader.exec_module(program)
    program.ANSWER_TIMEOUT = 0.5  # type: ignore[attr-defined]
    program.SILENCE_TIMEOUT = 1  # type: ignore[attr-defined]
    # Stands in for the host's vsock, which a test must not reach.
    program.VSOCK = (socket.AF_UNIX, str(tmp_path / "vsock"))  # type: ignore[attr-defined]
    return program


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Serves the socket that the host forwards, or the stand-in for its vsock, with a function of the test."""
    listeners: list[socket.socket] = []

    def start(serve: Serve, name: str = "forwarded") -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / name))
        listener.listen()
        listeners.append(listener)
        threading.Thread(target=lambda: serve(listener.accept()[0]), daemon=True).start()

    yield start
    for listener in listeners:
        listener.close()


def hang_up(connection: socket.socket) -> None:
    connection.recv(100)
    connection.close()


def greet_as(text: str) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(text.encode())
        connection.recv(100)  # until the client has gone

    return serve


def connect(relay: Any, forwarded: Path) -> Client:
    ours, theirs = socket.socketpair()
    threading.Thread(target=relay.relay, args=(theirs, forwarded), daemon=True).start()
    return Client(ours)


def read_refusal(client: Client) -> str:
    """The error of a relay that has greeted as a Nix daemon."""
    client.send(0x6E697863, 0x126)
    assert (client.number(), client.number()) == (0x6478696F, 0x123)
    client.send(0, 0)
    assert (client.text(), client.number()) == ("keystone-store-relay", 2)
    text = client.outcome()
    assert client.is_closed()
    return text


def test_queries_reach_the_host(relay: Any, host: Any, proxy: Proxy, tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        server = proxy.connect()  # the proxy behind the connection
        relay.copy_both_ways(connection, server.connection)

    host(serve)
    client = connect(relay, tmp_path / "forwarded")
    client.greet()
    assert client.ask(IS_VALID_PATH, SYSTEM) == ""
    assert client.number() == 1


def test_without_a_connection_of_the_host(relay: Any, tmp_path: Path) -> None:
    text = read_refusal(connect(relay, tmp_path / "forwarded"))
    missing = "[Errno 2] No such file or directory"
    assert text.startswith(f"the Nix store of this guest's host does not answer (vsock: {missing}; ssh: {missing})")


def test_the_real_vsock_is_that_of_the_host(relay: Any) -> None:
    """Below 1024, where only root can listen; keystone-store-vsock.socket has the same port."""
    family, address = runpy.run_path(str(PROGRAM))["VSOCK"]
    assert (family, address) == (socket.AF_VSOCK, (2, 649))


@pytest.mark.parametrize("names", [["vsock"], ["forwarded"], ["vsock", "forwarded"]])
def test_a_vsock_comes_before_ssh(relay: Any, host: Any, tmp_path: Path, names: list[str]) -> None:
    for name in names:
        host(greet_as(name), name)
    client = connect(relay, tmp_path / "forwarded")
    client.connection.sendall(b"hello")
    assert client.connection.recv(100) == names[0].encode()


def test_ssh_where_the_host_refuses_the_vsock(relay: Any, host: Any, tmp_path: Path) -> None:
    host(hang_up, "vsock")
    host(greet_as("greeting"))
    client = connect(relay, tmp_path / "forwarded")
    client.connection.sendall(b"hello")
    assert client.connection.recv(100) == b"greeting"


def test_a_socket_that_an_earlier_connection_left(relay: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "forwarded"))
    assert "Connection refused" in read_refusal(connect(relay, tmp_path / "forwarded"))


@pytest.mark.parametrize(("serve", "reason"), [(lambda one: time.sleep(5), "timed out"), (hang_up, "closed")])
def test_a_host_that_does_not_greet(relay: Any, host: Any, tmp_path: Path, serve: Serve, reason: str) -> None:
    host(serve)
    begun = time.monotonic()
    assert reason in read_refusal(connect(relay, tmp_path / "forwarded"))
    assert time.monotonic() - begun < 4


def test_a_host_that_stops_to_answer(relay: Any, host: Any, tmp_path: Path) -> None:
    """A request without an answer ends; a connection without a request lasts."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"greeting")
        time.sleep(10)
        connection.close()

    host(serve)
    client = connect(relay, tmp_path / "forwarded")
    client.connection.sendall(b"hello")
    assert client.connection.recv(100) == b"greeting"
    client.connection.settimeout(2)
    with pytest.raises(TimeoutError):
        client.connection.recv(1)
    client.connection.sendall(b"request")
    assert client.connection.recv(1) == b""


def test_the_socket_is_for_root_and_replaces_another(relay: Any, tmp_path: Path) -> None:
    for _turn in range(2):
        listener = relay.listen(tmp_path / "host")
        assert (tmp_path / "host").stat().st_mode & 0o777 == 0o600
        listener.close()
