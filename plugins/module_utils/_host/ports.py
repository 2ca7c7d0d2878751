# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and TCP ports: which are the host's, which are free to forward, and whether an ssh server answers."""

from __future__ import annotations

import ipaddress
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


def is_own(address: str) -> bool:
    """Whether an IP address is one of this machine. Nothing is sent: the kernel answers, as it chooses the source."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == ipaddress.ip_address(address)
    except OSError:  # no route to it, so it is elsewhere
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
