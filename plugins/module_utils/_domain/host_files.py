# SPDX-License-Identifier: GPL-3.0-or-later
"""The mounts and wrapper scripts on the host that a domain's shares need. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._features import unavailable
from .definition import is_users_own
from .model import (
    Action,
    BindReadOnly,
    DetachShare,
    Host,
    MountNosuid,
    Observed,
    Options,
    Plan,
    RemoveFormerState,
    RemoveLeftovers,
    RemoveWrapper,
    Shutdown,
    Unbind,
    UnmountNosuid,
    WriteWrapper,
)
from .state_paths import bound_source, domain_directory, is_store, wrapper_flags
from .xml.document import DomainXml

_ALL_IDS = 2**32 - 1


def plan_host_files(listed: Iterable[Options], document: DomainXml, observed: Observed, host: Host, plan: Plan) -> None:
    """Mounts and wrappers: made before anything that uses them, removed after the last use."""
    if not host.local:
        return
    paths = set(document.share_paths().values())
    shares = list(document.shares().values())
    # A share stays in use until the guest has let go of it, also of one that is saved.
    in_use = observed.saved or observed.live
    still_served: set[str] = set()
    if in_use is not None and not any(isinstance(action, Shutdown) for action in plan.actions):
        gone = {action.tag for action in plan.actions if isinstance(action, DetachShare)}
        paths |= {path for tag, path in in_use.share_paths().items() if tag not in gone}
        shares += [share for tag, share in in_use.shares().items() if tag not in gone]
        if host.stale_shares:  # a running virtiofsd serves what was a source once
            still_served = set(host.nosuid)
    nosuid = _nosuid_sources(listed, shares, observed, host) | still_served
    prepare: list[Action] = [MountNosuid(source) for source in sorted(nosuid) if not host.nosuid.get(source)]
    own = f"{domain_directory(host.state, plan.name)}/"
    for source, daemon in sorted(paths):
        original = bound_source(source)
        if original and source.startswith(own) and not host.binds.get(source):
            prepare.append(BindReadOnly(host.real_path(original), source))
        flags = wrapper_flags(daemon)
        if flags and daemon.startswith(own) and not host.wrappers.get(daemon) and host.virtiofsd:
            prepare.append(WriteWrapper(daemon, host.virtiofsd.path, flags))
    sources, daemons = {source for source, _daemon in paths}, {daemon for _source, daemon in paths}
    clean_up: list[Action] = [Unbind(target) for target in sorted(set(host.binds) - sources)]
    clean_up += [RemoveWrapper(path) for path in sorted(set(host.wrappers) - daemons)]
    clean_up += [UnmountNosuid(source) for source in sorted(set(host.nosuid) - nosuid)]
    former = f"{domain_directory(host.state, host.former_state)}/"
    if host.former_state and not any(path.startswith(former) for path in sources | daemons):
        clean_up.append(RemoveFormerState(host.former_state))
    if host.leftovers:  # last: what an action of this plan has filled since is not empty any more
        clean_up.append(RemoveLeftovers(host.leftovers))
    plan.actions = prepare + plan.actions + clean_up


def keep_owner(share: dict[str, Any], observed: Observed, host: Host) -> dict[str, Any]:
    """The share, in which a source that belongs to another user than root keeps its owner, whatever a guest writes.

    Programs of root with the setuid bit would be safe only as long as they stay below the mount with nosuid, and that
    user can move them away from there, in a mount namespace from before the mount. As with nosuid, this is the default
    of a share that exposes a source writable for the first time.
    """
    before = observed.persistent or observed.live
    current = before.shares().get(share["tag"]) if before else None
    daemon = before.share_paths().get(share["tag"], ("", ""))[1] if before else ""
    after = {**(current or {}), **{option: value for option, value in share.items() if value is not None}}
    source = _writable_source(after, host)
    owner = host.owners.get(source or "")
    if (
        owner is None
        or host.session
        or source in host.ignores_setuid
        or (current and _writable_source(current, host) == source)
        or after.get("nosuid") is False
        or any(after.get(option) for option in ("translate_uid", "translate_gid", "idmap", "socket"))
        or is_users_own(daemon, host)
        or unavailable("translate", host.libvirt, host.virtiofsd)
    ):
        return share
    squashed = (f"squash-guest:0:{number}:{_ALL_IDS}" for number in owner)
    return {**share, **dict(zip(("translate_uid", "translate_gid"), squashed))}


def keep_cache(share: dict[str, Any], observed: Observed, host: Host) -> dict[str, Any]:
    """The share, with the cache mode for immutable files if it exposes a Nix store read-only for the first time."""
    before = observed.persistent or observed.live
    current = before.shares().get(share["tag"]) if before else None
    if (
        current
        or share.get("cache") is not None
        or not share.get("read_only")
        or not is_store(host.real_path(share.get("source") or ""))
        or unavailable("cache_store", host.libvirt, host.virtiofsd)
    ):
        return share
    return {**share, "cache": "store"}


def _nosuid_sources(listed: Iterable[Options], shares: Iterable[Options], observed: Observed, host: Host) -> set[str]:
    """The writable sources that must be mounted with nosuid.

    That is the default of a share that exposes a source writable for the first time; what was decided once stays, also
    for a symbolic link that leads to another directory now.
    """
    asked = {share["tag"]: share.get("nosuid") for share in listed}
    shares = list(shares)
    earlier = set(host.nosuid) - {_writable_source(share, host) for share in shares}
    known = {
        (tag, _writable_source(share, host))
        for document in observed.documents
        for tag, share in document.shares().items()
    }
    found = set()
    for share in shares:
        tag, source = share["tag"], _writable_source(share, host)
        if not source or host.session or source in host.ignores_setuid:
            continue
        is_turned_link = bool(earlier) and share["source"] != source
        by_default = source in host.nosuid or is_turned_link or (tag in asked and (tag, source) not in known)
        if by_default if asked.get(tag) is None else asked[tag]:
            found.add(source)
    return found


def _writable_source(share: Options, host: Host) -> str | None:
    """The real path of the directory that a share lets its guest write to."""
    return None if share.get("read_only") or not share.get("source") else host.real_path(share["source"])
