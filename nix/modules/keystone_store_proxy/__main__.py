# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer the queries of one guest about the host's Nix store.

systemd passes the listening socket, a Unix socket or a vsock.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from pathlib import Path

from .builds import Builder, BuildLimits
from .session import Guest, Limits, Session

DAEMON = "/nix/var/nix/daemon-socket/socket"
BUILDER = "/run/keystone-store/builder/socket"
PASSED_SOCKET = 3  # the first that systemd passes


def log(text: str) -> None:
    """To the journal, on one line, because guests choose parts of the text."""
    print(text.encode("unicode_escape").decode()[:1000], file=sys.stderr, flush=True)


def accept(listener: socket.socket, guest: Guest, cid: int | None) -> None:
    """Serve connections until the process is stopped; further ones wait in the queue of the kernel."""
    free = threading.BoundedSemaphore(guest.limits.connections)
    while True:
        free.acquire()
        connection, address = listener.accept()
        if cid is not None and address[0] != cid:
            log(f"refused a connection of the vsock address {address[0]}, which is not that of this guest")
            connection.close()
            free.release()
            continue
        threading.Thread(target=serve, args=(guest, connection, free), daemon=True).start()


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
    parser.add_argument("--cid", type=int, help="the vsock address of the guest")
    parser.add_argument("--daemon", default=DAEMON, help="socket of nix-daemon")
    parser.add_argument("--builds", type=int, default=0, help="builds of the guest at once on this host; default: none")
    parser.add_argument("--builder", default=BUILDER, help="socket of the nix-daemon that builds for guests")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    listener = socket.socket(fileno=PASSED_SOCKET)
    if arguments.shown and not arguments.shown.is_dir():
        sys.exit(f"{arguments.shown}: no such directory; this guest would see nothing")
    if arguments.shown and arguments.builds:
        sys.exit("--builds: a guest that is shown a closure only would not see what is built; leave out one of the two")
    builder = Builder(arguments.builder, BuildLimits(arguments.builds)) if arguments.builds else None
    accept(listener, Guest(arguments.daemon, arguments.shown, Limits(), log, builder), arguments.cid)


if __name__ == "__main__":
    main()
