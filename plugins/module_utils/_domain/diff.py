# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain and a share as a plan's diff shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import Action, Observed, Options, Resume, Shutdown, Start, disk_key, given_options
from .xml.document import DomainXml


def domain_view(wanted: Options, document: DomainXml | None, observed: Observed) -> dict[str, Any]:
    """A document as diff: the scalar options, shares, disks and interfaces."""
    view: dict[str, Any] = {"state": state_of(observed)}
    if wanted.get("autostart") is not None:
        view["autostart"] = observed.autostart
    if document is None:
        return view
    view.update({option: value for option, value in document.options().items() if value is not None})
    view["shares"] = {tag: given_options(share) for tag, share in document.shares().items()}
    view["disks"] = [disk_key(disk) for disk in document.disks()]
    view["interfaces"] = document.interfaces()
    view["shared_memory"] = document.has_shared_memory()
    view["hotplug_ports"] = document.reserved_ports
    if document.template:
        view["xml"] = document.template
    return view


def domain_view_after(
    defined: Mapping[str, Any], wanted: Options, ports: int | None, observed: Observed, actions: Iterable[Action]
) -> dict[str, Any]:
    view = {**defined, "state": _state_after(observed, actions)}
    if wanted.get("autostart") is not None:
        view["autostart"] = wanted["autostart"]
    if ports is not None:
        view["hotplug_ports"] = ports
    return view


def share_view(document: DomainXml, tag: str) -> dict[str, Any]:
    share = document.shares().get(tag)
    return {"share": given_options(share) if share else None, "shared_memory": document.has_shared_memory()}


def state_of(observed: Observed) -> str:
    return "absent" if observed.persistent is None and not observed.is_active else observed.run_state


def _state_after(observed: Observed, actions: Iterable[Action]) -> str:
    state = "stopped" if observed.run_state == "absent" else observed.run_state
    for action in actions:
        if isinstance(action, (Start, Resume)):
            state = "running"
        elif isinstance(action, Shutdown):
            state = "stopped"
    return state
