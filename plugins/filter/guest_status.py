# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Describe a guest from what its host and the guest itself report."""

from __future__ import annotations

DOCUMENTATION = r"""
name: guest_status
short_description: Describe a guest from what its host and the guest itself report
version_added: 1.0.0
description:
  - Combines the results of M(keystone.virtiofs.host_info) and M(keystone.virtiofs.domain_info), the guest's answer and
    the report of its last verification. A host or guest that does not answer is part of the description.
  - The guest's answer is hostile. Values of another form than expected count as missing.
  - Made for the entry point C(status) of the role P(keystone.virtiofs.verify#role).
author:
  - keystone contributors (@ncrmro)
options:
  _input:
    description:
      - C(guest), C(host) and C(domain), the names; C(tag), the mount tag of the store; C(host_info), C(domain_info)
        and C(answer), the results of the tasks; and C(report), the text of the last verification's report in JSON.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Describe the guest
  ansible.builtin.set_fact:
    web: "{{ observed | keystone.virtiofs.guest_status }}"
"""

RETURN = r"""
_value:
  description: The fact C(verify_status) of the role P(keystone.virtiofs.verify#role).
  type: dict
"""

import json
import re
from typing import TYPE_CHECKING, Any

from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import unescape
from ansible_collections.keystone.virtiofs.plugins.module_utils._untrusted import printable, store_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Observed = Mapping[str, Any]

_ANSWER = 65536  # characters of a guest's answer that are read
_MESSAGE = 300
_REGISTRATIONS = ("closure", "overlay-store", "live", "none")
_NAME = re.compile(r"[a-z0-9._-]{1,64}")  # os-release(5)
_VERSION = re.compile(r"[0-9A-Za-z._-]{1,32}")
_GENERATION = re.compile(r"system-([0-9]{1,9})-link")
_SPACE = re.compile(r"([0-9]{1,15}) ([0-9]{1,15})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_FULL = 90  # percent
_BOOT = 300  # seconds within which a silent guest counts as starting; an emulated one needs up to 2 minutes


def guest_status(observed: Observed) -> dict[str, Any]:
    domain = _domain(observed)
    answer = _Answer(observed["answer"])
    ssh = domain.get("ssh") or {}
    status = {
        "guest": observed["guest"],
        "host": observed["host"],
        "state": domain["state"],
        "starting": _is_starting(domain, answer),
        "answers": answer.is_complete,
        "address": ssh.get("host"),
        "port": ssh.get("port"),
        "system": answer.system(),
        "store_mode": answer.store_mode(),
        "shares": [{"tag": tag, "mounted": answer.mounts(tag)} for tag in _tags(domain)],
        "layer": answer.layer(),
        "kvm": domain["virt_type"] == "kvm" if "virt_type" in domain else None,
        "verification": _verification(observed["report"]),
    }
    return {**status, "findings": [*_of_host(observed), *_of_domain(observed, domain), *_of_guest(observed, status)]}


def _domain(observed: Observed) -> Mapping[str, Any]:
    if "domains" not in observed["domain_info"]:
        return {"state": "unknown"}
    found: Mapping[str, Any] = observed["domain_info"]["domains"].get(observed["domain"], {"state": "absent"})
    return found


def _is_starting(domain: Mapping[str, Any], answer: _Answer) -> bool:
    seconds = domain.get("running_for")
    return domain["state"] == "running" and not answer.is_complete and seconds is not None and seconds < _BOOT


def _tags(domain: Mapping[str, Any]) -> list[str]:
    return [share["tag"] for share in domain.get("shares", [])]


class _Answer:
    """What the guest printed: lines of a key and its values."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        text = str(result.get("stdout", "")) if result.get("rc") == 0 else ""
        self._lines = [line.rstrip("\r").partition(" ")[::2] for line in text[:_ANSWER].split("\n")]
        self.is_complete = ("end", "") in self._lines

    def _values(self, key: str) -> list[str]:
        return [value for name, value in self._lines if name == key] if self.is_complete else []

    def _value(self, key: str) -> str:
        return next(iter(self._values(key)), "")

    def system(self) -> dict[str, Any] | None:
        name, _space, version = self._value("os").partition(" ")
        if not _NAME.fullmatch(name):
            return None
        generation = _GENERATION.fullmatch(self._value("generation"))
        return {
            "os": name,
            "version": version if _VERSION.fullmatch(version) else None,
            "path": store_path(self._value("system")),
            "generation": int(generation[1]) if generation else None,
        }

    def store_mode(self) -> str | None:
        """How the host's paths become valid in the guest; null if its store is not an overlay."""
        mode = self._value("registration")
        return mode if mode in _REGISTRATIONS and self._values("overlay") else None

    def mounts(self, tag: str) -> bool | None:
        if not self.is_complete:
            return None
        return tag in (unescape(source.encode(errors="replace")) for source in self._values("virtiofs"))

    def layer(self) -> dict[str, int] | None:
        found = _SPACE.fullmatch(self._value("layer"))
        size, used = (1024 * int(number) for number in found.groups()) if found else (0, 0)
        return {"size": size, "used": min(used, size)} if size else None


def _verification(report: str) -> dict[str, Any] | None:
    try:
        content = json.loads(report)
        outcomes = [result["result"] for result in content["results"]]
        time = str(content["time"])
    except (ValueError, TypeError, KeyError):
        return None
    if not _TIME.fullmatch(time):
        return None
    return {"time": f"{time}+00:00", **{name: outcomes.count(name) for name in ("pass", "fail", "not_applicable")}}


# --- findings ---


def _finding(where: str, id_: str, severity: str, problem: str, fix: str) -> dict[str, str]:
    texts = {"problem": problem, "fix": fix}
    return {"where": where, "id": id_, "severity": severity, **{key: _line(text) for key, text in texts.items()}}


def _message(result: Mapping[str, Any]) -> str:
    return str(result.get("msg") or "unexpected output").removeprefix("Task failed: ")


def _line(text: str) -> str:
    return " ".join(printable(text[:_MESSAGE]).split())


def _of_host(observed: Observed) -> Iterator[dict[str, str]]:
    host, info = observed["host"], observed["host_info"]
    findings = info.get("findings", [])
    failed = [answer for answer, key in ((info, "findings"), (observed["domain_info"], "domains")) if key not in answer]
    # Without libvirt there is no answer about domains either; the findings have the cause.
    if failed and "error" not in (found["severity"] for found in findings):
        problem = f"{host} does not answer: {_message(failed[0])}"
        yield _finding("host", "host_silent", "error", problem, f"Run ansible {host} -m ansible.builtin.ping")
    for found in findings:
        yield _finding("host", found["id"], found["severity"], found["problem"], found["fix"])


def _of_domain(observed: Observed, domain: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    play = f"ansible-playbook keystone.virtiofs.virtiofs_vm --limit {observed['host']},{observed['guest']}"
    restart = f"Restart the VM: {play}"
    if domain["state"] == "absent":
        problem = f"{observed['host']} has no domain {observed['domain']}"
        yield _finding("guest", "domain_absent", "error", problem, f"Run {play}")
    for tag in domain.get("dead_shares", []):
        yield _finding("guest", "share_dead", "error", f"the virtiofsd of share {tag} has ended", restart)
    for tag in domain.get("stale_shares", []):
        problem = f"share {tag} serves a directory that is no longer its source"
        yield _finding("guest", "share_stale", "error", problem, restart)


def _of_guest(observed: Observed, status: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    verify = f"Run ansible-playbook keystone.virtiofs.verify --limit {observed['guest']}, which reports the cause"
    verification, layer = status["verification"], status["layer"]
    is_silent = status["state"] == "running" and not status["answers"] and not status["starting"]
    if is_silent and not observed["answer"].get("skipped"):
        problem = f"the guest does not answer: {_message(observed['answer'])}"
        yield _finding("guest", "guest_silent", "error", problem, verify)
    for share in status["shares"]:
        if share["mounted"] is False:
            mount = f"Mount the share in the guest: mount -t virtiofs {share['tag']} DIRECTORY"
            yield _finding("guest", "share_not_mounted", "warning", f"share {share['tag']} is not mounted", mount)
    if status["answers"] and not status["store_mode"] and observed["tag"] in (s["tag"] for s in status["shares"]):
        yield _finding("guest", "store_not_mounted", "error", "the store is not an overlay of the share", verify)
    if layer and percent(layer) >= _FULL:
        free = "Delete paths in the guest (nix-collect-garbage), or give the writable layer more space"
        yield _finding("guest", "layer_full", "warning", f"the writable layer is {percent(layer)}% full", free)
    if verification and verification["fail"]:
        problem = f"the verification on {verification['time'][:10]} failed, checks: {verification['fail']}"
        yield _finding("guest", "verification_failed", "error", problem, verify)


def percent(layer: Mapping[str, int]) -> int:
    return 100 * layer["used"] // layer["size"]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"guest_status": guest_status}
