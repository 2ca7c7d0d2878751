# SPDX-License-Identifier: GPL-3.0-or-later
"""The Nix evaluator, the libraries it is used with, and what a guest's stage 1 makes of the result."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
HERE = CHECKOUT / "tests/nix"
GUEST_MODULE = CHECKOUT / "nix/modules/guest-virtiofs.nix"
HOST_MODULE = CHECKOUT / "nix/modules/host-virtiofs.nix"

# Needs no /nix, and leaves an existing one as it is.
EVALUATE = ["nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", "--expr"]

ROOT = '{ fileSystems."/" = { device = "/dev/vda2"; fsType = "ext4"; }; }'


class EvaluationError(Exception):
    """What the evaluator says instead of a value."""


def evaluate(expression: str, environment: Mapping[str, str] | None = None) -> Any:
    """The value of a Nix expression."""
    result = subprocess.run(
        [*EVALUATE, expression],
        env={**os.environ, "NIX_PATH": "", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise EvaluationError(result.stderr)
    return json.loads(result.stdout)


@dataclass(frozen=True)
class World:
    """What stands for NixOS: the stand-ins of this folder, or nixpkgs' lib, or its file system modules as well."""

    name: str
    arguments: str

    def system(self, *modules: Path | str) -> str:
        """The expression of a configuration made of modules: files, or the text of one."""
        listed = " ".join(f"({module})" for module in modules)
        return f"(import {HERE}/nixos {{ {self.arguments} }} [ {listed} ])"

    def config(self, attribute: str, *modules: Path | str, environment: Mapping[str, str] | None = None) -> Any:
        """One attribute of a configuration."""
        return evaluate(f"{self.system(*modules)}.config.{attribute}", environment)

    def guest(self, attribute: str, options: str = "", *modules: Path | str) -> Any:
        """One attribute of a guest that has these options of its module."""
        settings = f"{{ keystone.virtualization.guest.virtiofs = {{ enable = true; {options} }}; }}"
        return self.config(attribute, GUEST_MODULE, ROOT, settings, *modules)

    def host(self, attribute: str, options: str = "", *modules: Path | str) -> Any:
        """One attribute of a host that has these options of its module."""
        settings = f"{{ keystone.virtualization.host.virtiofs = {{ enable = true; {options} }}; }}"
        return self.config(attribute, HOST_MODULE, settings, *modules)


@dataclass(frozen=True)
class WholeNixOS(World):
    """NixOS itself: all of its modules, and the packages of a nixpkgs."""

    nixpkgs: Path

    def system(self, *modules: Path | str) -> str:
        listed = " ".join(f"({module})" for module in modules)
        return f"(import {HERE}/nixos/whole.nix {self.nixpkgs} [ {listed} ])"


STAND_IN = World("stand-in", "")


def whole_nixos() -> WholeNixOS | None:
    """That of the nixpkgs in NIXPKGS, which needs a Nix that is new enough for it."""
    given = os.environ.get("NIXPKGS")
    return WholeNixOS("NixOS", "", Path(given).resolve(strict=True)) if given else None


def locked_nixpkgs(lock: Path, store: str) -> Path | None:
    """The nixpkgs that a flake is locked to, if it is in the store already."""
    locked = f"(builtins.fromJSON (builtins.readFile {lock})).nodes.nixpkgs.locked"
    nix = ["nix", "--extra-experimental-features", "nix-command flakes", "--store", store]
    command = [*nix, "eval", "--offline", "--impure", "--raw", "--expr", f"(builtins.fetchTree {locked}).outPath"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return Path(found.stdout) if found.returncode == 0 else None


def nixpkgs_lib() -> Path | None:
    """The folder lib of nixpkgs: that of NIXPKGS_LIB, the one in <nixpkgs>, or in what the flake is locked to."""
    if given := os.environ.get("NIXPKGS_LIB"):
        return Path(given).resolve(strict=True)
    if given := os.environ.get("NIXPKGS"):
        return Path(given, "lib").resolve(strict=True)
    found = subprocess.run(["nix-instantiate", "--find-file", "nixpkgs"], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return Path(found.stdout.strip()) / "lib"
    # Nix would make a store where there is none.
    nixpkgs = locked_nixpkgs(CHECKOUT / "flake.lock", "auto") if Path("/nix/store").is_dir() else None
    return nixpkgs and nixpkgs / "lib"


def worlds() -> list[World]:
    """Those that this machine has."""
    lib = nixpkgs_lib()
    if lib is None:
        return [STAND_IN]
    real_lib = World("nixpkgs' lib", f"lib = import {lib};")
    if not (lib.parent / "nixos/modules/tasks/filesystems.nix").exists():
        return [STAND_IN, real_lib]
    return [STAND_IN, real_lib, World("nixpkgs' modules", f"{real_lib.arguments} nixpkgs = {lib.parent};")]


WORLDS = worlds()


def fstab(text: str) -> dict[str, tuple[str, str, list[str]]]:
    """The entries by mount point: device, type, options."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {line[1]: (line[0], line[2], line[3].split(",")) for line in lines}
