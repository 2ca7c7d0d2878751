# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of the host are forwarded to a guest. Pure: the caller says which ports are taken."""

from __future__ import annotations

from collections import defaultdict
from typing import Callable

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
    kept: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for interface in defined:
        for forward in interface["forwards"]:
            kept[forward["address"], forward["guest_port"]].append(forward["host_port"])
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
    kept: defaultdict[tuple[str, int], list[int]],
    chosen: set[tuple[str, int]],
    observed: Observed,
    is_taken: Callable[[str, int], bool],
    wanted: Options,
) -> int:
    address, port = forward["address"], int(forward["host_port"])
    before = kept[address, forward["guest_port"]]
    if forward.get("next_free"):
        used = chosen | _fixed_ports(wanted)
        for own in before:
            if (address, own) not in used and (observed.is_active or not is_taken(address, own)):
                return own
        while (address, port) in used or is_taken(address, port):
            port += 1
        if port > 65535:
            raise InvalidInput(
                f"no port from {forward['host_port']} up is free on {address}",
                fix="Free a port, or choose a lower host_port.",
                domain=wanted["name"],
            )
        return port
    opens = not (observed.is_active and port in before)
    if (address, port) in chosen or (opens and is_taken(address, port)):
        raise InvalidInput(
            f"port {port} on {address} is taken",
            domain=wanted["name"],
            fix="Choose another host_port, or set next_free to take the next free one.",
        )
    return port


def _fixed_ports(wanted: Options) -> set[tuple[str, int]]:
    forwards = (forward for interface in wanted["interfaces"] for forward in interface.get("forwards") or ())
    return {(forward["address"], forward["host_port"]) for forward in forwards if not forward.get("next_free")}
