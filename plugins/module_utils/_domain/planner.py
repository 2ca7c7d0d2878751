# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what has to be done. Pure: no Ansible, no libvirt, no clock, no files.

``plan_domain`` and ``plan_share`` take what is wanted, what was observed and what the host can do, and return a Plan:
the actions in order, before and after for the diff, and what only a restart can bring about. Check mode is a plan that
is not executed, so its prediction cannot differ from what a run does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._errors import InvalidInput, Unsupported
from .._features import unavailable
from .definition import differences, set_shares, target_document
from .model import (
    Action,
    AttachShare,
    BindReadOnly,
    ChangeMedium,
    CreateDisk,
    Define,
    Destroy,
    DetachShare,
    GrowDisk,
    Host,
    NoteRestart,
    Observed,
    Plan,
    RemoveDisk,
    RemoveState,
    RemoveWrapper,
    ReservePorts,
    Resume,
    SetAutostart,
    Shutdown,
    Start,
    Unbind,
    Undefine,
    Wanted,
    WriteWrapper,
    disk_key,
    given,
)
from .schema import DOMAIN, PARTS, SHARE, Codec, normalised
from .state_paths import bound_source, wrapper_flags
from .validation import check_features, check_nesting, check_new_disk
from .xml.document import DomainXml


def plan_domain(wanted: Wanted, observed: Observed, host: Host) -> Plan:
    """The plan that brings a domain to the wanted state. ``wanted`` has passed check_domain and resolve_forwards."""
    plan = Plan(wanted["name"])
    if wanted["state"] == "absent":
        _plan_absent(wanted, observed, host, plan)
        _check_reach(plan, host)
        return plan
    shares = [normalised(share, host.real_path) for share in wanted.get("shares") or ()]
    check_features(shares, host, wanted["name"])
    document = target_document(wanted, shares, observed, host)
    check_nesting(document.shares(), host, wanted["name"])
    disks = _plan_disks(wanted, observed, host, plan)
    _note_created(disks, document)
    # Defined first: should the run be killed in between, the definition still knows whose disk it is.
    _plan_define(document, observed, plan)
    ports = _wanted_ports(wanted, document)
    if ports is not None and document.reserved_ports != ports:
        plan.actions.append(ReservePorts(ports))
    plan.actions += disks
    _check_reach(plan, host)
    restart = _plan_live(wanted, shares, document, observed, host, plan)
    _plan_run_state(wanted, observed, restart, plan)
    _finish_restart(wanted["state"], observed, plan)
    if wanted.get("autostart") is not None and wanted["autostart"] != observed.autostart:
        plan.actions.append(SetAutostart(wanted["autostart"]))
    _plan_host_files(document, observed, restart, host, plan)
    plan.before = _domain_view(wanted, observed.persistent, observed)
    is_redefined = any(isinstance(action, Define) for action in plan.actions)
    view = _domain_view(wanted, document, observed) if is_redefined else plan.before
    plan.after = _domain_view_after(view, wanted, ports, observed)
    return plan


def _plan_absent(wanted: Wanted, observed: Observed, host: Host, plan: Plan) -> None:
    """Stop and undefine; of what the domain leaves behind only what the task names is removed."""
    if observed.is_active:
        plan.actions.append(Destroy())
    gone = [key for key in wanted.get("remove_storage") or () if key in host.images]
    plan.actions += [RemoveDisk(key) for key in gone]
    plan.actions += [Unbind(target) for target in sorted(host.binds)]
    if host.has_state:
        plan.actions.append(RemoveState())
    # Last: should the run be killed before, the definition still tells which disks were created for the domain.
    if observed.persistent is not None:
        plan.actions.append(Undefine(wanted["remove_nvram"], wanted["remove_tpm_state"]))
    plan.before = {"state": _state(observed), "storage": gone}
    plan.after = {"state": "absent", "storage": []}


def _state(observed: Observed) -> str:
    return "absent" if observed.persistent is None and not observed.is_active else observed.run_state


def _state_after(wanted: Wanted, observed: Observed) -> str:
    if wanted["state"] == "present":
        return "stopped" if observed.run_state == "absent" else observed.run_state
    return str(wanted["state"])


def _wanted_ports(wanted: Wanted, document: DomainXml) -> int | None:
    """How many ports to reserve. The wish is kept in the mark: what plugged shares use up is not asked for again."""
    decided = document.reserved_ports is not None or not document.is_own or wanted.get("xml")
    if wanted.get("hotplug_ports") is not None or decided:
        return wanted.get("hotplug_ports")
    return int(next(option.initial for option in PARTS if option.option == "hotplug_ports"))


def _plan_define(document: DomainXml, observed: Observed, plan: Plan) -> None:
    before = observed.persistent
    if before is None or before.digest() != document.digest():
        plan.actions.append(Define(document, before))


def _plan_disks(wanted: Wanted, observed: Observed, host: Host, plan: Plan) -> list[Action]:
    live = {disk_key(disk): disk["target"] for disk in observed.live.disks()} if observed.live else {}
    actions: list[Action] = []
    for disk in wanted.get("disks") or ():
        key = disk_key(disk)
        image = host.images.get(key)
        if image is None:
            check_new_disk(disk, host, wanted["name"])
            actions.append(CreateDisk(disk))
        elif disk.get("size") and disk["size"] > image.size:
            actions.append(GrowDisk(disk, disk.get("format") or image.format, live.get(key, "")))
        elif disk.get("size") and disk["size"] < image.size:
            plan.warnings.append(
                f"domain {wanted['name']}: disk {key} has {image.size} MiB, it is never shrunk to {disk['size']} MiB"
            )
    return actions


def _note_created(disks: list[Action], document: DomainXml) -> None:
    for action in disks:
        if isinstance(action, CreateDisk) and disk_key(action.disk) not in document.created_disks():
            document.add_created_disk(disk_key(action.disk))


def _check_reach(plan: Plan, host: Host) -> None:
    """Raise Unsupported when a disk's file is another machine's: a file of that name on this one is not meant."""
    keys = [disk_key(action.disk) for action in plan.actions if isinstance(action, (CreateDisk, GrowDisk))]
    keys += [action.key for action in plan.actions if isinstance(action, RemoveDisk)]
    files = [key for key in keys if key.startswith("/")]
    if files and not host.local:
        raise Unsupported(
            f"{', '.join(files)}: files of another machine can be neither created nor grown nor removed",
            fix="Give a pool and a volume, leave size and backing out, or run the task on that machine.",
            domain=plan.name,
        )


def _plan_live(
    wanted: Wanted,
    shares: list[dict[str, Any]],
    document: DomainXml,
    observed: Observed,
    host: Host,
    plan: Plan,
) -> bool:
    """Bring the running domain along, or say what only a restart can do. Returns whether the plan restarts it."""
    if observed.live is None or wanted["state"] == "stopped":
        return False
    reasons = _stale_options(wanted, document, observed.live)
    running = observed.live.shares()
    new = [share for share in shares if share["tag"] not in running]
    plugging, obstacles = _plan_attaching(new, document, observed.live, host)
    plan.restart_reasons = reasons + _changed_shares(shares, running) + obstacles
    if plan.restart_reasons and wanted["restart"] == "if_required":
        plan.actions += _restart(wanted)
        plan.restart_reasons = []
        return True
    plan.actions += plugging
    if wanted.get("iso") is not None and observed.live.options()["iso"] not in (None, wanted["iso"]):
        plan.actions.append(ChangeMedium(wanted["iso"]))
    return False


def _restart(wanted: Wanted) -> list[Action]:
    stop = Shutdown(wanted["shutdown_timeout"], wanted["force_stop"])
    return [NoteRestart(True), stop, Start(), NoteRestart(False)]


def _finish_restart(state: str, observed: Observed, plan: Plan) -> None:
    """Do what a killed run has left of a restart."""
    if observed.persistent is None or not observed.persistent.restart_pending:
        return
    if state != "stopped" and not observed.is_active and Start() not in plan.actions:
        plan.actions.append(Start())
    if NoteRestart(False) not in plan.actions:
        plan.actions.append(NoteRestart(False))


def _stale_options(wanted: Wanted, document: DomainXml, live: DomainXml) -> list[str]:
    """What the running domain has other than the document says, of what the task names."""
    wants, has = document.options(), live.options()
    stale = [
        f"{option.option}: runs with {has[option.option]}, defined is {wants[option.option]}"
        for option in DOMAIN
        if wanted.get(option.option) is not None
        and wants[option.option] != has[option.option]
        and (option.codec is not Codec.ISO or has["iso"] is None)
        # libvirt expands host-model in the running domain.
        and not (option.codec is Codec.CPU and wants["cpu"] == "host-model")
    ]
    if wanted.get("xml") and document.template != live.template:
        stale.append("xml: runs with an earlier one")
    attached = {disk_key(disk) for disk in live.disks()}
    stale += [
        f"disks: {disk_key(disk)} is not attached"
        for disk in wanted.get("disks") or ()
        if disk_key(disk) not in attached
    ]
    if wanted.get("interfaces") is not None:
        running = live.interfaces()
        if any(interface not in running for interface in document.interfaces()):
            stale.append("interfaces: run with other settings")
    return stale


def _changed_shares(shares: Iterable[Wanted], running: Mapping[str, Wanted]) -> list[str]:
    """Shares that run with other settings. Plugged anew, they would be dead for a guest that has them mounted."""
    return [
        f"share {share['tag']}: runs with another {', '.join(sorted(differing))}, and the guest may have it mounted"
        for share in shares
        if share["tag"] in running and (differing := differences(share, running[share["tag"]]))
    ]


def _plan_attaching(
    shares: Iterable[Wanted], document: DomainXml, live: DomainXml, host: Host
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


def _plan_replacing(wanted: Wanted, document: DomainXml, live: DomainXml, host: Host) -> tuple[list[Action], list[str]]:
    """Unplug a share and plug it anew, into the port that it leaves; the reason why that cannot be."""
    tag = wanted["tag"]
    obstacle = _plug_obstacle(live, host, ports=1)
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
    if ports < 1 and live.has_pcie():
        return "the domain has no free pcie-root-port (hotplug_ports reserves some)"
    return None


def _plan_run_state(wanted: Wanted, observed: Observed, restarted: bool, plan: Plan) -> None:
    if wanted["state"] == "running" and observed.run_state in ("absent", "stopped"):
        if observed.managed_save and any(isinstance(action, Define) for action in plan.actions):
            plan.restart_reasons.append("managed save: it resumes with the definition it was saved with")
        plan.actions.append(Start())
    elif wanted["state"] == "running" and observed.run_state == "paused" and not restarted:
        plan.actions.append(Resume())
    elif wanted["state"] == "stopped" and observed.is_active:
        plan.actions.append(Shutdown(wanted["shutdown_timeout"], wanted["force_stop"]))


def _plan_host_files(document: DomainXml, observed: Observed, restarted: bool, host: Host, plan: Plan) -> None:
    """Bind mounts and wrappers: made before anything that uses them, removed after the last use."""
    if not host.local:
        return
    paths = set(document.share_paths().values())
    if observed.live is not None and not restarted:
        # A share stays in use until the guest has let go of it; what this plan detaches is free afterwards.
        gone = {action.tag for action in plan.actions if isinstance(action, DetachShare)}
        paths |= {path for tag, path in observed.live.share_paths().items() if tag not in gone}
    prepare: list[Action] = []
    for source, daemon in sorted(paths):
        original = bound_source(source)
        if original and not host.binds.get(source):
            prepare.append(BindReadOnly(original, source))
        flags = wrapper_flags(daemon)
        if flags and not host.wrappers.get(daemon) and host.virtiofsd:
            prepare.append(WriteWrapper(daemon, host.virtiofsd.path, flags))
    sources, daemons = {source for source, _daemon in paths}, {daemon for _source, daemon in paths}
    clean_up: list[Action] = [Unbind(target) for target in sorted(set(host.binds) - sources)]
    clean_up += [RemoveWrapper(path) for path in sorted(set(host.wrappers) - daemons)]
    plan.actions = prepare + plan.actions + clean_up


def _domain_view_after(
    defined: Mapping[str, Any], wanted: Wanted, ports: int | None, observed: Observed
) -> dict[str, Any]:
    view = {**defined, "state": _state_after(wanted, observed)}
    if wanted.get("autostart") is not None:
        view["autostart"] = wanted["autostart"]
    if ports is not None:
        view["hotplug_ports"] = ports
    return view


def _domain_view(wanted: Wanted, document: DomainXml | None, observed: Observed) -> dict[str, Any]:
    """A document as diff: the scalar options, shares, disks and interfaces."""
    view: dict[str, Any] = {"state": _state(observed)}
    if wanted.get("autostart") is not None:
        view["autostart"] = observed.autostart
    if document is None:
        return view
    view.update({option: value for option, value in document.options().items() if value is not None})
    view["shares"] = {tag: given(share) for tag, share in document.shares().items()}
    view["disks"] = [disk_key(disk) for disk in document.disks()]
    view["interfaces"] = document.interfaces()
    view["shared_memory"] = document.has_shared_memory()
    view["hotplug_ports"] = document.reserved_ports
    if document.template:
        view["xml"] = document.template
    return view


# One share.


def plan_share(wanted: Wanted, observed: Observed, host: Host) -> Plan:
    """The plan for one share of an existing domain. ``wanted`` has passed check_share."""
    name, tag = wanted["domain"], wanted["tag"]
    plan = Plan(name)
    source_of_truth = observed.persistent or observed.live
    if source_of_truth is None:
        if wanted["state"] == "absent":
            return plan
        raise InvalidInput(
            "there is no such domain",
            domain=name,
            share=tag,
            fix="Define it first, with keystone.virtiofs.domain.",
        )
    document = source_of_truth.copy()
    restart = (_plan_share_present if wanted["state"] == "present" else _plan_share_absent)(
        wanted, document, observed, host, plan
    )
    _finish_restart(wanted["state"], observed, plan)
    _plan_host_files(document, observed, restart, host, plan)
    plan.before = _share_view(source_of_truth, tag)
    plan.after = _share_view(document, tag)
    return plan


def _share_view(document: DomainXml, tag: str) -> dict[str, Any]:
    share = document.shares().get(tag)
    return {"share": given(share) if share else None, "shared_memory": document.has_shared_memory()}


def _plan_share_present(wanted: Wanted, document: DomainXml, observed: Observed, host: Host, plan: Plan) -> bool:
    share = normalised({option.option: wanted.get(option.option) for option in SHARE}, host.real_path)
    check_features([share], host, wanted["domain"])
    set_shares(document, [share], host)
    check_nesting(document.shares(), host, wanted["domain"])
    if observed.persistent is not None:
        _plan_define(document, observed, plan)
    if observed.live is None:
        return False
    tag, running = share["tag"], observed.live.shares()
    if tag not in running:
        plugging, reasons = _plan_attaching([share], document, observed.live, host)
    elif differences(share, running[tag]):
        plugging, reasons = _plan_replacing(wanted, document, observed.live, host)
    else:
        return False
    return _plug_or_restart(wanted, plugging, reasons, observed, plan)


def _plan_share_absent(wanted: Wanted, document: DomainXml, observed: Observed, host: Host, plan: Plan) -> bool:
    tag = wanted["tag"]
    document.remove_share(tag)
    if observed.persistent is not None:
        _plan_define(document, observed, plan)
    if observed.live is None or tag not in observed.live.shares():
        return False
    too_old = unavailable("hotplug", host.libvirt, host.virtiofsd)
    detach = DetachShare(tag, observed.live.share_text(tag), wanted["detach_timeout"])
    return _plug_or_restart(
        wanted, [] if too_old else [detach], [f"share {tag}: {too_old}"] if too_old else [], observed, plan
    )


def _plug_or_restart(
    wanted: Wanted, plugging: list[Action], reasons: list[str], observed: Observed, plan: Plan
) -> bool:
    if not reasons or wanted["restart"] == "never":
        plan.actions += plugging
        plan.restart_reasons = reasons
        return False
    if observed.persistent is None:
        raise InvalidInput(
            "the domain is transient: a restart would lose it",
            domain=wanted["domain"],
            share=wanted["tag"],
            fix="Define it persistently, or set restart to never.",
        )
    plan.actions += _restart(wanted)
    return True
