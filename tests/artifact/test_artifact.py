# SPDX-License-Identifier: GPL-3.0-or-later
"""The built collection works where nothing else of the checkout is: its documentation, modules and roles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
COLLECTION = "keystone.virtiofs"
PLAYBOOKS = sorted(path.stem for path in CHECKOUT.glob("playbooks/*.yml") if not path.is_symlink())
RUNNABLE = [playbook for playbook in PLAYBOOKS if playbook != "inventory"]  # which the others import
HERE = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
# With libvirt's test driver as the host's libvirt.
INVENTORY = {
    "virtiofs_hosts": {"hosts": {"hyper": HERE}},
    "virtiofs_guests": {"hosts": {"web": {**HERE, "virtiofs_host": "hyper", "vm_uri": "test:///default"}}},
}
MISTAKES = {
    "virtiofs_host": {"hosts": {"hyper": HERE}},
    "virtiofs_guests": {"hosts": {"web": {"virtiofs_host": "hiper"}}},
}
# What a user of the artifact needs, and nothing else.
SHIPPED = {
    *(
        "CHANGELOG.rst",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "FILES.json",
        "LICENSE",
        "MANIFEST.json",
        "README.md",
        "SECURITY.md",
    ),
    *("changelogs", "docs", "flake.lock", "flake.nix", "meta", "nix", "playbooks", "plugins", "roles"),
}
NEEDED = {"LICENSE", "MANIFEST.json", "README.md", "meta", "playbooks", "plugins", "roles"}


class Installation:
    """The artifact, installed into an empty path, used from an empty folder without any configuration."""

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch
        self.collections = scratch / "collections"
        self.root = self.collections / "ansible_collections/keystone/virtiofs"
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        self.environment = {
            **foreign,
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_HOME": str(scratch / "home"),
            "HOME": str(scratch / "home"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def run(self, *command: str, status: int = 0) -> str:
        """The command's output; another status than the expected one shows it."""
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == status, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
        return result.stdout

    def play(self, playbook: str, inventory: dict[str, Any], status: int, *arguments: str) -> str:
        """Run a playbook by its name."""
        file = self.folder / f"{playbook}.yml"
        file.write_text(yaml.safe_dump(inventory))
        command = ("ansible-playbook", "--inventory", str(file), f"{COLLECTION}.{playbook}", *arguments)
        return self.run(*command, status=status)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("artifact"))
    installation.run("ansible-galaxy", "collection", "build", str(CHECKOUT))
    (artifact,) = installation.folder.glob("keystone-virtiofs-*.tar.gz")
    install = ("ansible-galaxy", "collection", "install", "--offline", "--no-deps")
    installation.run(*install, "--collections-path", str(installation.collections), str(artifact))
    return installation


def test_it_ships_what_users_need_and_nothing_else(installed: Installation) -> None:
    shipped = {path.name for path in installed.root.iterdir()}
    assert shipped >= NEEDED
    assert shipped <= SHIPPED


def test_it_ships_tracked_files_only(installed: Installation) -> None:
    files = (path for path in installed.root.rglob("*") if path.is_file())
    shipped = {path.relative_to(installed.root).as_posix() for path in files}
    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert shipped - {"FILES.json", "MANIFEST.json"} <= set(tracked.stdout.splitlines())


def test_it_documents_every_module(installed: Installation) -> None:
    modules = {f"{COLLECTION}.{path.stem}" for path in CHECKOUT.glob("plugins/modules/*.py")}
    assert json.loads(installed.run("ansible-doc", "--json", "--list", COLLECTION)).keys() == modules


def test_the_role_host_brings_the_nix_module(installed: Installation) -> None:
    for name in ("host-virtiofs.nix", "keystone-store-view"):
        deployed = installed.root / "roles/host/files" / name
        assert deployed.read_text() == (CHECKOUT / "nix/modules" / name).read_text()


def test_a_module_runs(installed: Installation) -> None:
    python = f"ansible_python_interpreter={sys.executable}"
    output = installed.run("ansible", "localhost", "-m", f"{COLLECTION}.host_info", "-e", python)
    assert "localhost | SUCCESS" in output
    assert '"versions"' in output


def test_every_playbook_is_found_by_its_name(installed: Installation) -> None:
    names = [f"{COLLECTION}.{playbook}" for playbook in PLAYBOOKS]
    output = installed.run("ansible-playbook", "--syntax-check", "--inventory", "localhost,", *names)
    found = [line.partition("playbook: ")[2] for line in output.splitlines() if line]
    assert found == [str(installed.root / f"playbooks/{playbook}.yml") for playbook in PLAYBOOKS]


def test_every_playbook_has_a_name(installed: Installation) -> None:
    assert sorted(path.stem for path in installed.root.glob("playbooks/*.yml")) == PLAYBOOKS
    assert [name for name in PLAYBOOKS if not name.isidentifier()] == []


def in_parallel(function: Any, arguments: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, arguments))


def test_every_playbook_checks_the_inventory_first(installed: Installation) -> None:
    outputs = in_parallel(lambda playbook: installed.play(playbook, MISTAKES, 2, "--check"), RUNNABLE)
    for playbook, output in zip(RUNNABLE, outputs, strict=True):
        tasks = [line for line in output.splitlines() if line.startswith("TASK")]
        assert "Require an inventory without mistakes" in tasks[-1], playbook
        assert "group virtiofs_hosts is missing or empty" in output or "which is not in virtiofs_hosts" in output, (
            playbook
        )


@pytest.mark.parametrize("named", [True, False])
def test_without_other_hosts_the_inventory_is_this_machine(named: bool, installed: Installation) -> None:
    play = {
        "hosts": "virtiofs_guests",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} on {{ virtiofs_host }}"}}],
    }
    check = {
        "ansible.builtin.import_playbook": f"{COLLECTION}.inventory",
        "vars": {"_virtiofs_works_on": ["virtiofs_hosts", "virtiofs_guests"]},
    }
    playbook = installed.folder / "default.yml"
    playbook.write_text(yaml.safe_dump([check, play]))
    inventory = ("--inventory", "localhost,") if named else ()
    assert "test-vm on localhost" in installed.run("ansible-playbook", *inventory, str(playbook))


# What a host must have is in the molecule scenarios default, deploy and fleet, which run the artifact as well.
WITHOUT_A_VM = {
    "deploy": (2, "web: no system to deploy is named. Set nixos_flake (FLAKE#CONFIGURATION)"),
    "destroy": (0, "failed=0"),
    "installer_iso": (2, "There is no public key for the installer"),
    "post_install": (2, "web: hyper has no VM web. Create the VM with keystone.virtiofs.virtiofs_vm"),
    "reset_secure_boot": (2, "web: hyper has no VM web with vm_secure_boot: setup"),
    "rollback": (2, "web: there is no previous system to roll back to"),
    "status": (0, "1 guest (1 absent), "),
    "verify": (0, "failed=0"),
}


def test_a_playbook_runs_or_reports_what_is_missing(installed: Installation) -> None:
    names = list(WITHOUT_A_VM)
    outputs = in_parallel(lambda name: installed.play(name, INVENTORY, WITHOUT_A_VM[name][0], "--check"), names)
    for name, output in zip(names, outputs, strict=True):
        assert WITHOUT_A_VM[name][1] in output, output


def test_one_guest_of_a_host_asks_for_all(installed: Installation) -> None:
    """The domain test is the one that libvirt's test driver has."""
    web = INVENTORY["virtiofs_guests"]["hosts"]["web"]
    guests = {"web": web, "database": {**web, "vm_name": "test"}, "other": {**web, "vm_uri": "test:///other"}}
    report = installed.folder / "status.json"
    inventory = {**INVENTORY, "virtiofs_guests": {"hosts": guests}}
    output = installed.play("status", inventory, 0, "--extra-vars", f"status_files={report}")
    for task in ("Gather information about the host's virtiofs support", "Gather information about the VMs"):
        start = output.index(f"TASK [{task}]")
        asking = re.findall(r"\[(\w+) -> hyper\]", output[start : output.index("TASK", start + 1)])
        assert sorted(asking) == ["database", "other"], output
    states = {guest["guest"]: guest["state"] for guest in json.loads(report.read_text())["guests"]}
    assert states == {"web": "absent", "database": "running", "other": "unknown"}


def test_what_the_role_host_has_gathered_is_not_gathered_again(installed: Installation) -> None:
    web = {name: value for name, value in INVENTORY["virtiofs_guests"]["hosts"]["web"].items() if name != "vm_uri"}
    hyper = {**HERE, "host_info": {"findings": []}}
    inventory = {"virtiofs_hosts": {"hosts": {"hyper": hyper}}, "virtiofs_guests": {"hosts": {"web": web}}}
    output = installed.play("status", inventory, 0)
    assert "TASK [Gather information about the VMs]" in output
    assert (
        "-> hyper"
        not in output.partition("TASK [Gather information about the host's virtiofs support]")[2].partition("TASK")[0]
    )


def test_a_check_does_not_skip_a_guest_whose_libvirt_is_silent(installed: Installation) -> None:
    """A guest that check mode skips is one that libvirt does not have."""
    web = {**INVENTORY["virtiofs_guests"]["hosts"]["web"], "vm_uri": "test:///other"}
    output = installed.play("verify", {**INVENTORY, "virtiofs_guests": {"hosts": {"web": web}}}, 2, "--check")
    assert "libvirtd_active" in output


def test_guests_of_one_host_do_not_disturb_each_others_verification(installed: Installation) -> None:
    """Each adds a path to the host's store, which must not count as a change by the other guest."""
    store = installed.folder / "store"
    store.mkdir()
    verify = {"name": f"{COLLECTION}.verify"}
    play = {
        "hosts": "virtiofs_guests",
        "gather_facts": False,
        "vars": {"verify_source": str(store), "verify_mount_point": str(store), "verify_host": "hyper"},
        "tasks": [
            {
                "ansible.builtin.include_role": {**verify, "tasks_from": "host"},
                "vars": {"_verify_asked": "{{ [_verify_store_before] }}"},
            },
            {"ansible.builtin.include_role": {**verify, "tasks_from": "after_writes"}},
            {"ansible.builtin.debug": {"msg": "{{ _verify_observations | map(attribute='stdout') }}"}},
        ],
    }
    web = INVENTORY["virtiofs_guests"]["hosts"]["web"]
    inventory = installed.folder / "two.yml"
    inventory.write_text(yaml.safe_dump({**INVENTORY, "virtiofs_guests": {"hosts": {"web": web, "database": web}}}))
    playbook = installed.folder / "two-play.yml"
    playbook.write_text(yaml.safe_dump([play]))
    output = installed.run("ansible-playbook", "--forks", "1", "--inventory", str(inventory), str(playbook))
    assert output.count("unchanged byte for byte") == 2, output
    assert output.count("readable: ") == 2, output


@pytest.mark.parametrize(
    ("playbook", "tag", "part"),
    [
        ("virtiofs_vm", "host", "Prepare the host for virtiofs"),
        ("virtiofs_vm", "vm", "Define and start the VM"),
        ("virtiofs_vm", "verify", "Run the checks"),
        ("deploy", "deploy", "Deploy the system to the guest"),
    ],
)
def test_a_tag_chooses_a_part_of_a_playbook(playbook: str, tag: str, part: str, installed: Installation) -> None:
    output = installed.play(playbook, INVENTORY, 0, "--list-tasks", "--tags", tag)
    listed = {line.partition("TAGS:")[0].strip() for line in output.splitlines()}
    assert "Require an inventory without mistakes" in listed
    assert listed & {"Prepare the host for virtiofs", "Define and start the VM", "Run the checks", part} == {part}


def test_another_machine_needs_a_flake_of_its_own(installed: Installation) -> None:
    inventory = {"virtiofs_hosts": {"hosts": {"hyper": {"ansible_host": "203.0.113.1"}}}}
    output = installed.play("installer_iso", inventory, 2, "--check")
    assert "hyper: set installer_iso_flake to a flake that this host can read" in output


@pytest.mark.parametrize("result_format", ["json", "yaml"])
def test_results_are_shown_line_by_line(
    result_format: str, installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest does not exist: its host's checks fail, and no command reaches it."""
    monkeypatch.setitem(installed.environment, "ANSIBLE_CALLBACK_RESULT_FORMAT", result_format)
    guest = {**INVENTORY["virtiofs_guests"]["hosts"]["web"], "ansible_connection": "ssh", "ansible_port": 1}
    guest["ansible_host"] = "127.0.0.1"
    inventory = {**INVENTORY, "virtiofs_guests": {"hosts": {"web": guest}}}
    output = installed.play("verify", inventory, 2)
    start = output.index("TASK [Show the results and how to connect]")
    shown = [line.strip(' ",') for line in output[start : output.index("TASK", start + 1)].splitlines()]
    assert any(line.startswith("FAIL ") for line in shown)
    assert any("33 checks passed" in line for line in shown)
    assert "Connect to web:" in shown
    assert all("\\n" not in line and len(line) <= 80 for line in shown)


# The first process is a shell, as in many a container: Ansible then guesses which init the machine has.
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh"]


@pytest.mark.parametrize("prefix", [[], CONTAINER], ids=["here", "container"])
def test_a_role_runs(prefix: list[str], installed: Installation) -> None:
    if prefix and os.geteuid() != 0:
        pytest.skip("only root makes PID namespaces")
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [{"ansible.builtin.include_role": {"name": f"{COLLECTION}.host"}}],
    }
    playbook = installed.folder / "play.yml"
    playbook.write_text(yaml.safe_dump([play]))
    assert "failed=0" in installed.run(*prefix, "ansible-playbook", "--check", str(playbook))
