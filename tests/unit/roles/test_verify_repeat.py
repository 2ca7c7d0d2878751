# SPDX-License-Identifier: GPL-3.0-or-later
"""When the role verify repeats checks that write, and when it keeps their results: the role, with checks of this test.

All guests are this machine. Each has a directory with a file for its boot, one for its mount, and a line in a file for
each write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.keystone.virtiofs.tests.unit.roles.plays import run_tasks

GUESTS = ["unchanged", "rebooted", "reshared", "asked", "broken", "silent"]
REFUSED = "Connection refused"  # after which the role goes on
ROLE = {"name": "Verify", "ansible.builtin.include_role": {"name": "keystone.virtiofs.verify"}}


def check(name: str, command: str) -> dict[str, Any]:
    return {"id": name, "where": "guest", "expectation": "", "command": command, "pattern": "^(reached|ok)$", "fix": ""}


class Fleet:
    def __init__(self, directory: Path, names: list[str]) -> None:
        self.directory = directory
        self.names = names
        self.variables: dict[str, dict[str, Any]] = {
            name: {"verify_host": name, "verify_domain_info": domain(name)} for name in names
        }
        (directory / "store").mkdir()
        for name in names:
            (directory / name).mkdir()
            (directory / name / "mounted").touch()
            (directory / name / "boot").write_text("first boot\n")

    def verify(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Verify all guests, and return their reports."""
        at = f"{self.directory}/{{{{ inventory_hostname }}}}"
        extra = {
            "verify_source": f"{self.directory}/store",
            "verify_report_directory": f"{self.directory}/reports",
            "verify_fail": False,
            "verify_new_path_timeout": 0,
            "verify_host_info": {"findings": []},
            # Variables of this kind come before those of the role.
            "_verify_instance": {"id": "guest_instance", "command": f"cat {at}/boot"},
            "_verify_checks": [
                check("guest_reachable", "echo reached"),
                check("mounted", f"test -e {at}/mounted && echo ok"),
                {**check("wrote", f"echo x >> {at}/writes; echo ok"), "writes": True, "needs": ["mounted"]},
            ],
        }
        variables = {name: {"verify_repeat_writes": False, **own} for name, own in self.variables.items()}
        ends = run_tasks(self.directory, [ROLE], variables, "--extra-vars", json.dumps(extra), *arguments)
        assert all(end.message == "" or end.message.endswith(REFUSED) for end in ends.values())
        return {name: json.loads((self.directory / f"reports/{name}.json").read_text()) for name in self.names}

    def writes(self, name: str) -> int:
        return len((self.directory / name / "writes").read_text().splitlines())


def domain(name: str, tag: str = "nix-store-share") -> dict[str, Any]:
    return {"domains": {name: {"uuid": name, "shares": [{"tag": tag}]}}}


def wrote(reports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """For each guest the result of the check that writes: its time if it was kept, otherwise the result."""
    results = {name: next(r for r in report["results"] if r["id"] == "wrote") for name, report in reports.items()}
    return {name: result.get("time", result["result"]) for name, result in results.items()}


def test_the_results_are_kept_until_the_guest_is_another_one_or_a_check_fails(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, GUESTS)
    (fleet.directory / "silent/boot").unlink()
    first = fleet.verify()
    assert wrote(first) == dict.fromkeys(GUESTS, "pass")

    (fleet.directory / "rebooted/boot").write_text("second boot\n")
    fleet.variables["reshared"]["verify_domain_info"] = domain("reshared", tag="other")
    fleet.variables["asked"]["verify_repeat_writes"] = True
    (fleet.directory / "broken/mounted").unlink()
    second = fleet.verify()
    kept = first["unchanged"]["time"]
    assert wrote(second) == {**dict.fromkeys(GUESTS, "pass"), "unchanged": kept, "broken": "not_applicable"}

    (fleet.directory / "broken/mounted").touch()
    third = fleet.verify()
    times = {name: second[name]["time"] for name in GUESTS}
    assert wrote(third) == {**times, "unchanged": kept, "asked": "pass", "broken": "pass", "silent": "pass"}
    assert {name: fleet.writes(name) for name in GUESTS} == {
        "unchanged": 1,
        "rebooted": 2,
        "reshared": 2,
        "asked": 3,
        "broken": 2,
        "silent": 3,
    }


def boots(fleet: Fleet, name: str, wait: int) -> None:
    """The guest's ssh refuses the first connection, as that of a guest that is still booting."""
    ssh, up = fleet.directory / name / "ssh", fleet.directory / name / "up"
    refuse = f"touch {up}; echo '{REFUSED}' >&2; exit 255"
    ssh.write_text(f'#!/bin/sh\n[ -e {up} ] || {{ {refuse}; }}\nfor command; do :; done\nexec sh -c "$command"\n')
    ssh.chmod(0o755)
    fleet.variables[name] |= {
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(ssh),
        "verify_host": "host",
        "verify_wait_timeout": wait,
        "verify_domain_info": {"domains": {name: {"uuid": name, "shares": [], "state": "running"}}},
    }


def test_a_guest_that_is_still_booting_is_waited_for_if_asked(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ["host", "awaited", "not_awaited"])
    boots(fleet, "awaited", wait=5)
    boots(fleet, "not_awaited", wait=0)
    assert wrote(fleet.verify()) == {"host": "pass", "awaited": "pass", "not_awaited": "not_applicable"}


def test_check_mode_neither_keeps_results_nor_counts_as_passed(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ["unchanged"])
    fleet.verify()
    assert wrote(fleet.verify("--check")) == {"unchanged": "not_applicable"}
    assert wrote(fleet.verify()) == {"unchanged": "pass"}
