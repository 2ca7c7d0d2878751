# SPDX-License-Identifier: GPL-3.0-or-later
"""A release can be made at any time: version, changelog, and what an execution environment installs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
VERSION = str(yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, in the path that the tools for collections expect."""
    collection = tmp_path_factory.mktemp("release") / "ansible_collections/keystone/virtiofs"
    collection.mkdir(parents=True)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    pack = ["tar", "--create", "--null", "--files-from=-"]
    packed = subprocess.run(pack, cwd=CHECKOUT, input=files, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract"], cwd=collection, input=packed, check=True)
    return collection


def test_a_release_lists_everything_that_is_new(copy: Path) -> None:
    release = ["antsibull-changelog", "release", "--version", VERSION, "--verbose"]
    result = subprocess.run(release, cwd=copy, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "WARN" not in result.stdout + result.stderr
    changelog = (copy / "CHANGELOG.rst").read_text()
    assert f"v{VERSION}" in changelog
    new = [
        path.stem
        for kind in ("callback", "filter", "inventory", "modules")
        for path in CHECKOUT.glob(f"plugins/{kind}/*.py")
    ]
    new += [path.name for path in CHECKOUT.glob("roles/*")]
    assert [name for name in new if f"- keystone.virtiofs.{name} - " not in changelog] == []


def test_an_execution_environment_gets_what_plugins_import(copy: Path) -> None:
    introspect = ["ansible-builder", "introspect", "--sanitize", str(copy.parents[2])]
    shown = subprocess.run(introspect, check=True, capture_output=True, text=True).stdout
    found = yaml.safe_load(shown)
    python = " ".join(found["python"])
    assert all(name in python for name in ("libvirt-python", "lxml", "junitparser", "matplotlib"))
    system = " ".join(found["system"])
    assert all(name in system for name in ("openssh-clients", "libvirt-libs", "libvirt-devel"))
