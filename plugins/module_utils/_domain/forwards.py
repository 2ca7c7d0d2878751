# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of the host are forwarded to a guest. Pure: the caller says which ports are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from .._errors import InvalidInput
from .model import Observed, Options


def resolve_forwards(wanted: Options, observed: Observed, is_taken: Callable[[str, int], bool]) -> Options:
    """Decide the host ports: a ``next_free`` forward keeps the port it once got, else takes the next free one.

    ``is_taken(address, port)`` is asked only for ports that a start would have to open. Raises InvalidInput when a
    fixed port is taken by another process.
    """
    if not any(interface.get("forwards") for interface in wanted.get("interfaces") or ()):
        return wanted
    defined = observed.persistent.interfaces() if observed.persistent else []
    kept = {(f["address"], f["guest_port"]): f["host_port"] for interface in defined for f in interface["forwards"]}
    chosen: set[tuple[str, int]] = set()
    interfaces = []
    for interface in wanted["interfaces"]:
        forwards = []
        for forward in interface.get("forwards") or ():
            port = _host_port(forward, kept, chosen, observed, is_taken, wanted)
            chosen.add((forward["address"], port))
            forwards.append({"address": forward["address"], "host_port": port, "guest_port": forward["guest_port"]})
        interfaces.append({**interface, "forwards": forwards})
    return {**wanted, "interfaces": interfaces}


def _host_port(
    forward: Options,
    kept: Mapping[Any, int],
    chosen: set[tuple[str, int]],
    observed: Observed,
    is_taken: Callable[[str, int], bool],
    wanted: Options,
) -> int:
    address, port = forward["address"], int(forward["host_port"])
    before = kept.get((address, forward["guest_port"]))
    if forward.get("next_free"):
        if before is not None and (observed.is_active or not is_taken(address, before)):
            return before
        while (address, port) in chosen or is_taken(address, port):
            port += 1
        if port > 65535:
            raise InvalidInput(
                f"no port from {forward['host_port']} up is free on {address}",
                fix="Free a port, or choose a lower host_port.",
                domain=wanted["name"],
            )
        return port
    opens = not (observed.is_active and before == port)
    if (address, port) in chosen or (opens and is_taken(address, port)):
        raise InvalidInput(
            f"port {port} on {address} is taken",
            domain=wanted["name"],
            fix="Choose another host_port, or set next_free to take the next free one.",
        )
    return port
