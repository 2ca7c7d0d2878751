# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain of nix/modules/direct-boot.nix is the one that the roles would have defined."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import Define, Observed
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.nix.support import (
    CHECKOUT,
    GUEST_MODULE,
    HERE,
    ROOT,
    EvaluationError,
    World,
    evaluate,
)
from ansible_collections.keystone.virtiofs.tests.nix.test_hardening import LIMIT, exposure, written
from ansible_collections.keystone.virtiofs.tests.unit.support import TRIXIE, domain

GUEST = "keystone.virtualization.guest.virtiofs = { enable = true; %s };"
STORE = {"tag": "nix-store-share", "source": "/nix/store"}


def library(world: World, call: str, options: str = "", module: str = "") -> Any:
    """The value of a call of the library, whose functions it may name, for the configuration nixos."""
    settings = f"{{ {GUEST % options} networking.hostName = ''web''; }}"
    system = world.system(GUEST_MODULE, ROOT, settings, f"{{ {module} }}")
    return evaluate(f"""
      with import {CHECKOUT}/nix/modules/direct-boot.nix;
      let nixos = {system} // {{ pkgs = import {HERE}/nixos/packages.nix; }};
      in {call}
    """)


def cmdline_of_the_role(boot: dict[str, str], kernel_params: str) -> str:
    """What the role nixos_guest gives its domain, from its tasks."""
    files = CHECKOUT / "roles/nixos_guest"
    tasks = {name: yaml.safe_load((files / f"tasks/{name}.yml").read_text()) for name in ("boot_files", "direct_boot")}
    (command,) = [task["ansible.builtin.command"]["argv"] for task in tasks["boot_files"] if "cmdline" in str(task)]
    block = next(task["block"] for task in tasks["direct_boot"] if "block" in task)
    (expression,) = [task["vars"]["vm_cmdline"] for task in block if "vm_cmdline" in task.get("vars", {})]
    ansible = Environment(autoescape=False)  # noqa: S701 (a command, not HTML)
    ansible.filters["from_json"] = json.loads
    values: dict[str, Any] = {
        "lookup": lambda _, name: (files / "files" / name).read_text(),
        "nixos_guest_system": boot["toplevel"],
        "_nixos_guest_registration": {"stdout": f"{boot['registration']}/registration"},
        "_nixos_guest_params": {"stdout": kernel_params},
        "nixos_guest_kernel_params": ["quiet"],
    }
    argv = [ansible.from_string(word).render(values) for word in command]
    evaluated = subprocess.run([*argv, "--store", "dummy://"], capture_output=True, text=True, check=True)
    values["_nixos_guest_cmdline"] = {"stdout": evaluated.stdout}
    return ansible.from_string(expression).render(values)


def test_the_system_is_booted_as_the_role_does(world: World) -> None:
    boot = library(
        world, "builtins.mapAttrs (_: toString) (directBoot nixos)", "", 'boot.kernelParams = [ "a=1" "b" ];'
    )
    assert boot["kernel"] == f"{boot['toplevel']}/kernel"
    assert boot["initrd"] == f"{boot['toplevel']}/initrd"
    assert f"{boot['cmdline']} quiet" == cmdline_of_the_role(boot, "a=1 b")


@pytest.mark.parametrize(
    ("arguments", "options", "task"),
    [
        ("", "", {"virt_type": "kvm", "shares": [STORE]}),
        ('virtType = "qemu";', "", {"virt_type": "qemu", "shares": [STORE]}),
        (
            'memory = 4096; vcpus = 4; network = "lan"; name = "db";',
            'shareName = "s";',
            {
                "name": "db",
                "virt_type": "kvm",
                "memory": 4096,
                "vcpus": 4,
                "network": "lan",
                "shares": [{**STORE, "tag": "s"}],
            },
        ),
        (
            "",
            'storeRegistration = "overlay-store";',
            {
                "virt_type": "kvm",
                "shares": [STORE, {"tag": "nix-database-share", "source": "/var/lib/keystone-virtiofs/database"}],
            },
        ),
        ("", 'storeRegistration = "live";', {"virt_type": "kvm", "shares": [STORE], "vsock": True}),
    ],
    ids=["defaults", "emulated", "other values", "overlay store", "live store"],
)
def test_the_roles_would_not_change_the_domain(
    world: World, arguments: str, options: str, task: dict[str, Any]
) -> None:
    text = library(world, f"directBootDomain {{ inherit nixos; {arguments} }}", options)
    boot = library(world, "builtins.mapAttrs (_: toString) (directBoot nixos)", options)
    given = {**task, "interfaces": [{"type": "network", "source": task.get("network", "keystone-net")}]}
    given.pop("network", None)
    name = given.pop("name", "web")
    for option in ("kernel", "initrd", "cmdline"):
        given[option] = boot[option]
    wanted = domain(name, **given)
    host = replace(TRIXIE, virt_type=task["virt_type"])
    plan = plan_domain(wanted, Observed(name, persistent=DomainXml(text), run_state="stopped"), host)
    changed = [action.document.text() for action in plan.actions if isinstance(action, Define)]
    assert plan.before == plan.after, (plan.before, plan.after, changed)


def test_a_text_is_escaped(world: World) -> None:
    text = library(world, "directBootDomain { inherit nixos; }", "", 'boot.kernelParams = [ "a=<\\"&>" ];')
    assert DomainXml(text).text().count("a=&lt;") == 1


def test_a_configuration_without_the_guest_module_is_refused(world: World) -> None:
    without = "nixos // { config = nixos.config // { keystone.virtualization.guest.virtiofs.enable = false; }; }"
    with pytest.raises(EvaluationError, match=r"web: set keystone\.virtualization\.guest\.virtiofs\.enable"):
        library(world, f'directBootDomain {{ name = "web"; nixos = {without}; }}')


def test_a_guest_with_a_store_image_is_refused(world: World) -> None:
    with pytest.raises(EvaluationError, match="web: a guest with storeImage needs a disk"):
        library(world, "directBootDomain { inherit nixos; }", "storeImage = true;")


# Guests in the host's own configuration.


def a_guest(world: World, options: str = "") -> str:
    """Options of a host that has a guest with these options."""
    system = world.system(GUEST_MODULE, ROOT, f"{{ {GUEST % options} }}")
    guest = f"{system} // {{ pkgs = import {HERE}/nixos/packages.nix; }}"
    return f"guests.web = {{ nixos = {guest}; memory = 512; virtType = ''qemu''; }};"


def host_with_a_guest(world: World, attribute: str) -> Any:
    """An attribute of the service of a guest on a host."""
    return world.host(f"systemd.services.keystone-guest-web.{attribute}", a_guest(world))


VIRSH = """#!/bin/sh
shift 3
echo "$@" >>{folder}/asked
case $1 in
    dumpxml) cat {folder}/live 2>/dev/null ;;
    domstate) cat {folder}/state ;;
esac
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], list[str]]:
    """Runs a script of the service; returns what was asked of virsh."""

    def run(script: str) -> list[str]:
        (tmp_path / "virsh").write_text(VIRSH.format(folder=tmp_path))
        (tmp_path / "virsh").chmod(0o755)
        (tmp_path / "asked").write_text("")
        script = script.replace("/nix/var/nix/gcroots/keystone-virtiofs/domains", str(tmp_path / "roots"))
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run(["bash", "-e", "-c", script], env=path, check=True)
        return [line.split()[0] for line in (tmp_path / "asked").read_text().splitlines()]

    return run


def test_a_guest_of_the_host_is_defined_and_started(
    world: World, run: Callable[[str], list[str]], tmp_path: Path
) -> None:
    # The stand-in for a file is its text.
    script = re.sub("<domain.*</domain>", "web.xml", host_with_a_guest(world, "script"), flags=re.DOTALL)
    (tmp_path / "state").write_text("shut off\n")
    assert run(script) == ["dumpxml", "define", "domstate", "start"]
    (tmp_path / "state").write_text("running\n")
    assert run(script) == ["dumpxml", "define", "domstate"]


def test_what_a_running_guest_uses_is_not_collected(
    world: World, run: Callable[[str], list[str]], tmp_path: Path
) -> None:
    roots = tmp_path / "roots/web/guest"
    stop = host_with_a_guest(world, "preStop")
    for system in ("first", "second"):
        path = f"/nix/store/{'0' * 32}-{system}"
        (tmp_path / "live").write_text(f"<cmdline>init={path}/init regInfo={path}-closure/registration</cmdline>")
        assert run(stop) == ["dumpxml"]
        assert {str(root.readlink()) for root in roots.iterdir()} == {path, f"{path}-closure"}
    (tmp_path / "live").unlink()
    run(stop)
    assert list(roots.iterdir()) == []


def test_the_guests_domain_is_that_of_the_library(world: World) -> None:
    script = host_with_a_guest(world, "script")
    text = script[script.index("<domain") : script.index("</domain>")] + "</domain>"
    document = DomainXml(text)
    assert 'memory unit="MiB">512<' in document.text()
    assert 'domain type="qemu"' in document.text()


def test_the_service_of_a_guest_is_hardened(world: World, tmp_path: Path) -> None:
    settings = host_with_a_guest(world, "serviceConfig")
    assert exposure(written(tmp_path, "keystone-guest-web", settings)) < LIMIT


def test_a_name_that_a_shell_would_misread_is_refused(world: World) -> None:
    with pytest.raises(EvaluationError, match="letters, digits, dashes and underscores"):
        world.host("system.build.toplevel", 'guests."a b;c" = { nixos = { }; };')


def test_a_host_has_no_guests_unasked(world: World) -> None:
    assert not [name for name in world.host("systemd.services") if name.startswith("keystone-guest")]


LIVE = 'storeRegistration = "live";'


def test_a_guest_of_the_host_may_have_a_live_store(world: World) -> None:
    options = f"liveStore = true; {a_guest(world, LIVE)}"
    assert world.host("systemd.services.keystone-guest-web.wants", options) == ["keystone-store-proxy@web.socket"]
    links = [rule for rule in world.host("systemd.tmpfiles.rules", options) if "guests/live/web/proxy" in rule]
    assert [link.split()[0] for link in links] == ["L+"]


def test_a_guest_of_the_host_with_a_live_store_requires_the_proxy(world: World) -> None:
    with pytest.raises(
        EvaluationError, match=r"guests\.web: .* Set keystone\.virtualization\.host\.virtiofs\.liveStore"
    ):
        world.host("system.build.toplevel", a_guest(world, LIVE))


def test_a_guest_of_the_host_has_no_live_store_unasked(world: World) -> None:
    options = f"liveStore = true; {a_guest(world)}"
    assert world.host("systemd.services.keystone-guest-web.wants", options) == []
    assert not [rule for rule in world.host("systemd.tmpfiles.rules", options) if "guests/live/web" in rule]
