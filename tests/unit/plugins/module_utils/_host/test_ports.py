# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports."""

from __future__ import annotations

import socket
import threading

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import ports


def test_ports() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen()
        assert ports.is_port_taken("127.0.0.1", port)
        assert ports.is_port_taken("0.0.0.0", port)  # noqa: S104
    assert not ports.is_port_taken("127.0.0.1", port)
    assert not ports.is_port_taken("127.0.0.1", 65536)


@pytest.mark.parametrize(
    ("address", "is_own"),
    [("127.0.0.1", True), ("127.8.8.8", False), ("192.0.2.1", False), ("2001:db8::1", False)],
)
def test_the_addresses_of_this_machine(address: str, is_own: bool) -> None:
    assert ports.is_own(address) is is_own


@pytest.mark.parametrize(("greeting", "answers"), [(b"SSH-2.0-x\r\n", True), (b"HTTP/1.1", False), (b"", False)])
def test_ssh(greeting: bytes, answers: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        assert ports.ssh_answers("127.0.0.1", port) is answers
        thread.join()
    assert not ports.ssh_answers("127.0.0.1", port)
