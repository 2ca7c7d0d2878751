# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running domain can take at once, and what only a restart can bring about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .._features import unavailable
from .definition import differences
from .model import (
    Action,
    AttachShare,
    DetachShare,
    Host,
    NoteRestart,
    Observed,
    Options,
    Plan,
    Shutdown,
    Start,
    disk_key,
)
from .schema import DOMAIN
from .xml import codecs
from .xml.document import DomainXml


def stale_options(wanted: Options, document: DomainXml, live: DomainXml) -> list[str]:
    """The options of the task whose values in the running domain differ from the definition."""
    wants, has = document.options(), live.options()
    stale = [
        f"{option.option}: {has[option.option]} in the running domain, {wants[option.option]} in its definition"
        for option in DOMAIN
        if wanted.get(option.option) is not None
        and not option.same(wants[option.option], has[option.option])
        and (option.codec is not codecs.ISO or has["iso"] is None)
        # libvirt expands host-model in the running domain.
        and not (option.codec is codecs.CPU and wants["cpu"] == "host-model")
    ]
    if wanted.get("xml") and document.template != live.template:
        stale.append("xml: the running domain was started from an earlier version")
    attached = {disk_key(disk): disk for disk in live.disks()}
    for disk in wanted.get("disks") or ():
        key = disk_key(disk)
        if key not in attached:
            stale.append(f"disks: {key} is not attached")
        elif disk.get("pmem") is not None and disk["pmem"] != attached[key]["pmem"]:
            stale.append(f"disks: pmem of {key} differs in the running domain")
    if wanted.get("interfaces") is not None:
        running = live.interfaces()
        if any(interface not in running for interface in document.interfaces()):
            stale.append("interfaces: settings differ in the running domain")
    return stale


def changed_shares(shares: Iterable[Options], running: Mapping[str, Options]) -> list[str]:
    """Shares whose running settings differ. Replugging one would break it for a guest that has it mounted."""
    return [
        f"share {share['tag']}: {', '.join(sorted(differing))} differs in the running domain,"
        " and the guest may have the share mounted"
        for share in shares
        if share["tag"] in running and (differing := differences(share, running[share["tag"]]))
    ]


def broken_shares(shares: Iterable[Options], running: Mapping[str, Options], host: Host) -> list[str]:
    """Shares of the task that the guest does not get as the host has them, until virtiofsd is started again."""
    problems = {
        "its virtiofsd has ended": host.dead_shares,
        "its source was replaced or mounted over, and virtiofsd serves the earlier directory": host.stale_shares,
    }
    return [
        f"share {share['tag']}: {problem}"
        for share in shares
        for problem, tags in problems.items()
        if share["tag"] in running and share["tag"] in tags
    ]


def plan_attaching(
    shares: Iterable[Options], document: DomainXml, live: DomainXml, host: Host
) -> tuple[list[Action], list[str]]:
    """Hot plug those new shares that the running domain can take; the reasons why it cannot take the others."""
    actions: list[Action] = []
    reasons: list[str] = []
    ports = live.free_ports()
    for share in shares:
        tag = share["tag"]
        obstacle = _plug_obstacle(live, host, ports)
        if obstacle:
            reasons.append(f"share {tag}: {obstacle}")
        else:
            actions.append(AttachShare(tag, document.share_text(tag)))
            ports -= 1
    return actions, reasons


def plan_replacing(
    wanted: Options, document: DomainXml, observed: Observed, live: DomainXml, host: Host
) -> tuple[list[Action], list[str]]:
    """Replug a share, into the port that it frees; the reason why that is impossible."""
    tag = wanted["tag"]
    obstacle = unplug_obstacle(observed, live, tag, host) or _plug_obstacle(live, host, ports=1)
    if obstacle:
        return [], [f"share {tag}: {obstacle}"]
    detach = DetachShare(tag, live.share_text(tag), wanted["detach_timeout"])
    return [detach, AttachShare(tag, document.share_text(tag))], []


def _plug_obstacle(live: DomainXml, host: Host, ports: int) -> str | None:
    if not live.has_shared_memory():
        return "the domain runs without shared memory"
    too_old = unavailable("hotplug", host.libvirt, host.virtiofsd)
    if too_old:
        return too_old
    return live.plug_obstacle() if ports < 1 else None


def unplug_obstacle(observed: Observed, live: DomainXml, tag: str, host: Host) -> str | None:
    """Why a share cannot leave the running domain."""
    if observed.run_state == "paused":
        return "the domain is paused, so its guest cannot release the share"
    too_old = unavailable("hotplug", host.libvirt, host.virtiofsd)
    return too_old or (None if live.can_unplug(tag) else "it is in a place from which it cannot be unplugged")


def restart_actions(wanted: Options) -> list[Action]:
    stop = Shutdown(wanted["shutdown_timeout"], wanted["force_stop"])
    return [NoteRestart(True), stop, Start(), NoteRestart(False)]


def finish_restart(state: str, observed: Observed, plan: Plan) -> None:
    """Complete a restart that an interrupted run left unfinished."""
    if observed.persistent is None or not observed.persistent.restart_pending:
        return
    if state != "stopped" and not observed.is_active and Start() not in plan.actions:
        plan.actions.append(Start())
    if NoteRestart(False) not in plan.actions:
        plan.actions.append(NoteRestart(False))
