# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Format the status of guests."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status_report
short_description: Format the status of guests as a table, as JSON, as Prometheus metrics or as an HTML page
version_added: 1.0.0
description:
  - Takes the facts C(verify_status) of guests, which the entry point C(status) of the role
    P(keystone.virtiofs.verify#role) sets.
author:
  - keystone contributors (@ncrmro)
positional: _input, format
options:
  _input:
    description:
      - The facts C(verify_status).
    type: list
    elements: dict
    required: true
  format:
    description:
      - V(table) is for the terminal, with a line for each guest, followed by the errors and warnings with their fixes.
        It leaves out columns for which the terminal is too narrow.
      - V(json) has all values.
      - V(prom) has metrics for the textfile collector of Prometheus's node exporter.
      - V(html) is a page without references to other files.
    type: str
    choices: [table, json, prom, html]
    required: true
  time:
    description:
      - Time of the status in ISO 8601, for V(json), V(prom) and V(html).
    type: str
    default: ""
  width:
    description:
      - Maximum number of characters in a line of V(table). By default as many as Ansible shows in a line of a list on
        this terminal.
    type: int
"""

EXAMPLES = r"""
- name: Show the status of the guests
  ansible.builtin.debug:
    msg: "{{ (statuses | keystone.virtiofs.status_report('table')).splitlines() }}"
  vars:
    statuses: "{{ groups['virtiofs_guests'] | map('extract', hostvars, 'verify_status') }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The table, the JSON document, the metrics or the HTML page.
  type: str
"""

import base64
import hashlib
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible.errors import AnsibleFilterError
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ansible_collections.keystone.virtiofs.plugins.filter.guest_status import percent
from ansible_collections.keystone.virtiofs.plugins.plugin_utils.table import GAP, render, width_of_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Status = Mapping[str, Any]

_UNKNOWN = "-"
_SEVERITIES = ("error", "warning")
_TEMPLATES = Path(__file__).parents[1] / "plugin_utils"


def format_status(
    statuses: Sequence[Status],
    format: str,  # noqa: A002  the option's name
    time: str = "",
    width: int | None = None,
) -> str:
    if format == "table":
        return "\n".join(table(statuses, width or width_of_terminal()))
    if format == "json":
        return json.dumps({"time": time, "guests": list(statuses)}, indent=2) + "\n"
    if format == "prom":
        return "\n".join(metrics(statuses, time)) + "\n"
    if format == "html":
        return page(statuses, time)
    raise AnsibleFilterError(f"status_report: format is {format!r}; use table, json, prom or html")


# --- cells, for people ---


def _state(status: Status) -> str:
    if status["state"] != "running" or status["answers"]:
        return str(status["state"])
    return "starting" if status["starting"] else "running, silent"


def _address(status: Status) -> str:
    address, port = status["address"], status["port"]
    if address is None or port == 22:
        return address or _UNKNOWN
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _system(status: Status) -> str:
    system = status["system"]
    if system is None:
        return _UNKNOWN
    generation = f"generation {system['generation']}" if system["generation"] is not None else None
    return " ".join(filter(None, (system["os"], system["version"], generation)))


def _shares(status: Status) -> str:
    shares = status["shares"]
    if not status["answers"]:
        return f"? of {len(shares)}" if shares and status["state"] == "running" else _UNKNOWN
    return f"{sum(share['mounted'] for share in shares)} of {len(shares)}"


def _layer(status: Status) -> str:
    layer = status["layer"]
    return f"{percent(layer)}% of {layer['size'] / 2**30:.1f} GiB" if layer else _UNKNOWN


def _kvm(status: Status) -> str:
    return {True: "yes", False: "no", None: _UNKNOWN}[status["kvm"]]


def _findings(status: Status) -> str:
    return _count(status["findings"]) or "none"


def _verified(status: Status) -> str:
    done = status["verification"]
    if done is None:
        return _UNKNOWN
    outcome = f"{done['fail']} failed" if done["fail"] else "passed"
    return f"{outcome} {done['time'][:16].replace('T', ' ')}"


def _percent_used(status: Status) -> str:
    return str(percent(status["layer"])) if status["layer"] else "-1"


def _severity(status: Status) -> str:
    counted = Counter(finding["severity"] for finding in status["findings"])
    return str(1000 * counted["error"] + counted["warning"])


def _time_verified(status: Status) -> str:
    return str(_seconds(status["verification"]["time"])) if status["verification"] else "0"


class _Column(NamedTuple):
    """A column: its text, how early a narrow terminal does without it (0: never), and what sorts it if not its text."""

    text: Callable[[Status], str]
    rank: int
    key: Callable[[Status], str] = lambda _status: ""


_COLUMNS = {
    "Guest": _Column(lambda status: str(status["guest"]), 0),
    "Host": _Column(lambda status: str(status["host"]), 6),
    "State": _Column(_state, 0),
    "Address": _Column(_address, 7),
    "System": _Column(_system, 2),
    "Store": _Column(lambda status: status["store_mode"] or _UNKNOWN, 5),
    "Shares": _Column(_shares, 1),
    "Layer": _Column(_layer, 3, _percent_used),
    "KVM": _Column(_kvm, 4),
    "Findings": _Column(_findings, 0, _severity),
    "Verified (UTC)": _Column(_verified, 8, _time_verified),
}


def _count(findings: Sequence[Mapping[str, str]]) -> str:
    counted = Counter(finding["severity"] for finding in findings)
    return ", ".join(f"{counted[s]} {s}{'s' * (counted[s] > 1)}" for s in _SEVERITIES if counted[s])


def summary(statuses: Sequence[Status]) -> str:
    states = Counter(status["state"] for status in statuses)
    described = f" ({', '.join(f'{count} {state}' for state, count in sorted(states.items()))})" if states else ""
    findings = _count([finding for _machine, finding in problems(statuses)]) or "no findings"
    return f"{len(statuses)} guest{'s' * (len(statuses) != 1)}{described}, {findings}"


def problems(statuses: Sequence[Status]) -> list[tuple[str, Mapping[str, str]]]:
    """Errors and warnings, the errors first, with the machine that has them; those of a host once."""
    found = {
        (machine, finding["id"], finding["problem"]): finding
        for status in statuses
        for finding in status["findings"]
        if finding["severity"] in _SEVERITIES
        for machine in [status["host" if finding["where"] == "host" else "guest"]]
    }
    ordered = sorted(found.items(), key=lambda item: _SEVERITIES.index(item[1]["severity"]))
    return [(machine, finding) for (machine, _id, _problem), finding in ordered]


# --- table ---


def table(statuses: Sequence[Status], width: int) -> list[str]:
    names = list(_COLUMNS)
    rows = {name: [name.upper(), *(_COLUMNS[name].text(status) for status in statuses)] for name in names}
    widths = {name: max(map(len, rows[name])) for name in names}
    for name in sorted(names, key=lambda name: -_COLUMNS[name].rank):
        if _total(widths) > width and _COLUMNS[name].rank:
            del widths[name]
    if _total(widths) > width:
        widths["Guest"] = max(8, widths["Guest"] - (_total(widths) - width))
    left_out = [name.upper() for name in names if name not in widths]
    return [
        *render(list(zip(*(rows[name] for name in widths))), list(widths.values())),
        summary(statuses),
        *wrap(f"This terminal is too narrow for {', '.join(left_out)}." if left_out else "", width),
        *(line for machine, finding in problems(statuses) for line in _problem(machine, finding, width)),
    ]


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _problem(machine: str, finding: Mapping[str, str], width: int) -> Iterator[str]:
    yield from wrap(f"{finding['severity'].upper()} {machine}: {finding['problem']}", width, subsequent_indent="  ")
    yield from wrap(f"fix: {finding['fix']}", width, initial_indent="  ", subsequent_indent="       ")


# --- Prometheus ---


def metrics(statuses: Sequence[Status], time: str) -> Iterator[str]:
    samples: dict[str, tuple[str, list[str]]] = {}
    for name, meaning, labels, value in _samples(statuses, time):
        shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        samples.setdefault(name, (meaning, []))[1].append(f"{name}{{{shown}}} {value}" if shown else f"{name} {value}")
    for name, (meaning, lines) in samples.items():
        yield from (f"# HELP {name} {meaning}", f"# TYPE {name} gauge", *lines)


def _samples(statuses: Sequence[Status], time: str) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    prefix = "keystone_virtiofs"
    yield f"{prefix}_status_timestamp_seconds", "Time of the status.", {}, _seconds(time)
    for status in statuses:
        guest = {"guest": status["guest"], "host": status["host"]}
        info = {"state": status["state"], "store_mode": status["store_mode"]}
        info |= {key: (status["system"] or {}).get(key) for key in ("os", "version", "path", "generation")}
        yield f"{prefix}_guest_info", "State and system of the guest.", {**guest, **info}, 1
        yield f"{prefix}_guest_running", "Whether the guest runs.", guest, int(status["state"] == "running")
        yield f"{prefix}_guest_answers", "Whether the guest answers.", guest, int(status["answers"])
        if status["kvm"] is not None:
            yield f"{prefix}_guest_kvm", "Whether the guest runs with KVM.", guest, int(status["kvm"])
        for share in status["shares"]:
            if share["mounted"] is not None:
                labels = {**guest, "tag": share["tag"]}
                yield (
                    f"{prefix}_share_mounted",
                    "Whether the guest has the share mounted.",
                    labels,
                    int(share["mounted"]),
                )
        if status["layer"]:
            yield f"{prefix}_layer_size_bytes", "Size of the writable layer.", guest, status["layer"]["size"]
            yield f"{prefix}_layer_used_bytes", "Use of the writable layer.", guest, status["layer"]["used"]
        for severity in _SEVERITIES:
            count = sum(finding["severity"] == severity for finding in status["findings"])
            yield f"{prefix}_findings", "Number of findings.", {**guest, "severity": severity}, count
        yield from _verification_samples(f"{prefix}_verification", guest, status["verification"])


def _verification_samples(
    prefix: str, guest: dict[str, Any], verification: Status | None
) -> Iterator[tuple[str, str, dict[str, Any], int]]:
    if verification is None:
        return
    yield f"{prefix}_timestamp_seconds", "Time of the last verification.", guest, _seconds(verification["time"])
    for result in ("pass", "fail", "not_applicable"):
        yield f"{prefix}_checks", "Checks of the last verification.", {**guest, "result": result}, verification[result]


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def _escape(value: object) -> str:
    text = "" if value is None else str(value)
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


# --- HTML ---


def page(statuses: Sequence[Status], time: str) -> str:
    # Everything in the page is escaped; its policy lets a browser run and load nothing but what is hashed here.
    environment = Environment(autoescape=True, loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined)
    environment.filters["digest"] = _digest
    rows = [[(column.text(status), column.key(status)) for column in _COLUMNS.values()] for status in statuses]
    return environment.get_template("status.html.j2").render(
        columns=list(_COLUMNS), rows=rows, summary=summary(statuses), problems=problems(statuses), time=time
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"status_report": format_status}
