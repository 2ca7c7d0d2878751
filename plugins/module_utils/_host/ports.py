# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports of the host: which are free to forward, and whether a guest's ssh server answers."""

from __future__ import annotations

import socket


def is_port_taken(address: str, port: int) -> bool:
    """Another process listens on the TCP port, so QEMU could not."""
    if port > 65535:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False


def ssh_answers(address: str, port: int) -> bool:
    """An ssh server greets on the port."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            # A busy guest greets late, and a new connection would only add to its load.
            connection.settimeout(15)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
