# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nixos_guest refuses names and links that lead out of its directories, and records what it has deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.keystone.virtiofs.tests.unit.roles.plays import run_tasks

REFUSED = {
    "path": {"nixos_guest_name": "web", "nixos_guest_domain": "../../../../srv/victim"},
    "line": {"nixos_guest_name": "web", "nixos_guest_domain": "..\n"},
    "name": {"nixos_guest_name": "../web", "nixos_guest_domain": "web"},
    "pattern": {"nixos_guest_name": "web,*", "nixos_guest_domain": ""},
}
ACCEPTED = {
    "none": {"nixos_guest_name": "web-1.example.org", "nixos_guest_domain": ""},
    "plain": {"nixos_guest_name": "web-1.example.org", "nixos_guest_domain": "my web"},
}
# Systems in the order of their deployment, and the one that a rollback is to.
DEPLOYED = {
    "A": None,
    "AA": None,
    "AB": "A",
    "ABA": "A",
    "ABAA": "A",
    "ABB": "A",
    "ABAC": "A",
    "ABC": "B",
}


def include(tasks_from: str, **variables: Any) -> dict[str, Any]:
    return {
        "name": "Run the role",
        "ansible.builtin.include_role": {"name": "keystone.virtiofs.nixos_guest", "tasks_from": tasks_from},
        "vars": {"nixos_guest_state": "absent", **variables},
    }


def test_a_name_that_is_a_path_or_a_pattern_is_refused(tmp_path: Path) -> None:
    hosts = {
        host: {**names, "nixos_guest_known_hosts": str(tmp_path / host)} for host, names in (REFUSED | ACCEPTED).items()
    }
    # In check mode, so that a name that is not refused does no harm.
    ends = run_tasks(tmp_path, [include("main")], hosts, "--check")
    for host in REFUSED:
        assert "nixos_guest_domain" in ends[host].message
        assert "must not contain a slash or a control character" in ends[host].message
    assert [ends[host].message for host in ACCEPTED] == ["", ""]


def test_a_rollback_is_to_what_was_deployed_before(tmp_path: Path) -> None:
    hosts = {deployed: {"systems": list(deployed), "gc_roots": str(tmp_path / deployed)} for deployed in DEPLOYED}
    for host in hosts:
        (tmp_path / host).mkdir()
    deployments = [
        include(
            "deployed_system",
            nixos_guest_name="web",
            nixos_guest_system=f"/nix/store/{{{{ systems[{step}] }}}}",
            _nixos_guest_gc_roots="{{ gc_roots }}",
        )
        | {"when": f"systems | length > {step}"}
        for step in range(max(map(len, DEPLOYED)))
    ]
    ends = run_tasks(tmp_path, deployments, hosts)
    for deployed, previous in DEPLOYED.items():
        assert ends[deployed].message == ""
        assert (tmp_path / deployed / "deployed").readlink() == Path(f"/nix/store/{deployed[-1]}")
        link = tmp_path / deployed / "previous"
        assert (link.readlink().name if link.is_symlink() else None) == previous, deployed


def test_a_kernel_outside_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for name in ("kernel", "initrd", "kernel-params"):
        (tmp_path / name).symlink_to("secret")
    ends = run_tasks(tmp_path, [include("boot_files", nixos_guest_system=str(tmp_path))], {"web": {}})
    assert f"{tmp_path}/kernel leads to {tmp_path}/secret, which is not in the store" in ends["web"].message
