# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer the queries of one guest about the host's Nix store.

systemd passes a listening socket, and one over which keystone_store_proxy.vsock hands over connections.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys
import threading
from pathlib import Path

from . import PASSED_SOCKET, log
from .builds import Builder, BuildLimits
from .session import Guest, Limits, Session

DAEMON = "/nix/var/nix/daemon-socket/socket"
BUILDER = "/run/keystone-store/builder/socket"


def accept(listener: socket.socket, channel: socket.socket, guest: Guest) -> None:
    """Serve connections until the process is stopped; further ones wait in the queues of the kernel."""
    free = threading.BoundedSemaphore(guest.limits.connections)
    while True:
        free.acquire()
        ready, _writable, _failed = select.select([listener, channel], [], [])
        connection = listener.accept()[0] if listener in ready else receive(channel)
        threading.Thread(target=serve, args=(guest, connection, free), daemon=True).start()


def receive(channel: socket.socket) -> socket.socket:
    """A connection that the guest has opened over vsock."""
    _data, (descriptor,), _flags, _address = socket.recv_fds(channel, 1, 1)
    return socket.socket(fileno=descriptor)


def serve(guest: Guest, connection: socket.socket, free: threading.BoundedSemaphore) -> None:
    try:
        Session(guest, connection).run()
    finally:
        free.release()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="keystone-store-proxy", description=__doc__)
    parser.add_argument(
        "--shown", type=Path, help="directory with an entry for each path that the guest may know; default: all"
    )
    parser.add_argument("--daemon", default=DAEMON, help="socket of nix-daemon")
    parser.add_argument("--builds", type=int, default=0, help="builds of the guest at once on this host; default: none")
    parser.add_argument("--builder", default=BUILDER, help="socket of the nix-daemon that builds for guests")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    passed = [socket.socket(fileno=PASSED_SOCKET + place) for place in range(2)]
    listener, channel = sorted(passed, key=lambda one: one.type)  # streams first, whatever the order in the unit
    if arguments.shown and not arguments.shown.is_dir():
        sys.exit(f"{arguments.shown}: no such directory; this guest would see nothing")
    if arguments.shown and arguments.builds:
        sys.exit("--builds: a guest that is shown a closure only would not see what is built; leave out one of the two")
    builder = Builder(arguments.builder, BuildLimits(arguments.builds)) if arguments.builds else None
    accept(listener, channel, Guest(arguments.daemon, arguments.shown, Limits(), log, builder))


if __name__ == "__main__":
    main()
