# SPDX-License-Identifier: GPL-3.0-or-later
"""What several unit tests need. No Ansible here: fixtures/on_host.py uses it on hosts that have none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    DiskImage,
    Host,
    Observed,
    Plan,
    disk_key,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.schema import OF_DOMAIN, OF_SHARE, Field
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.state_paths import bound_source, wrapper_flags
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._features import Virtiofsd

FIXTURES = Path(__file__).parent / "fixtures"


class Anywhere(frozenset[str]):
    """Holds every path."""

    def __contains__(self, _path: object) -> bool:
        return True


NEW_UUID = "0e9a4e5b-4b6b-4d6c-9d53-5a2f8f5b7c11"

# The host generations, as the planner sees them. All file systems ignore setuid bits, but where a test says otherwise.
BOOKWORM = Host(
    libvirt=9000000,
    virtiofsd=Virtiofsd("/usr/lib/qemu/virtiofsd", (7, 2, 22), legacy=True),
    ignores_setuid=Anywhere(),
    new_uuid=NEW_UUID,
)
TRIXIE = replace(BOOKWORM, libvirt=11003000, virtiofsd=Virtiofsd("/usr/libexec/virtiofsd", (1, 13, 2)))
PATCHED = replace(
    TRIXIE, virtiofsd=Virtiofsd("/usr/local/lib/keystone-virtiofs/virtiofsd", (1, 13, 2), caches_stores=True)
)
SID = replace(BOOKWORM, libvirt=12008000, virtiofsd=Virtiofsd("/usr/libexec/virtiofsd", (1, 14, 0)))
GENERATIONS = {"libvirt-9.0": BOOKWORM, "libvirt-11.3": TRIXIE, "libvirt-12": SID}  # by folder of fixtures


def options(fields: Iterable[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """What AnsibleModule makes of a task's options: every option is there, with its default or None."""
    values = {field.option: _value(field, given.get(field.option)) for field in fields}
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise ValueError(f"no such options: {', '.join(unknown)}")
    return values


def _value(field: Field, value: Any) -> Any:
    if value is None:
        return field.default
    if field.choices and value not in field.choices:
        raise ValueError(f"{field.option}: {value!r} is not one of {', '.join(field.choices)}")
    if field.fields and field.elements == "dict":
        return [options(field.fields, item) for item in value]
    return options(field.fields, value) if field.fields else value


def domain(name: str = "vm", **given: Any) -> dict[str, Any]:
    """The options of module domain."""
    return options(OF_DOMAIN, {"name": name, **given})


def share(name: str = "vm", tag: str = "data", **given: Any) -> dict[str, Any]:
    """The options of module share."""
    return options(OF_SHARE, {"domain": name, "tag": tag, **given})


def dumped_names(generation: str) -> list[str]:
    """The domains of which a generation's folder holds dumps."""
    return sorted(path.stem for path in (FIXTURES / generation).glob("*.json") if path.stem != "host")


def task_of(generation: str, name: str, **changes: Any) -> dict[str, Any]:
    """The task that a dumped domain was made by, with changes."""
    wanted = json.loads((FIXTURES / generation / f"{name}.json").read_text())
    return domain(name, **{**wanted, **changes})


def observed(generation: str, name: str, *, running: bool = False) -> Observed:
    """A dumped domain as the gateway would read it."""

    def read(kind: str) -> DomainXml:
        return DomainXml((FIXTURES / generation / f"{name}.{kind}.xml").read_text())

    return Observed(
        name,
        persistent=read("persistent"),
        live=read("live") if running else None,
        run_state="running" if running else "stopped",
        autostart=bool(task_of(generation, name)["autostart"]),
    )


def host_of(generation: str, name: str) -> Host:
    """The host that a domain was dumped on, with everything that the domain needs of it."""
    task = task_of(generation, name)
    paths = observed(generation, name).persistent.share_paths().values()  # type: ignore[union-attr]
    return replace(
        GENERATIONS[generation],
        has_state=any(bound_source(source) or wrapper_flags(daemon) for source, daemon in paths),
        binds={source: True for source, _daemon in paths if bound_source(source)},
        wrappers={daemon: True for _source, daemon in paths if wrapper_flags(daemon)},
        images={disk_key(disk): DiskImage(disk["size"], disk["format"] or "qcow2") for disk in task["disks"] or ()},
    )


def steps(plan: Plan) -> list[str]:
    """The names of a plan's actions."""
    return [type(action).__name__ for action in plan.actions]


def replaced(value: Any, names: Mapping[str, str]) -> Any:
    """The value with other texts in place of those that are names, however deep."""
    if isinstance(value, dict):
        return {key: replaced(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
