# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what has to be done. Pure: no Ansible, no libvirt, no clock, no files.

``plan_domain`` and ``plan_share`` take what is wanted, what was observed and what the host can do, and return a Plan:
the actions in order, before and after for the diff, and what only a restart can bring about. Check mode is a plan that
is not executed, so its prediction cannot differ from what a run does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._errors import InvalidInput, Unsupported
from .definition import adopt_running_share, replace_foreign_paths, set_shares, wanted_definition
from .diff import domain_view, domain_view_after, share_view, state_of
from .host_files import keep_cache, keep_owner, plan_host_files
from .model import (
    Action,
    ChangeMedium,
    CreateDisk,
    Define,
    Destroy,
    DetachShare,
    GrowDisk,
    Host,
    Observed,
    Options,
    Plan,
    RemoveDisk,
    RemoveFormerState,
    RemoveLeftovers,
    RemoveState,
    ReservePorts,
    Resume,
    SetAutostart,
    Shutdown,
    Start,
    Unbind,
    Undefine,
    UnmountNosuid,
    disk_key,
)
from .path_safety import check_path_safety, new_uses, uses
from .running_domain import (
    broken_shares,
    changed_shares,
    finish_restart,
    plan_attaching,
    plan_replacing,
    restart_actions,
    stale_options,
    unplug_obstacle,
)
from .schema import PARTS, SHARE, normalised
from .validation import check_features, check_new_disk, check_new_domain, check_transience
from .values import plain_path
from .xml.document import DomainXml


def plan_domain(wanted: Options, observed: Observed, host: Host) -> Plan:
    """The plan that brings a domain to the wanted state. ``wanted`` has passed check_domain and resolve_forwards."""
    plan = Plan(wanted["name"])
    if wanted["state"] == "absent":
        plan.unsafe_paths_allowed = bool(wanted.get("allow_unsafe_paths"))
        _plan_absent(wanted, observed, host, plan)
        _check_reach(plan, host)
        return plan
    check_transience(wanted["name"], observed)
    if observed.persistent is None:
        check_new_domain(wanted["name"])
    listed = (normalised(share, host.real_path) for share in wanted.get("shares") or ())
    shares = [keep_cache(keep_owner(share, observed, host), observed, host) for share in listed]
    check_features(shares, host, wanted["name"])
    document = wanted_definition(wanted, shares, observed, host)
    _plan_paths(wanted["name"], wanted, observed, document, host, plan)
    resumes = wanted["state"] == "running" and observed.managed_save
    then = observed.resumed() if resumes else observed
    disks = _plan_disks(wanted, then, host, plan)
    _note_created(wanted, disks, document, host)
    # Defined first: should the run be killed in between, the definition still knows whose disk it is.
    _plan_define(document, observed, plan)
    ports = _wanted_ports(wanted, observed, document)
    if ports is not None and document.reserved_ports != ports:
        plan.actions.append(ReservePorts(ports))
    plan.actions += [action for action in disks if isinstance(action, CreateDisk)]
    if resumes:
        plan.actions.append(Start())
    plan.actions += [action for action in disks if not isinstance(action, CreateDisk)]
    _check_reach(plan, host)
    restart = _plan_live(wanted, shares, document, then, host, plan)
    _plan_run_state(wanted, then, restart, plan)
    finish_restart(wanted["state"], then, plan)
    if wanted.get("autostart") is not None and wanted["autostart"] != observed.autostart:
        plan.actions.append(SetAutostart(wanted["autostart"]))
    plan_host_files(shares, document, then, host, plan)
    plan.before = domain_view(wanted, observed.persistent, observed)
    is_redefined = any(isinstance(action, Define) for action in plan.actions)
    view = domain_view(wanted, document, observed) if is_redefined else plan.before
    plan.after = domain_view_after(view, wanted, ports, observed, plan.actions)
    return plan


def _plan_absent(wanted: Options, observed: Observed, host: Host, plan: Plan) -> None:
    """Stop and undefine; of what the domain leaves behind only what the task names is removed."""
    if observed.is_active:
        plan.actions.append(Destroy())
    files = {key for key, image in host.images.items() if not image.is_block_device}
    gone = [key for key in wanted.get("remove_storage") or () if key in files]
    _plan_definition_to_leave(observed, host, gone, plan)
    # Mounts first: what is removed afterwards must not be reached through them.
    plan.actions += [Unbind(target) for target in sorted(host.binds)]
    plan.actions += [UnmountNosuid(source) for source in sorted(host.nosuid)]
    plan.actions += [RemoveDisk(key) for key in gone]
    if host.leftovers:
        plan.actions.append(RemoveLeftovers(host.leftovers))
    if host.has_state:
        plan.actions.append(RemoveState())
    if host.former_state:
        plan.actions.append(RemoveFormerState(host.former_state))
    # Last: should the run be killed before, the definition still says that the domain is the collection's, which a
    # purge looks for, and which disks were created for it.
    if observed.persistent is not None:
        plan.actions.append(Undefine(wanted["remove_nvram"], wanted["remove_tpm_state"]))
    plan.before = {"state": state_of(observed), "storage": gone}
    plan.after = {"state": "absent", "storage": []}


def _plan_definition_to_leave(observed: Observed, host: Host, gone: list[str], plan: Plan) -> None:
    """Define what another task may rely on, should it want the domain back after a run that was killed in between.

    A definition says nothing about nosuid: a share that is still defined would stay without its mount, as one that
    nosuid: false has made. And a disk that the definition has, but the host has not, counts as storage that is not
    mounted, unless its creation is pending.
    """
    if observed.persistent is None:
        return
    document = observed.persistent.copy()
    for tag, share in document.shares().items():
        if share["source"] and host.real_path(share["source"]) in host.nosuid:
            document.remove_share(tag)
    for key in gone:
        document.note_created_disk(key, pending=True)
    _plan_define(document, observed, plan)


def _wanted_ports(wanted: Options, observed: Observed, document: DomainXml) -> int | None:
    """How many ports to reserve. The wish is kept in the mark: what plugged shares use up is not asked for again."""
    wish: int | None = wanted.get("hotplug_ports")
    if wish is None and observed.persistent is not None:
        wish = observed.persistent.wished_ports
    if wish is not None or not document.is_managed or wanted.get("xml"):
        return wish
    return int(next(option.initial for option in PARTS if option.option == "hotplug_ports"))


def _plan_paths(name: str, wanted: Options, observed: Observed, document: DomainXml, host: Host, plan: Plan) -> None:
    """Check the new paths against the domain itself; the caller checks them against other domains.

    A guest that runs, or that is saved, keeps what it had, whatever the new definition says.
    """
    plan.new_paths = new_uses(name, wanted, observed.persistent or observed.live, document, host)
    plan.unsafe_paths_allowed = bool(wanted.get("allow_unsafe_paths"))
    if not plan.unsafe_paths_allowed:
        own = replace(observed, persistent=document).documents
        check_path_safety(plan.new_paths, [use for each in own for use in uses(name, each, host.resolve)])


def _plan_define(document: DomainXml, observed: Observed, plan: Plan) -> None:
    before = observed.persistent
    if before is None or not before.is_equivalent(document):
        plan.actions.append(Define(document, before))


def _plan_disks(wanted: Options, observed: Observed, host: Host, plan: Plan) -> list[Action]:
    live = {disk_key(disk): disk["target"] for disk in observed.live.disks()} if observed.live else {}
    known = _known_disks(observed.persistent)
    actions: list[Action] = []
    for disk in wanted.get("disks") or ():
        key = disk_key(disk)
        image = host.images.get(key)
        if image is None:
            check_new_disk(disk, host, known, wanted["name"])
            base = host.images.get(disk.get("backing") or "")
            actions.append(CreateDisk({**disk, "backing_format": base.format if base else disk.get("backing_format")}))
        elif disk.get("size") and disk["size"] > image.size:
            actions.append(GrowDisk(disk, image.format, live.get(key, "")))
        elif disk.get("size") and disk["size"] < image.size:
            plan.warnings.append(
                f"domain {wanted['name']}: disk {key} has {image.size} MiB, it is never shrunk to {disk['size']} MiB"
            )
    return actions


def _known_disks(definition: DomainXml | None) -> set[str]:
    """The disks that the domain has or had; those are left out whose creation a killed run has not finished."""
    if definition is None:
        return set()
    attached = {disk_key(disk) for disk in definition.disks()}
    return attached.union(definition.created_disks()).difference(definition.created_disks(pending=True))


def _note_created(wanted: Options, disks: list[Action], document: DomainXml, host: Host) -> None:
    for disk in wanted.get("disks") or ():
        if disk_key(disk) in host.images:
            document.note_created_disk(disk_key(disk), pending=False)
    for action in disks:
        if isinstance(action, CreateDisk):
            document.add_created_disk(disk_key(action.disk))


def _check_reach(plan: Plan, host: Host) -> None:
    """Raise Unsupported when a disk's file is on another machine: a local file of the same name is not meant."""
    keys = [disk_key(action.disk) for action in plan.actions if isinstance(action, (CreateDisk, GrowDisk))]
    keys += [action.key for action in plan.actions if isinstance(action, RemoveDisk)]
    files = [key for key in keys if key.startswith("/")]
    if files and not host.local:
        raise Unsupported(
            f"{', '.join(files)}: image files cannot be created, grown or removed over a remote connection",
            fix="Use pool and volume, omit size and backing, or run the task on that machine.",
            domain=plan.name,
        )


def _plan_live(
    wanted: Options,
    shares: list[dict[str, Any]],
    document: DomainXml,
    observed: Observed,
    host: Host,
    plan: Plan,
) -> bool:
    """Bring the running domain along, or say what only a restart can do. Returns whether the plan restarts it."""
    if observed.live is None or wanted["state"] == "stopped":
        return False
    reasons = stale_options(wanted, document, observed.live)
    running = observed.live.shares()
    new = [share for share in shares if share["tag"] not in running]
    plugging, obstacles = plan_attaching(new, document, observed.live, host)
    plan.restart_reasons = reasons + changed_shares(shares, running) + broken_shares(shares, running, host) + obstacles
    if plan.restart_reasons and wanted["restart"] == "if_required":
        plan.actions += restart_actions(wanted)
        plan.restart_reasons = []
        return True
    plan.actions += plugging
    medium = observed.live.options()["iso"]
    if wanted.get("iso") is not None and medium is not None and plain_path(medium) != plain_path(wanted["iso"]):
        plan.actions.append(ChangeMedium(wanted["iso"]))
    return False


def _plan_run_state(wanted: Options, observed: Observed, restarted: bool, plan: Plan) -> None:
    if wanted["state"] == "running" and observed.run_state in ("absent", "stopped"):
        plan.actions.append(Start())
    elif wanted["state"] == "running" and observed.run_state == "paused" and not restarted:
        plan.actions.append(Resume())
    elif wanted["state"] == "stopped" and observed.is_active:
        plan.actions.append(Shutdown(wanted["shutdown_timeout"], wanted["force_stop"]))


# One share.


def plan_share(wanted: Options, observed: Observed, host: Host) -> Plan:
    """The plan for one share of an existing domain. ``wanted`` has passed check_share."""
    name, tag = wanted["domain"], wanted["tag"]
    plan = Plan(name)
    source_of_truth = observed.persistent or observed.live
    if source_of_truth is None:
        if wanted["state"] == "absent":
            return plan
        raise InvalidInput(
            "the domain does not exist",
            domain=name,
            share=tag,
            fix="Define the domain first, with keystone.virtiofs.domain.",
        )
    document = source_of_truth.copy()
    if observed.persistent is not None:
        replace_foreign_paths(document, host)
    (_plan_share_present if wanted["state"] == "present" else _plan_share_absent)(
        wanted, document, observed, host, plan
    )
    finish_restart(wanted["state"], observed, plan)
    listed = [wanted] if wanted["state"] == "present" else []
    # What a domain without a definition cannot take while it runs, it never gets.
    done = source_of_truth if observed.persistent is None and plan.restart_reasons else document
    plan_host_files(listed, done, observed, host, plan)
    plan.before = share_view(source_of_truth, tag)
    plan.after = share_view(done, tag)
    return plan


def _plan_share_present(wanted: Options, document: DomainXml, observed: Observed, host: Host, plan: Plan) -> None:
    share = normalised({option.option: wanted.get(option.option) for option in SHARE}, host.real_path)
    share = keep_cache(keep_owner(share, observed, host), observed, host)
    check_features([share], host, wanted["domain"])
    live = observed.live
    if live is not None and wanted["tag"] not in document.shares() and wanted["tag"] in live.shares():
        adopt_running_share(document, live, wanted["tag"], host)
    set_shares(document, [share], host)
    _plan_paths(wanted["domain"], wanted, observed, document, host, plan)
    if observed.persistent is not None:
        _plan_define(document, observed, plan)
    if observed.live is None:
        return
    tag, running = share["tag"], observed.live.shares()
    if tag not in running:
        plugging, reasons = plan_attaching([share], document, observed.live, host)
    else:
        plugging, reasons = [], changed_shares([share], running) + broken_shares([share], running, host)
        if reasons and wanted["replug"]:
            plugging, reasons = plan_replacing(wanted, document, observed, observed.live, host)
    _plug_or_restart(wanted, plugging, reasons, observed, plan)


def _plan_share_absent(wanted: Options, document: DomainXml, observed: Observed, host: Host, plan: Plan) -> None:
    tag = wanted["tag"]
    document.remove_share(tag)
    if observed.persistent is not None:
        _plan_define(document, observed, plan)
    if observed.live is None or tag not in observed.live.shares():
        return
    obstacle = unplug_obstacle(observed, observed.live, tag, host)
    detach = DetachShare(tag, observed.live.share_text(tag), wanted["detach_timeout"])
    _plug_or_restart(
        wanted, [] if obstacle else [detach], [f"share {tag}: {obstacle}"] if obstacle else [], observed, plan
    )


def _plug_or_restart(
    wanted: Options, plugging: list[Action], reasons: list[str], observed: Observed, plan: Plan
) -> None:
    if not reasons or wanted["restart"] == "never":
        plan.actions += plugging
        plan.restart_reasons = reasons
        return
    if observed.persistent is None:
        raise InvalidInput(
            "the domain is transient: a restart would lose it",
            domain=wanted["domain"],
            share=wanted["tag"],
            fix="Define the domain persistently, or set restart to never.",
        )
    plan.actions += restart_actions(wanted)
