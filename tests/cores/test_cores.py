# SPDX-License-Identifier: GPL-3.0-or-later
"""The built collection works with every supported ansible-core, each in a virtual environment under .cache/cores.

The modules run in the distribution's Python, against libvirt's test driver; no guest exists.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
COLLECTION = "keystone.virtiofs"
PLAYBOOKS = sorted(path.stem for path in CHECKOUT.glob("playbooks/*.yml") if not path.is_symlink())
# The series and the Pythons that each runs on, as ansible-core's own table of support has them.
CORES = {
    "2.16": ("3.10", "3.12"),
    "2.17": ("3.10", "3.12"),
    "2.18": ("3.11", "3.13"),
    "2.19": ("3.11", "3.13"),
    "2.20": ("3.12", "3.14"),
    "2.21": ("3.12", "3.14"),
}
OLDEST, *BETWEEN, NEWEST = CORES
USED = [OLDEST, *([] if os.environ.get("KEYSTONE_CORES") == "ends" else BETWEEN), NEWEST]
# junitparser: for the reports of the role verify.
REQUIREMENTS = "junitparser>=3"
HERE = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3"}
NO_GUEST = {**HERE, "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
INVENTORY = {
    "virtiofs_hosts": {"hosts": {"hyper": HERE}},
    "virtiofs_guests": {"hosts": {"web": {**NO_GUEST, "virtiofs_host": "hyper", "vm_uri": "test:///default"}}},
}


class Core(NamedTuple):
    """An ansible-core in an environment of its own, and the collection as users install it."""

    series: str
    programs: Path
    collections: Path
    folder: Path

    def run(self, *command: str, status: int = 0) -> str:
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        own = {
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(self.folder),
            "ANSIBLE_CALLBACKS_ENABLED": f"{COLLECTION}.progress",
            "KEYSTONE_PROGRESS_INTERVAL": "0.1",
        }
        program, *arguments = command
        result = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder,
            env={**foreign, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        output = result.stdout + result.stderr
        assert result.returncode == status, f"{' '.join(command)}\n{output}"
        if self.series == NEWEST:
            assert "DEPRECAT" not in output, output
        assert "does not support Ansible version" not in output
        return output

    def play(self, playbook: str, inventory: dict[str, Any], *arguments: str, status: int = 0) -> str:
        file = self.folder / "inventory.yml"
        file.write_text(yaml.safe_dump(inventory))
        return self.run("ansible-playbook", "--inventory", str(file), playbook, *arguments, status=status)


def find_python(oldest: str, newest: str) -> str | None:
    """The oldest suitable Python of this machine; pyenv's commands exist for Pythons that they do not run."""
    first, last = (int(version.partition(".")[2]) for version in (oldest, newest))
    for minor in range(first, last + 1):
        found = [
            shutil.which(f"python3.{minor}"),
            *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")),
        ]
        for candidate in filter(None, found):
            if subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0:
                return candidate
    return None


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact, installed into an empty path."""
    scratch = tmp_path_factory.mktemp("collections")
    build = ["ansible-galaxy", "collection", "build", "--output-path", str(scratch), str(CHECKOUT)]
    subprocess.run(build, cwd=scratch, check=True, capture_output=True)
    (artifact,) = scratch.glob("*.tar.gz")
    install = ["ansible-galaxy", "collection", "install", "--offline", "--no-deps", "--collections-path", str(scratch)]
    # Where Ansible does not read the configuration of the checkout, in which the collection is installed already.
    subprocess.run([*install, str(artifact)], cwd=scratch, check=True, capture_output=True)
    return scratch


@pytest.fixture(scope="session", params=USED)
def core(request: pytest.FixtureRequest, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Core:
    series = str(request.param)
    python = find_python(*CORES[series])
    if not python:
        pytest.skip(f"ansible-core {series} needs Python {CORES[series][0]} to {CORES[series][1]}")
    requirements = [f"ansible-core~={series}.0", REQUIREMENTS]
    content = hashlib.sha256(" ".join([python, *requirements]).encode()).hexdigest()[:12]
    environment = CHECKOUT / f".cache/cores/{series}-{content}"
    if not (environment / "complete").exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([python, "-m", "venv", environment], check=True)
        pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        (environment / "complete").touch()
    return Core(series, environment / "bin", collections, tmp_path_factory.mktemp(f"core{series}"))


def test_every_playbook_and_role_is_read(core: Core) -> None:
    core.run(
        "ansible-playbook", "--syntax-check", "--inventory", "localhost,", *(f"{COLLECTION}.{p}" for p in PLAYBOOKS)
    )
    listed = core.run("ansible-doc", "--type", "role", "--list", COLLECTION)
    assert [path.name for path in CHECKOUT.glob("roles/*") if f"{COLLECTION}.{path.name}" not in listed] == []


def test_mistakes_in_the_inventory_are_reported(core: Core) -> None:
    guest = {"virtiofs_host": "{{ nothing }}"}
    inventory = {**INVENTORY, "virtiofs_guests": {"hosts": {"web": guest, "database": {"virtiofs_host": "hypre"}}}}
    output = core.play(f"{COLLECTION}.virtiofs_vm", inventory, status=2)
    assert "guest web: virtiofs_host cannot be evaluated" in output
    assert "guest database names host hypre, which is not in virtiofs_hosts (similar: hyper)" in output


def test_a_guest_that_does_not_exist_is_verified(core: Core) -> None:
    reports = core.folder / "reports"
    arguments = ["--extra-vars", f"verify_report_directory={reports}"]
    output = core.play(f"{COLLECTION}.verify", INVENTORY, *arguments, status=2)
    assert "checks passed, " in output
    assert {path.name for path in reports.iterdir()} == {"web.json", "web.md", "web.txt", "web.xml"}


def test_a_guest_that_does_not_exist_is_removed(core: Core) -> None:
    output = core.play(f"{COLLECTION}.destroy", INVENTORY, "--check")
    assert "failed=0" in output
    assert "\nrunning: [web] " in output
    assert "\nPREDICTED CHANGES\n" in output


def test_modules_and_the_steps_of_roles_run(core: Core) -> None:
    store = core.folder / "store"
    store.mkdir()
    domain = {"name": "web", "uri": "test:///default", "state": "present"}
    relative = {"tag": "store", "source": "store"}
    tasks = [
        {"name": "Survey the host", f"{COLLECTION}.host_info": {"uri": "test:///default"}},
        {"name": "Define a domain", f"{COLLECTION}.domain": {**domain, "memory": 512}, "check_mode": True},
        {
            "name": "Fail",
            f"{COLLECTION}.domain": {**domain, "shares": [relative]},
            "ignore_errors": True,
            "register": "failed",
        },
        {
            "name": "Require a fix",
            "ansible.builtin.assert": {"that": ["failed.msg is search('source')", "failed.fix != ''"]},
        },
        {
            "name": "Define a network",
            f"{COLLECTION}.network": {"name": "net", "uri": "test:///default", "firewall": False},
        },
        {"name": "List the domains", f"{COLLECTION}.domain_info": {"uri": "test:///default"}},
        {"name": "Inspect the store", f"{COLLECTION}.store_info": {"mount_point": str(store)}, "failed_when": False},
        {
            "name": "Set what the guest's checks found",
            "ansible.builtin.set_fact": {
                "_verify_observations": [{"id": "host_store_before", "stdout": "0\nnothing contents"}]
            },
        },
        {
            "name": "Look for a new path",
            "ansible.builtin.include_role": {"name": f"{COLLECTION}.verify", "tasks_from": "after_writes"},
            "vars": {"verify_source": str(store), "verify_mount_point": str(store), "verify_host": "hyper"},
        },
        {"name": "Require the path", "ansible.builtin.assert": {"that": "'readable: ' in _verify_seen.stdout"}},
    ]
    playbook = core.folder / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "hyper", "gather_facts": False, "tasks": tasks}]))
    assert "failed=0" in core.play(str(playbook), INVENTORY)
