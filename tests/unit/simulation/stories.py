# SPDX-License-Identifier: GPL-3.0-or-later
"""Random tasks, and what others do to a host in between, as strategies of hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import libvirt
from hypothesis import strategies as st

from ansible_collections.keystone.virtiofs.tests.unit import support
from ansible_collections.keystone.virtiofs.tests.unit.simulation import definitions
from ansible_collections.keystone.virtiofs.tests.unit.simulation.driver import Domain
from ansible_collections.keystone.virtiofs.tests.unit.simulation.host import SimulatedHost

NAMES = ("vm", "web")
# What happens to one domain in a row finds more than what happens to two in turn.
_NAME = st.sampled_from(["vm", "vm", "vm", "web"])
TAGS = ("a", "b")
SOURCES = ("one", "two")
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


@dataclass(frozen=True)
class Task:
    """A task of a module; sources and disks are names that the host turns into paths."""

    kind: str
    given: dict[str, Any]
    killed_after: int | None = None  # actions; then the task is run again

    def options(self, host: SimulatedHost) -> dict[str, Any]:
        given = _with_paths(self.given, host)
        if self.kind == "share":
            return support.share(**{"name": given.pop("domain"), **given})
        if self.kind == "domains":
            return {**given, "domains": [support.domain(**options) for options in given["domains"]]}
        return support.domain(**given)


@dataclass(frozen=True)
class Event:
    """Something that others do."""

    what: str
    name: str
    detail: Any = None

    def happen(self, host: SimulatedHost) -> None:
        """Do it, where the host's state allows it."""
        domain = host.libvirt.domains.get(self.name)
        try:
            if self.what in _TO_A_HOST:
                _TO_A_HOST[self.what](host, self)
            elif domain is not None:
                _TO_A_DOMAIN[self.what](host, domain, self)
        except libvirt.libvirtError:
            pass


def _with_paths(value: Any, host: SimulatedHost) -> Any:
    if isinstance(value, dict):
        return {
            key: host.path(item) if key in ("source", "path") and item else _with_paths(item, host)
            for key, item in value.items()
        } | (
            {"remove_storage": [host.path(item) for item in value["remove_storage"]]}
            if "remove_storage" in value
            else {}
        )
    if isinstance(value, list):
        return [_with_paths(item, host) for item in value]
    return value


# Tasks.


def _some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the options."""
    return st.fixed_dictionaries({}, optional=options)


_SHARE_OPTIONS = {
    "read_only": st.booleans(),
    "cache": st.sampled_from(["none", "auto", "metadata"]),
    "inode_file_handles": st.sampled_from(["never", "prefer"]),
    "nosuid": st.booleans(),
    "xattr": st.booleans(),
}
_SHARES = st.lists(
    st.builds(
        lambda tag, source, more: {"tag": tag, "source": source, **more},
        st.sampled_from(TAGS),
        st.sampled_from(SOURCES),
        _some(**_SHARE_OPTIONS),
    ),
    max_size=2,
    unique_by=lambda share: share["tag"],
)
_STOPPING = {"restart": st.sampled_from(["never", "if_required"]), "force_stop": st.booleans()}
_FORWARD = {"host_port": 2200, "guest_port": 22, "next_free": True, "address": "127.0.0.1"}


@cache
def _domain_options(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda state, more: {"name": name, "virt_type": "qemu", "state": state, **more},
        st.sampled_from(["running", "running", "running", "present", "present", "stopped", "absent"]),
        _some(
            memory=st.sampled_from([128, 256]),
            vcpus=st.sampled_from([1, 2]),
            guest_agent=st.booleans(),
            shares=_SHARES,
            hotplug_ports=st.sampled_from([0, 1, 3]),
            autostart=st.booleans(),
            remove_storage=st.just([f"{name}.img"]),
            disks=st.builds(
                lambda size: [{"path": f"{name}.img", "size": size, "format": "raw"}], st.sampled_from([1, 2])
            ),
            interfaces=st.sampled_from([[], [{"type": "network"}], [{"type": "user", "forwards": [_FORWARD]}]]),
            **_STOPPING,
        ),
    )


_KILLED = st.sampled_from([None, None, None, 0, 1, 2, 3, 5])
_OF_ONE = {name: st.builds(Task, st.just("domain"), _domain_options(name), _KILLED) for name in NAMES}
_DOMAIN = _NAME.flatmap(_OF_ONE.__getitem__)
_ONE_SHARE = st.builds(
    lambda name, tag, source, state, more, killed_after: Task(
        "share",
        {"domain": name, "tag": tag, "state": state, **({"source": source} if state == "present" else {}), **more},
        killed_after,
    ),
    _NAME,
    st.sampled_from(TAGS),
    st.sampled_from(SOURCES),
    st.sampled_from(["present", "absent"]),
    _some(**_SHARE_OPTIONS, **_STOPPING),
    _KILLED,
)
_DOMAINS = st.builds(
    lambda listed, purge, killed_after: Task("domains", {"domains": listed, "purge": purge}, killed_after),
    st.one_of(*(st.tuples(*map(_domain_options, names)).map(list) for names in ((), NAMES[:1], NAMES[1:], NAMES))),
    st.booleans(),
    _KILLED,
)

# Events.


def _edit(_host: SimulatedHost, domain: Domain, event: Event) -> None:
    """Another tool writes a definition."""
    changed = deepcopy(domain.persistent)
    if changed is not None:
        changed.find("memory").text = str(event.detail * 1024)
        definitions.put_text(changed, "description", "edited")
        domain.persistent = changed


def _attach(host: SimulatedHost, domain: Domain, event: Event) -> None:
    tag, source, flags = event.detail
    share = (
        f"<filesystem type='mount'><driver type='virtiofs'/><source dir='{host.path(source)}'/><target dir='{tag}'/>"
        "</filesystem>"
    )
    domain.attachDeviceFlags(share, flags)


def _detach(_host: SimulatedHost, domain: Domain, event: Event) -> None:
    tag, _source, flags = event.detail
    domain.detachDeviceFlags(f"<filesystem><target dir='{tag}'/></filesystem>", flags)


def _remove_state_file(host: SimulatedHost, event: Event) -> None:
    for wrapper in Path(host.state, "domains", event.name, "bin").glob("*"):
        wrapper.unlink()


def _remove_image(host: SimulatedHost, event: Event) -> None:
    Path(host.path(f"{event.name}.img")).unlink(missing_ok=True)


def _unmount_all(host: SimulatedHost, event: Event) -> None:
    """Somebody unmounts what a domain that does not run has."""
    domain = host.libvirt.domains.get(event.name)
    if domain is None or domain.live is None:
        ours = f"{host.state}/domains/{event.name}/"
        host.mounts = [mount for mount in host.mounts if not mount.mount_point.startswith(ours)]


def _break_their_disk(host: SimulatedHost, event: Event) -> None:
    """The disk of another tool's domain is not what it should be."""
    image, theirs = Path(host.path("theirs.img")), host.libvirt.domains["theirs"]
    if event.detail == "pool" and not host.libvirt.inactive_pools:
        host.libvirt.inactive_pools.add("pool")
        disk = (
            "<disk type='volume' device='disk'><source pool='pool' volume='x'/><target dev='vdb' bus='virtio'/></disk>"
        )
        theirs.persistent.find("devices").append(definitions.parse(disk))
        return
    image.unlink(missing_ok=True)
    if event.detail == "loop":
        image.symlink_to(image)
    elif event.detail == "header":
        image.write_bytes(b"QFI\xfb" + bytes(range(200)))
        theirs.persistent.find("devices/disk/driver").set("type", "qcow2")


_TO_A_HOST: dict[str, Callable[[SimulatedHost, Event], None]] = {
    "break their disk": _break_their_disk,
    "reboot": lambda host, _event: host.reboot(),
    "remove the wrappers": _remove_state_file,
    "remove the image": _remove_image,
    "unmount": _unmount_all,
}
_TO_A_DOMAIN: dict[str, Callable[[SimulatedHost, Domain, Event], None]] = {
    "start": lambda _host, domain, _event: domain.create(),
    "suspend": lambda _host, domain, _event: domain.suspend(),
    "resume": lambda _host, domain, _event: domain.resume(),
    "crash": lambda _host, domain, _event: domain.destroy(),
    "managed save": lambda _host, domain, _event: domain.managedSave(),
    "forget the managed save": lambda _host, domain, _event: domain.managedSaveRemove(),
    "undefine": lambda _host, domain, _event: domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE),
    "edit": _edit,
    "attach": _attach,
    "detach": _detach,
    "stop responding": lambda _host, domain, _event: domain.respond(False),
    "respond": lambda _host, domain, _event: domain.respond(True),
}
_DETAILS: dict[str, st.SearchStrategy[Any]] = {
    "break their disk": st.sampled_from(["gone", "loop", "header", "pool"]),
    "edit": st.sampled_from([128, 512]),
    "attach": st.tuples(
        st.sampled_from(TAGS), st.sampled_from(SOURCES), st.sampled_from([LIVE, CONFIG, LIVE | CONFIG])
    ),
}
_DETAILS["detach"] = _DETAILS["attach"]

_EVENTS = {
    what: st.builds(Event, st.just(what), _NAME, _DETAILS.get(what, st.none())) for what in [*_TO_A_DOMAIN, *_TO_A_HOST]
}
_EVENT = st.sampled_from(list(_EVENTS)).flatmap(_EVENTS.__getitem__)
STEPS: st.SearchStrategy[list[Task | Event]] = st.lists(
    st.one_of(_DOMAIN, _DOMAIN, _DOMAIN, _ONE_SHARE, _ONE_SHARE, _DOMAINS, _EVENT, _EVENT, _EVENT),
    min_size=1,
    max_size=12,
)
