# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what is wrong with an inventory before anything is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_mistakes
short_description: Find the mistakes in an inventory of hosts and guests
version_added: 1.0.0
description:
  - Returns one sentence for each mistake in the groups C(virtiofs_hosts) and C(virtiofs_guests), or an empty list.
  - Checks the groups, the variable C(virtiofs_host) of each guest, and that no two guests are the same domain, have the
    same MAC address in C(vm_xml) or the same port of the host in C(vm_forwards). No two of a guest's C(vm_extra_shares)
    may have the same C(tag) or C(mount_point).
  - Made for the playbooks of this collection.
author:
  - keystone contributors (@ncrmro)
positional: _input, groups, works_on, reached
options:
  _input:
    description:
      - The variables of all hosts, as in C(hostvars).
    type: dict
    required: true
  groups:
    description:
      - The names of the hosts in each group, as in C(groups).
    type: dict
    required: true
  works_on:
    description:
      - The groups that the playbook works on, in this order.
    type: list
    elements: str
    choices: [virtiofs_hosts, virtiofs_guests]
    required: true
  reached:
    description:
      - The names of the hosts that C(--limit) leaves. Other guests are checked only for what they have in common with
        these.
    type: list
    elements: str
    required: true
  limit:
    description:
      - The value of C(--limit), for the messages.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Require an inventory without mistakes
  ansible.builtin.assert:
    that: mistakes | length == 0
    fail_msg: "{{ mistakes }}"
  vars:
    mistakes: >-
      {{ hostvars | keystone.virtiofs.inventory_mistakes(groups, ['virtiofs_guests'], ansible_play_hosts_all) }}
  run_once: true
"""

RETURN = r"""
_value:
  description: The mistakes, for example V(guest web has no virtiofs_host).
  type: list
  elements: str
"""

import re
from collections import defaultdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from jinja2 import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_HOSTS = "virtiofs_hosts"
_GUESTS = "virtiofs_guests"
_MEMBERS = {_HOSTS: "hypervisors", _GUESTS: "VMs"}
_SYSTEM = "qemu:///system"
_MAC = re.compile(r"<mac\s+address=['\"]([0-9A-Fa-f:]{17})['\"]")


class _CannotBeEvaluated(Exception):
    """A variable that refers to an undefined one."""


def inventory_mistakes(
    hostvars: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    works_on: Sequence[str],
    reached: Collection[str],
    limit: str = "",
) -> list[str]:
    empty = [_empty_group(name, groups) for name in works_on if not groups.get(name)]
    if empty:
        return empty
    if not any(name in reached for group in works_on for name in groups[group]):
        members = " or ".join(works_on)
        return [f"--limit {limit} names no member of {members}; remove --limit, or name members of these groups"]
    guests = groups.get(_GUESTS, []) if _GUESTS in works_on else []
    places: dict[str, str] = {}
    mistakes = []
    for guest in guests:
        host, mistake = _host_of(guest, hostvars, groups)
        places[guest] = host
        if not mistake and _HOSTS in works_on and host not in reached:
            mistake = f"guest {guest} is on host {host}, which --limit {limit} leaves out; use --limit {limit},{host}"
        found = [mistake] if mistake else []
        mistakes += [*found, *_repeated(guest, hostvars[guest])] if guest in reached else []
    return mistakes + [message for names, message in _shared(places, hostvars) if not names.isdisjoint(reached)]


def _empty_group(name: str, groups: Mapping[str, Sequence[str]]) -> str:
    similar = _similar(name, [group for group in groups if groups[group] and group not in _MEMBERS])
    return f"group {name} is missing or empty{similar}; put the {_MEMBERS[name]} into group {name}"


def _host_of(guest: str, hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The host that a guest names, and what is wrong with the name."""
    try:
        host = _text(hostvars[guest], "virtiofs_host")
    except _CannotBeEvaluated as error:
        return "", f"guest {guest}: virtiofs_host cannot be evaluated: {error}"
    hosts = groups.get(_HOSTS, [])
    if not host:
        return "", f"guest {guest} has no virtiofs_host; set virtiofs_host to the name of its host in {_HOSTS}"
    if host not in hosts:
        return host, f"guest {guest} names host {host}, which is not in {_HOSTS}{_similar(host, hosts)}"
    return host, ""


def _text(variables: Mapping[str, Any], name: str) -> str:
    try:
        value = variables.get(name)
        text = "" if value is None else str(value)
    except (AnsibleError, TemplateError) as error:
        raise _CannotBeEvaluated(str(error)) from error
    if "{{" in text:  # Before ansible-core 2.19, a template with an undefined variable is returned as it is.
        raise _CannotBeEvaluated(text)
    return text


def _similar(name: str, names: Sequence[str]) -> str:
    match = get_close_matches(name, names, n=1)
    return f" (similar: {match[0]})" if match else ""


def _shared(places: Mapping[str, str], hostvars: Mapping[str, Any]) -> Iterator[tuple[set[str], str]]:
    """What several guests of one host have and only one can have."""
    owners: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for guest, host in places.items():
        for thing in _identity(guest, hostvars[guest]):
            owners[(host, *thing)].append(guest)
    for (host, option, value), guests in owners.items():
        if len(guests) > 1:
            names = " and ".join(guests)
            yield set(guests), f"guests {names} on host {host} have the same {option} {value}; give each its own"


def _identity(guest: str, variables: Mapping[str, Any]) -> set[tuple[str, str]]:
    try:
        uri = _text(variables, "vm_uri") or _SYSTEM
        name = _text(variables, "vm_name") or guest
        addresses = _MAC.findall(_text(variables, "vm_xml"))
        ports = [_port(entry) for entry in _entries(variables, "vm_forwards") if not entry.get("next_free")]
    except _CannotBeEvaluated:
        return set()  # The role vm reports the variable.
    option = "vm_name" if uri == _SYSTEM else f"vm_uri {uri} and vm_name"
    return {
        (option, name),
        *(("MAC address", address.lower()) for address in addresses),
        *(("vm_forwards port", port) for port in ports),
    }


def _port(forward: Mapping[str, Any]) -> str:
    return f"{forward.get('address') or '127.0.0.1'}:{forward.get('host_port')}"


def _repeated(guest: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """What several shares of a guest have and only one can have."""
    try:
        shares = _entries(variables, "vm_extra_shares")
    except _CannotBeEvaluated:
        return  # The role vm reports the variable.
    for option in ("tag", "mount_point"):
        values = [str(share[option]) for share in shares if option in share]
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield f"guest {guest} has several vm_extra_shares with {option} {value}; give each its own"


def _entries(variables: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of dicts. The role vm reports what is something else."""
    try:
        value = variables.get(name)
        entries = value if isinstance(value, list) else []
        return [{key: entry[key] for key in entry} for entry in entries if isinstance(entry, dict)]
    except (AnsibleError, TemplateError) as error:
        raise _CannotBeEvaluated(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"inventory_mistakes": inventory_mistakes}
