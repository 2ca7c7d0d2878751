# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts and wrapper scripts on the host that a domain's shares need. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from .model import (
    Action,
    BindReadOnly,
    DetachShare,
    Host,
    MountNosuid,
    Observed,
    Options,
    Plan,
    RemoveWrapper,
    Shutdown,
    Unbind,
    UnmountNosuid,
    WriteWrapper,
)
from .state_paths import bound_source, wrapper_flags
from .xml.document import DomainXml


def plan_host_files(listed: Iterable[Options], document: DomainXml, observed: Observed, host: Host, plan: Plan) -> None:
    """Mounts and wrappers: made before anything that uses them, removed after the last use."""
    if not host.local:
        return
    paths = set(document.share_paths().values())
    shares = list(document.shares().values())
    # A share stays in use until the guest has let go of it, also of one that is saved.
    in_use = observed.saved or observed.live
    if in_use is not None and not any(isinstance(action, Shutdown) for action in plan.actions):
        gone = {action.tag for action in plan.actions if isinstance(action, DetachShare)}
        paths |= {path for tag, path in in_use.share_paths().items() if tag not in gone}
        shares += [share for tag, share in in_use.shares().items() if tag not in gone]
    nosuid = _nosuid_sources(listed, shares, observed, host)
    prepare: list[Action] = [MountNosuid(source) for source in sorted(nosuid) if not host.nosuid.get(source)]
    for source, daemon in sorted(paths):
        original = bound_source(source)
        if original and not host.binds.get(source):
            prepare.append(BindReadOnly(host.real_path(original), source))
        flags = wrapper_flags(daemon)
        if flags and not host.wrappers.get(daemon) and host.virtiofsd:
            prepare.append(WriteWrapper(daemon, host.virtiofsd.path, flags))
    sources, daemons = {source for source, _daemon in paths}, {daemon for _source, daemon in paths}
    clean_up: list[Action] = [Unbind(target) for target in sorted(set(host.binds) - sources)]
    clean_up += [RemoveWrapper(path) for path in sorted(set(host.wrappers) - daemons)]
    clean_up += [UnmountNosuid(source) for source in sorted(set(host.nosuid) - nosuid)]
    plan.actions = prepare + plan.actions + clean_up


def _nosuid_sources(listed: Iterable[Options], shares: Iterable[Options], observed: Observed, host: Host) -> set[str]:
    """The writable sources that are to be mounted with nosuid: those of new shares by default, others as they are."""
    asked = {share["tag"]: share.get("nosuid") for share in listed}
    before = observed.persistent or observed.live
    old = before.shares() if before else {}
    found = set()
    for share in shares:
        tag, source = share["tag"], share["source"] and host.real_path(share["source"])
        if not source or share["read_only"] or host.session or source in host.ignores_setuid:
            continue
        by_default = source in host.nosuid or (tag in asked and tag not in old)
        if by_default if asked.get(tag) is None else asked[tag]:
            found.add(source)
    return found
