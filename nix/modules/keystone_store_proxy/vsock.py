# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand each connection over vsock to the proxy of the guest that the connection comes from.

systemd passes the listening socket. The kernel says which address (CID) a connection comes from, and drops what a guest
sends from another one; libvirt says which domain has the address now. An answer is not kept, because the address of a
guest that stops is free for the next one. Nothing is read from a connection here.
"""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from pathlib import Path
from queue import Full, Queue
from xml.etree import ElementTree

import libvirt

from . import PASSED_SOCKET, log

LIBVIRT = "qemu:///system"
PROXIES = Path("/run/keystone-store")
PROXY = "{}.vsock"
WAITING = 64  # connections of one guest
HAND_OVER_TIMEOUT = 30  # seconds until the proxy takes the connection


def find_guest(cid: int) -> str | None:
    """The running domain with this address, among those that have a proxy."""
    names = {path.stem for path in PROXIES.glob(PROXY.format("*"))}
    with closing(libvirt.openReadOnly(LIBVIRT)) as connection:
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        found = [domain.name() for domain in domains if domain.name() in names and has_address(domain, cid)]
    return found[0] if len(found) == 1 else None


def has_address(domain: libvirt.virDomain, cid: int) -> bool:
    try:
        document = ElementTree.fromstring(domain.XMLDesc())  # noqa: S314 (written by libvirt)
    except libvirt.libvirtError:  # has just stopped
        return False
    # A domain that has just stopped has no id; its XML may name an address for its next start.
    addresses = [found.get("address") for found in document.iterfind("devices/vsock/cid")]
    return "id" in document.attrib and str(cid) in addresses


def hand_over(connection: socket.socket, cid: int) -> None:
    try:
        guest = find_guest(cid)
        if guest is None:
            log(f"refused a connection of the vsock address {cid}, which no guest with a live store has")
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as proxy:
            proxy.settimeout(HAND_OVER_TIMEOUT)
            proxy.connect(str(PROXIES / PROXY.format(guest)))
            socket.send_fds(proxy, [b"\0"], [connection.fileno()])
    except (OSError, libvirt.libvirtError) as problem:
        log(f"cannot hand over a connection of the vsock address {cid}: {problem}")


def serve(cid: int, waiting: Queue[socket.socket]) -> None:
    while True:
        with waiting.get() as connection:
            hand_over(connection, cid)


def accept(listener: socket.socket) -> None:
    """Let each guest wait for itself only."""
    queues: dict[int, Queue[socket.socket]] = {}
    while True:
        connection, (cid, _port) = listener.accept()
        if cid not in queues:
            queues[cid] = Queue(WAITING)
            threading.Thread(target=serve, args=(cid, queues[cid]), daemon=True).start()
        try:
            queues[cid].put_nowait(connection)
        except Full:
            connection.close()


if __name__ == "__main__":
    accept(socket.socket(fileno=PASSED_SOCKET))
