# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed that the role vm makes for cloud-init, with the real qemu-img."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.tests.unit.roles.plays import run_tasks

CHECKOUT = Path(__file__).parents[3]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO7RXN4JzD4Oa2J3Q0Xo3Fz6zAy3Lk6p0p9h2jV5sW1k me"


def run_role(directory: Path, tasks: list[dict[str, Any]], **variables: Any) -> subprocess.CompletedProcess[str]:
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    playbook = directory / "playbook.yml"
    playbook.write_text(json.dumps([play]))
    # Variables of this kind come before those of the role, so that nothing outside of the directory is touched.
    extra = {
        "ansible_python_interpreter": sys.executable,
        "vm_name": "my web",
        "vm_ssh_keys": [KEY],
        "_vm_cloud_init": f"{directory}/vm/cidata",
        "_vm_seed": f"{directory}/vm/seed/cidata.img",
        "_vm_host_key": f"{directory}/vm/ssh/ssh_host_ed25519_key",
        **variables,
    }
    command = ["ansible-playbook", "--inventory", "localhost,", "--extra-vars", json.dumps(extra), "--diff", playbook]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=600)


def include(vm_cloud_init: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    return {
        "name": "Step",
        "ansible.builtin.include_role": {
            "name": "keystone.virtiofs.vm",
            "tasks_from": "cloud_init",
            "public": True,
            "apply": {"check_mode": check},
        },
        "vars": {"vm_cloud_init": vm_cloud_init},
    }


def report(vm_cloud_init: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "Report",
        "ansible.builtin.debug": {"msg": "The host key is {{ _vm_ssh_host_key }}."},
        "vars": {"vm_cloud_init": vm_cloud_init},
    }


def shell(command: str) -> dict[str, Any]:
    return {"name": "Step", "ansible.builtin.command": command}


def changes(said: str) -> list[int]:
    """How much each step has changed."""
    return [len(re.findall("^changed:", step, re.MULTILINE)) for step in said.split("TASK [Step]")[1:]]


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
def test_the_seed_follows_what_cloud_init_is_to_read(tmp_path: Path) -> None:
    domain, seed = tmp_path / "vm", tmp_path / "vm/seed/cidata.img"
    first: dict[str, Any] = {"user_data": {"password": "sæcret"}}
    second: dict[str, Any] = {"user_data": {"hostname": "næme"}, "network_config": {"version": 2}}
    steps = [
        include(first, check=True),
        shell(f"test ! -e {domain}"),
        include(first),
        shell(f"grep -q sæcret {seed}"),
        include(first, check=True),
        include(first),
        include(second, check=True),
        shell(f"grep -q sæcret {seed}"),
        include(second),
        shell(f"touch -d tomorrow {domain}/cidata"),  # as if a run had been killed before it made the seed
        include(second, check=True),
        include(second),
        shell(f"touch {domain}/cidata"),
        include(second),
    ]
    done = run_role(tmp_path, steps)
    assert done.returncode == 0, done.stdout
    # Directories, the host key, files, and the seed; the seed cannot be predicted before there are files.
    assert changes(done.stdout) == [3 + 1 + 3, 1, 3 + 1 + 3 + 1, 1, 0, 0, 2 + 1, 1, 2 + 1, 1, 1, 1, 1, 1]
    assert "sæcret" not in done.stdout.replace("grep -q sæcret", "")
    private = domain / "ssh/ssh_host_ed25519_key"
    public = subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True).stdout
    assert public.split() == host_key(tmp_path, ".pub").split()
    assert [mode(private), mode(private.parent)] == ["0600", "0700"]
    assert [mode(path) for path in (seed, seed.parent, domain / "cidata", domain)] == ["0600", "0755", "0700", "0755"]
    assert {mode(path) for path in (domain / "cidata").iterdir()} == {"0600"}
    assert [path.name for path in seed.parent.iterdir()] == ["cidata.img"]
    label = subprocess.run(["blkid", "--probe", "--output", "export", seed], capture_output=True, text=True, check=True)
    assert {"LABEL=CIDATA", "TYPE=vfat"} <= set(label.stdout.splitlines())
    assert "næme".encode() in seed.read_bytes()
    assert "sæcret".encode() not in seed.read_bytes()


def read(directory: Path, name: str) -> Any:
    text = (directory / "vm/cidata" / name).read_text()
    return json.loads(text.removeprefix("#cloud-config\n")) if text else None


def host_key(directory: Path, suffix: str = "") -> str:
    return (directory / f"vm/ssh/ssh_host_ed25519_key{suffix}").read_text()


def test_by_default_the_keys_let_in_root_and_the_store_is_mounted(tmp_path: Path) -> None:
    run_role(tmp_path, [include({})])
    assert (tmp_path / "vm/cidata/user-data").read_text().startswith("#cloud-config\n")
    assert read(tmp_path, "user-data") == {
        "ssh_keys": {"ed25519_private": host_key(tmp_path), "ed25519_public": host_key(tmp_path, ".pub")},
        "ssh_authorized_keys": [KEY],
        "disable_root": False,
        "mounts": [["nix-store-share", "/nix/store", "virtiofs", "ro,nofail", "0", "0"]],
    }
    assert read(tmp_path, "meta-data") == {"instance-id": "my web", "local-hostname": "my web"}
    assert read(tmp_path, "network-config") is None


def test_the_inventory_replaces_the_defaults(tmp_path: Path) -> None:
    own = {
        "user_data": {"disable_root": True, "packages": ["git"], "ssh_keys": {"ed25519_public": f"{KEY}\n"}},
        "meta_data": {"instance-id": "2"},
        "network_config": {"version": 2},
    }
    done = run_role(tmp_path, [include(own), report(own)], vm_ssh_keys=[], vm_shares=[])
    assert f"The host key is {KEY.removesuffix(' me')}." in done.stdout
    assert read(tmp_path, "user-data") == {
        "ssh_keys": {"ed25519_public": f"{KEY}\n"},
        "ssh_authorized_keys": [],
        "disable_root": True,
        "mounts": [],
        "packages": ["git"],
    }
    assert read(tmp_path, "meta-data") == {"instance-id": "2", "local-hostname": "my web"}
    assert read(tmp_path, "network-config") == {"version": 2}


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "keys": ({"vm_ssh_keys": []}, "my web: no user could log in to the guest. Set vm_ssh_keys"),
    "uri": ({"vm_uri": "qemu:///session"}, "my web: vm_cloud_init requires vm_uri: qemu:///system"),
    "name": ({"vm_cloud_init": {"user-data": {}}}, "vm_cloud_init.user-data. Supported parameters include"),
    "type": ({"vm_cloud_init": {"user_data": "#!/bin/sh"}}, "vm_cloud_init"),
}


def test_what_cannot_work_is_refused_first(tmp_path: Path) -> None:
    common = {"vm_name": "my web", "vm_ssh_keys": [KEY], "vm_cloud_init": {}}
    hosts = {case: common | variables for case, (variables, _refusal) in REFUSALS.items()}
    ends = run_tasks(
        tmp_path, [{"name": "Run", "ansible.builtin.include_role": {"name": "keystone.virtiofs.vm"}}], hosts
    )
    for case, (_variables, refusal) in REFUSALS.items():
        assert refusal in ends[case].message
        assert ends[case].tasks <= 7, "only checks come before"
