# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.filter.guest_status import guest_status
from ansible_collections.keystone.virtiofs.plugins.module_utils._untrusted import printable
from ansible_collections.keystone.virtiofs.tests.unit import hostile

SYSTEM = "/nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05"
ANSWER = {
    "os": "nixos 26.05",
    "system": SYSTEM,
    "generation": "system-12-link",
    "registration": "closure",
    "virtiofs": "nix-store-share",
    "overlay": "",
    "layer": "2048 512",
}
DOMAIN = {
    "state": "running",
    "virt_type": "kvm",
    "ssh": {"host": "192.0.2.20", "port": 22},
    "shares": [{"tag": "nix-store-share"}],
    "dead_shares": [],
    "stale_shares": [],
}
REPORT = {"time": "2026-11-22T12:00:00", "results": [{"result": "pass"}, {"result": "fail"}, {"result": "pass"}]}


def printed(lines: dict[str, str], end: str = "end") -> dict[str, Any]:
    return {"rc": 0, "stdout": "".join(f"{key} {value}".rstrip() + "\r\n" for key, value in lines.items()) + end}


def observe(**changes: Any) -> dict[str, Any]:
    observed = {
        "guest": "web",
        "host": "alpha",
        "domain": "web-vm",
        "tag": "nix-store-share",
        "host_info": {"findings": []},
        "domain_info": {"domains": {"web-vm": DOMAIN}},
        "answer": printed(ANSWER),
        "report": "",
    }
    return guest_status({**observed, **changes})


def with_domain(**changes: Any) -> dict[str, Any]:
    return {"domains": {"web-vm": {**DOMAIN, **changes}}}


def ids(status: dict[str, Any]) -> list[str]:
    return [finding["id"] for finding in status["findings"]]


def test_a_healthy_guest() -> None:
    assert observe() == {
        "guest": "web",
        "host": "alpha",
        "state": "running",
        "starting": False,
        "answers": True,
        "address": "192.0.2.20",
        "port": 22,
        "system": {"os": "nixos", "version": "26.05", "path": SYSTEM, "generation": 12},
        "store_mode": "closure",
        "shares": [{"tag": "nix-store-share", "mounted": True}],
        "layer": {"size": 2048 * 1024, "used": 512 * 1024},
        "kvm": True,
        "verification": None,
        "findings": [],
    }


UNREACHABLE = {"unreachable": True, "msg": "no route"}
NO_LIBVIRT = {"id": "libvirt_unreachable", "severity": "error", "problem": "libvirt does not answer", "fix": "Start it"}


@pytest.mark.parametrize(
    ("changes", "state", "found"),
    [
        ({"domain_info": UNREACHABLE, "host_info": UNREACHABLE, "answer": {"skipped": True}}, "unknown", "host_silent"),
        ({"domain_info": {"failed": True, "msg": "libvirt"}}, "unknown", "host_silent"),
        ({"domain_info": {"failed": True}, "host_info": {"findings": [NO_LIBVIRT]}}, "unknown", "libvirt_unreachable"),
        ({"domain_info": {"domains": {}}, "answer": {"skipped": True}}, "absent", "domain_absent"),
        ({"answer": UNREACHABLE}, "running", "guest_silent"),
        ({"answer": {"rc": 127, "stdout": "", "stderr": "sh: not found"}}, "running", "guest_silent"),
        ({"answer": printed(ANSWER, end="")}, "running", "guest_silent"),
        ({"domain_info": with_domain(dead_shares=["a"]), "answer": {"skipped": True}}, "running", "share_dead"),
        ({"domain_info": with_domain(stale_shares=["a"])}, "running", "share_stale"),
        ({"answer": printed({**ANSWER, "virtiofs": "other"})}, "running", "share_not_mounted"),
        ({"answer": printed({"os": "debian 13", "virtiofs": "nix-store-share"})}, "running", "store_not_mounted"),
        ({"answer": printed({**ANSWER, "layer": "100 90"})}, "running", "layer_full"),
        ({"report": json.dumps(REPORT)}, "running", "verification_failed"),
    ],
)
def test_a_finding(changes: dict[str, Any], state: str, found: str) -> None:
    status = observe(**changes)
    assert (status["state"], ids(status)) == (state, [found])


@pytest.mark.parametrize(("seconds", "found"), [(20, []), (600, ["guest_silent"]), (None, ["guest_silent"])])
def test_a_guest_that_boots_is_starting(seconds: int | None, found: list[str]) -> None:
    status = observe(domain_info=with_domain(running_for=seconds), answer=UNREACHABLE)
    assert (status["starting"], ids(status)) == (not found, found)
    assert not observe(domain_info=with_domain(running_for=20))["starting"]


def test_a_guest_that_is_off_is_no_finding() -> None:
    status = observe(domain_info=with_domain(state="stopped", ssh=None), answer={"skipped": True})
    assert (status["state"], status["answers"], status["address"], ids(status)) == ("stopped", False, None, [])


def test_findings_of_the_host_are_those_of_the_guest() -> None:
    found = {"id": "kvm_unusable", "severity": "warning", "problem": "no KVM", "fix": "enable it"}
    assert observe(host_info={"findings": [found]})["findings"] == [{"where": "host", **found}]


def test_the_last_verification_is_counted() -> None:
    expected = {"time": "2026-11-22T12:00:00+00:00", "pass": 2, "fail": 1, "not_applicable": 0}
    assert observe(report=json.dumps(REPORT))["verification"] == expected


@pytest.mark.parametrize("report", ["", "{", "[]", "null", '{"results": [{}], "time": ""}', '{"results": []}', "7"])
def test_a_file_that_is_no_report_is_no_verification(report: str) -> None:
    assert observe(report=report)["verification"] is None


@pytest.mark.parametrize("text", hostile.TEXTS, ids=hostile.label)
def test_a_hostile_value_counts_as_missing(text: str) -> None:
    for key in ANSWER:
        status = observe(answer=printed({**ANSWER, key: text}))
        system = status["system"] or {"os": "x", "version": None, "path": None, "generation": None}
        assert re.fullmatch("[a-z0-9._-]{1,64}", system["os"])
        assert system["version"] is None or re.fullmatch("[0-9A-Za-z._-]{1,32}", system["version"])
        assert (system["path"], system["generation"]) in [(SYSTEM, 12), (None, 12), (SYSTEM, None), (None, None)]
        assert status["store_mode"] in ("closure", None)
        assert [share["tag"] for share in status["shares"]] == ["nix-store-share"]


@pytest.mark.parametrize("text", hostile.TEXTS, ids=hostile.label)
def test_a_message_is_one_short_line_without_control_characters(text: str) -> None:
    (finding,) = observe(answer={"unreachable": True, "msg": text * 3})["findings"]
    assert finding["problem"] == printable(finding["problem"])
    assert "\n" not in finding["problem"]
    assert len(finding["problem"]) <= 300


@pytest.mark.parametrize("layer", ["9" * 15 + " " + "9" * 16, "-1 1", "0 0", "٣ ٣", "1e3 1", "1 9"])
def test_a_layer_is_never_more_than_full(layer: str) -> None:
    found = observe(answer=printed({**ANSWER, "layer": layer}))["layer"]
    assert found is None or 0 <= found["used"] <= found["size"]
