# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/platforms.md is the one list of distributions and package names; whatever names one agrees with it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ansible_collections.keystone.virtiofs.plugins.module_utils._packages import _PACKAGES, install_fix
from ansible_collections.keystone.virtiofs.tests.unit.roles.plays import run_tasks

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/platforms.md"
VARS = CHECKOUT / "roles/host/vars"
# What /etc/os-release calls it.
IDS = {"Debian": "debian", "Ubuntu": "ubuntu", "Fedora": "fedora", "Arch Linux": "arch", "NixOS": "nixos"}
LIKE = {"Ubuntu": "debian"}
# Lines of /etc/os-release, and the files of variables that the role host loads if they exist.
SYSTEMS = {
    "trixie": (["ID=debian", 'VERSION_ID="13"', "VERSION_CODENAME=trixie"], ["debian", "debian-13"]),
    "sid": (["ID=debian", "VERSION_CODENAME=forky"], ["debian", "debian-none"]),
    "jammy": (["ID=ubuntu\r", "ID_LIKE=debian\r", 'VERSION_ID="22.04"\r'], ["debian", "ubuntu", "ubuntu-22"]),
    "mint": (["ID=linuxmint", "ID_LIKE='ubuntu debian'", "VERSION_ID=22"], ["debian", "linuxmint", "linuxmint-22"]),
    "fedora": (["ID=fedora", "VERSION_ID=42"], ["fedora", "fedora-42"]),
    "rhel": (['ID="rhel"', 'ID_LIKE="fedora"', 'VERSION_ID="9.4"'], ["rhel", "rhel-9"]),
    "arch": (["ID=arch", "HOME_URL=https://archlinux.org/?a=b"], ["arch", "arch-none"]),
    "nothing": ([], ["unknown", "unknown-none"]),
}
# The lists of packages in roles/host/vars, by need.
LISTS = {
    "libvirt": "_host_packages_libvirt",
    "QEMU": "_host_packages_qemu",
    "virtiofsd": "_host_packages_virtiofsd",
    "UEFI firmware": "_host_packages_firmware",
    "swtpm": "_host_packages_swtpm",
    "Python bindings": "_host_packages_python",
    "file systems": "_host_packages_file_systems",
    "Nix": "_host_packages_nix",
    "init scripts": "_host_packages_init_scripts",
}
# What scripts/setup installs for a need of hosts.
ON_THE_CONTROLLER = {
    "python:libvirt": "Python bindings",
    "python:lxml": "Python bindings",
    "command:nix-instantiate": "Nix",
    "command:qemu-img": "QEMU",
}
# Distributions, whether supported or not.
NAME = re.compile(
    r"\b(AlmaLinux|Alpine|Arch(?: Linux)?|CentOS|Debian|Fedora|Gentoo|Guix|Mint|NixOS|openSUSE|RHEL|Red Hat|Rocky"
    r"|SLES|SUSE|Ubuntu|Void)\b"
)
STATUS = re.compile(r"\b(proven|unproven|tested|untested|(?:un)?supported|package maps?)\b")
TEXTS = ("CONTRIBUTING.md", "README.md", "docs", "inventory", "nix", "playbooks", "plugins", "roles", "scripts")


class Platform(NamedTuple):
    distribution: str
    version: str
    status: str


def tables() -> list[list[list[str]]]:
    """The cells of each table's rows, headings first."""
    blocks = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    rows = ([re.split(r"\s*\|\s*", row.strip("| ")) for row in block.splitlines()] for block in blocks)
    return [[row for row in table if not set(row[0]) <= {"-"}] for table in rows]


SUPPORT, PACKAGES, EXCEPTIONS = tables()
PLATFORMS = [Platform(row[0], version, row[2]) for row in SUPPORT[1:] for version in re.split(r",\s*", row[1])]
WITH_PACKAGES = [platform for platform in PLATFORMS if platform.distribution != "NixOS"]


def named(platform: Platform) -> str:
    return f"{platform.distribution} {platform.version}"


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def expected(platform: Platform, need: str) -> list[str]:
    """The packages that the page names."""
    for other_need, versions, packages in EXCEPTIONS[1:]:
        if other_need == need and named(platform) in re.split(r",\s*", versions):
            return quoted(packages)
    column = next(n for n, heading in enumerate(PACKAGES[0]) if platform.distribution in heading.split(", "))
    row = next((row for row in PACKAGES[1:] if row[0] == need), None)
    return quoted(row[column]) if row and len(row) > column else []


def layers(platform: Platform) -> list[str]:
    """The files of variables that the role loads, if they exist: each overrides the one before."""
    name = IDS[platform.distribution]
    major = platform.version.split(".")[0] if platform.version[0].isdigit() else "none"
    return [*filter(None, [LIKE.get(platform.distribution)]), name, f"{name}-{major}"]


def resolve(platform: Platform) -> dict[str, Any]:
    """The role's variables."""
    resolved: dict[str, Any] = {}
    for path in (VARS / f"{layer}.yml" for layer in layers(platform)):
        if path.is_file():
            resolved.update(yaml.safe_load(path.read_text()))
    return resolved


def test_the_page_is_read() -> None:
    assert {platform.distribution for platform in PLATFORMS} == IDS.keys()
    assert PACKAGES[0][0] == "need"
    assert {row[0] for row in PACKAGES[1:]} | {row[0] for row in EXCEPTIONS[1:]} == LISTS.keys()
    assert {name for row in EXCEPTIONS[1:] for name in re.split(r",\s*", row[1])} <= set(map(named, PLATFORMS))


class TestRole:
    def test_loads_the_files_for_what_os_release_says(self, tmp_path: Path) -> None:
        hosts = {
            name: {"_host_listed": {"stdout_lines": [*lines, "MACHINE=x86_64", "/dev/kvm kvm 660"]}, "expected": files}
            for name, (lines, files) in SYSTEMS.items()
        }
        that = ["_host_platforms == expected", "_host_os.MACHINE == 'x86_64'", "_host_found == ['/dev/kvm']"]
        tasks = [
            {"name": "Load", "ansible.builtin.include_vars": str(VARS / "main.yml")},
            {"name": "Compare", "ansible.builtin.assert": {"that": that, "fail_msg": "{{ _host_platforms }}"}},
        ]
        assert {end.message for end in run_tasks(tmp_path, tasks, hosts).values()} == {""}

    @pytest.mark.parametrize("platform", WITH_PACKAGES, ids=named)
    def test_installs_the_packages_of_the_page(self, platform: Platform) -> None:
        variables = resolve(platform)
        assert {need: variables[name] for need, name in LISTS.items()} == {
            need: expected(platform, need) for need in LISTS
        }

    @pytest.mark.parametrize("platform", WITH_PACKAGES, ids=named)
    def test_has_the_same_variables_for_every_platform(self, platform: Platform) -> None:
        assert set(resolve(platform)) == set(resolve(WITH_PACKAGES[0]))

    @pytest.mark.parametrize("platform", WITH_PACKAGES, ids=named)
    def test_names_each_package_once(self, platform: Platform) -> None:
        variables = resolve(platform)
        names = [name for variable in LISTS.values() for name in variables[variable]]
        assert len(set(names)) == len(names)

    def test_has_no_other_maps(self) -> None:
        used = {layer for platform in WITH_PACKAGES for layer in layers(platform)}
        assert {path.stem for path in VARS.glob("*.yml")} - {"main"} <= used

    def test_refuses_others_with_the_distributions_of_the_page(self) -> None:
        (refusal,) = [
            task["ansible.builtin.assert"]["fail_msg"]
            for task in yaml.safe_load((CHECKOUT / "roles/host/tasks/platform.yml").read_text())
            if "ansible.builtin.assert" in task
        ]
        assert {name[0] for name in NAME.finditer(refusal)} == IDS.keys()


@pytest.mark.parametrize("platform", PLATFORMS, ids=named)
@pytest.mark.parametrize("need", _PACKAGES)
def test_a_fix_names_the_packages_of_the_page(platform: Platform, need: str) -> None:
    os_release = {"ID": IDS[platform.distribution], "VERSION_ID": platform.version}
    os_release["ID_LIKE"] = LIKE.get(platform.distribution, "")
    (found,) = re.findall(r"(?:install|-S|Set) (.*?)(?: and rebuild)?$", install_fix(os_release, need))
    assert found == " ".join(expected(platform, need))


def test_the_fix_on_another_distribution_names_the_need() -> None:
    assert install_fix({"ID": "gentoo"}, "swtpm") == "Install swtpm with this distribution's package manager"


def test_scripts_setup_installs_the_packages_of_the_page() -> None:
    script = (CHECKOUT / "scripts/setup").read_text()
    (heading,) = re.findall(r"^# What to look for +(.*)$", script, re.MULTILINE)
    assert re.split(r" {2,}", heading) == PACKAGES[0][1:]
    rows = {row[0]: row[1:4] for row in map(str.split, script.splitlines()) if row and row[0] in ON_THE_CONTROLLER}
    assert rows.keys() == ON_THE_CONTROLLER.keys()
    for test, need in ON_THE_CONTROLLER.items():
        (row,) = [row for row in PACKAGES[1:] if row[0] == need]
        for package, cell in zip(rows[test], row[1:4], strict=True):
            assert package in quoted(cell)


def test_proven_versions_of_debian_are_those_of_the_test_suite() -> None:
    names = {"bookworm": "12", "trixie": "13"}
    runner = (CHECKOUT / "tests/run-molecule").read_text()
    other_runs = (CHECKOUT / "Makefile").read_text()
    generations = {*re.findall(r'or "(\w+)"$', runner, re.MULTILINE), *re.findall(r"\w@(\w+)", other_runs)}
    proven = {
        platform.version for platform in PLATFORMS if (platform.distribution, platform.status) == ("Debian", "proven")
    }
    assert proven == {names[generation] for generation in generations}


def claims(text: str) -> list[str]:
    """The sentences, table rows and list items that say of a distribution how well it is supported."""
    parts = re.split(r"\n\s*\n|(?<=[.;])\s|\n\||\n\s*- ", text)
    return [part for part in parts if NAME.search(part) and STATUS.search(part.lower())]


def texts() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *TEXTS], cwd=CHECKOUT, capture_output=True, check=True)
    names = (name for name in listed.stdout.decode().split("\0") if name and (CHECKOUT / name).is_file())
    return [
        name for name in names if CHECKOUT / name != PAGE and not name.startswith(("docs/images/", "docs/benchmark/"))
    ]


@pytest.mark.parametrize("name", texts())
def test_no_text_names_another_distribution(name: str) -> None:
    found = {match[0] for match in NAME.finditer((CHECKOUT / name).read_text(errors="replace"))}
    assert found <= IDS.keys()


@pytest.mark.parametrize("name", [name for name in texts() if name.endswith((".md", "argument_specs.yml"))])
def test_only_the_page_says_what_is_supported(name: str) -> None:
    assert claims((CHECKOUT / name).read_text()) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Proven on Debian 12\n and 13. Fedora is untested.", 2),
        ("| Arch Linux | package maps |", 1),
        ("The suite runs on Debian. The role is tested.", 0),
    ],
)
def test_a_claim_is_found(text: str, count: int) -> None:
    assert len(claims(text)) == count
