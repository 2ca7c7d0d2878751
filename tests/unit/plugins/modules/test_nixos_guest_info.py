# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found of a machine and its domain, with libvirt's test driver and a stand-in for ssh."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply import task
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.controller import Controller
from ansible_collections.keystone.virtiofs.plugins.modules import domain, nixos_guest_info

Run = Callable[..., dict[str, Any]]

NEW = f"/nix/store/{'1' * 32}-new"
OLD = f"/nix/store/{'0' * 32}-old"
KEY = "ssh-ed25519 AAAA"
WEB = {"name": "web", "toplevel": NEW}


@pytest.fixture(autouse=True)
def _no_guest_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nixos_guest_info, "AGENT_TIMEOUT", 0.0)
    monkeypatch.setattr(Controller, "ask_host_key", lambda _controller, _name: None)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ssh was run with, after a run. ssh answers as a NixOS with the old system, without a profile."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
for argument; do
    case $argument in UserKnownHostsFile=*) known=$(cat "${{argument#*=}}") ;; esac
done
echo "$known; $*" >{tmp_path}/asked
printf '%s\\n' "$(cat {tmp_path}/uuid)" 'nixos ' '' {OLD} {OLD} '' ''
""")
    program.chmod(0o755)
    (tmp_path / "uuid").touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "asked"


@pytest.fixture
def vm(run: Run) -> Callable[..., dict[str, Any]]:
    """Defines the VM web with more options."""
    return lambda **options: run(domain, name="web", memory=128, vcpus=1, **options)


def test_a_machine_that_is_not_a_vm(run: Run, asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "LIBVIRT_IMPORT_ERROR", "such a machine needs no libvirt")
    found = run(nixos_guest_info, **WEB, address="192.0.2.1", host_key=KEY, known_hosts="/dev/null")
    assert (found["action"], found["reason"], found["direct_boot"]) == ("switch", f"the guest runs {OLD}", False)
    assert (found["vm"], found["address"], found["port"], found["host_key"]) == (None, "192.0.2.1", 22, KEY)
    assert found["machine"]["current_system"] == OLD
    assert found["machine"]["profile"] is None
    assert asked.read_text().startswith(f"web {KEY}; ")
    assert " -p 22 -l root -- 192.0.2.1 " in asked.read_text()


def test_a_domain_needs_libvirt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "LIBVIRT_IMPORT_ERROR", "no module named libvirt")
    assert "libvirt-python" in run(nixos_guest_info, **WEB, domain="web")["msg"]


def test_a_running_domain(run: Run, vm: Run, asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Controller, "ask_host_key", lambda _controller, name: KEY if name == "web" else None)
    # Its address is that of the test driver's own lease.
    address = vm(state="running", interfaces=[{}], wait_for="address")["domain"]["ssh"]["host"]
    found = run(nixos_guest_info, **WEB, domain="web")
    assert found["action"] == "switch"
    assert (found["vm"]["state"], found["vm"]["direct_system"]) == ("running", None)
    assert (found["address"], found["port"], found["host_key"]) == (address, 22, KEY)
    assert asked.read_text().startswith(f"web {KEY}; ")
    assert f" -p 22 -l root -- {address} " in asked.read_text()


def test_the_machine_that_answers_must_be_the_domain(run: Run, vm: Run, asked: Path, tmp_path: Path) -> None:
    """As when a guest's agent names address and host key of its host: that machine is another one."""
    own = vm(state="running")["domain"]["uuid"]
    (tmp_path / "uuid").write_text("11111111-2222-3333-4444-555555555555")
    refused = run(nixos_guest_info, **WEB, domain="web", address="192.0.2.1", wipe=["web"])
    assert refused["failed"]
    assert "is not the domain" in refused["problem"]
    (tmp_path / "uuid").write_text(own.upper())
    assert run(nixos_guest_info, **WEB, domain="web", address="192.0.2.1")["action"] == "switch"


def test_options_go_before_what_the_domain_says(
    run: Run, vm: Run, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Controller, "ask_host_key", lambda *_: pytest.fail("the agent was asked although the key is given")
    )
    vm(state="running")
    found = run(nixos_guest_info, **WEB, domain="web", address="192.0.2.1", port=2222, host_key="ssh-rsa B")
    assert (found["address"], found["port"], found["host_key"]) == ("192.0.2.1", 2222, "ssh-rsa B")


def test_without_an_agent_the_known_hosts_decide(run: Run, vm: Run, asked: Path, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("those that are known")
    vm(state="running")
    assert run(nixos_guest_info, **WEB, domain="web", known_hosts=str(tmp_path / "known"))["host_key"] is None
    assert asked.read_text().startswith("those that are known; ")


def test_a_domain_that_boots_directly(run: Run, vm: Run, asked: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    vm(state="stopped", kernel=str(tmp_path / "kernel"), cmdline=f"quiet init={OLD}/init regInfo=/nix/store/r")
    found = run(nixos_guest_info, **WEB, domain="web")
    assert (found["action"], found["reason"], found["direct_boot"]) == ("boot", "the domain is stopped", True)
    assert (found["vm"]["state"], found["vm"]["direct_system"]) == ("stopped", OLD)
    assert not asked.exists(), "a domain that does not run is not inspected"


def test_a_refusal_returns_what_was_found(run: Run, vm: Run, asked: Path) -> None:
    vm(state="stopped")
    found = run(nixos_guest_info, **WEB, domain="web", method="switch")
    assert found["failed"]
    assert found["problem"] == "web: the domain is stopped"
    assert "set method (role variable nixos_guest_method)" in found["fix"]
    assert found["vm"]["state"] == "stopped"
    assert not found["machine"]["reachable"]


def test_a_domain_that_does_not_exist(run: Run, asked: Path) -> None:
    refused = run(nixos_guest_info, **WEB, domain="web")
    assert (refused["problem"], refused["vm"]["state"]) == ("web: the domain is absent", "absent")
    elsewhere = run(nixos_guest_info, **WEB, domain="web", address="192.0.2.1")
    assert (elsewhere["action"], elsewhere["vm"]) == ("switch", None)


def test_libvirts_refusal_is_passed_on(run: Run) -> None:
    failed = run(nixos_guest_info, **WEB, domain="web", uri="test:///no/such/file.xml")
    assert failed["problem"].startswith("cannot connect to test:///no/such/file.xml: ")
    assert failed["libvirt_message"]
    assert "vm" not in failed
