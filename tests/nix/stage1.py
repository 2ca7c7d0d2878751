# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's stage 1: the units that systemd's own generator makes of the initrd's fstab, and what is wrong there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

GENERATOR = "system-generators/systemd-fstab-generator"
SYSTEMD = ["/usr/lib/systemd", "/lib/systemd", "/run/current-system/systemd/lib/systemd"]
TARGETS = ["initrd-root-fs.target", "initrd-fs.target"]


class Stage1:
    """The units of one guest, written into a folder."""

    def __init__(self, folder: Path, fstab: str, services: Mapping[str, Any]) -> None:
        self.units = folder / "units"
        self.units.mkdir()
        (folder / "fstab").write_text(fstab)
        self.complaints = self._generate(folder / "fstab")
        for name, service in services.items():
            if "serviceConfig" in service:  # the others only add to units that systemd brings along
                self._write_service(name, service)
        mounts = map(self._mount, sorted(self.units.glob("*.mount")))
        self.mounts = {mount["Where"].rstrip("/"): mount for mount in mounts}

    def _generate(self, fstab: Path) -> list[str]:
        (generator,) = {path.resolve() for folder in SYSTEMD if (path := Path(folder, GENERATOR)).exists()}
        result = subprocess.run(
            [generator, self.units, self.units, self.units],
            env={
                **os.environ,
                "SYSTEMD_FSTAB": "/dev/null",
                "SYSTEMD_IN_INITRD": "1",
                "SYSTEMD_LOG_LEVEL": "debug",
                "SYSTEMD_LOG_TARGET": "console",
                "SYSTEMD_PROC_CMDLINE": "quiet",  # not this machine's
                "SYSTEMD_SYSROOT_FSTAB": str(fstab),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        # Some versions of systemd log this at level debug only, among much else.
        unfit = [line for line in result.stderr.splitlines() if "is not a device" in line]
        return unfit if result.returncode == 0 else [*unfit, f"the generator failed: {result.stderr}"]

    def _write_service(self, name: str, service: Mapping[str, Any]) -> None:
        """As NixOS writes one; its program is in the guest, so one of this machine stands for it."""
        default = "yes" if service["unitConfig"]["DefaultDependencies"] else "no"
        (self.units / f"{name}.service").write_text(
            f"[Unit]\nDefaultDependencies={default}\n"
            f"RequiresMountsFor={service['unitConfig']['RequiresMountsFor']}\n"
            f"Before={' '.join(service['before'])}\n"
            f"[Service]\nType={service['serviceConfig']['Type']}\nExecStart=/bin/true\n"
        )
        for unit in service["requiredBy"]:
            requires = self.units / f"{unit}.requires"
            requires.mkdir(exist_ok=True)
            (requires / f"{name}.service").symlink_to(f"../{name}.service")

    @staticmethod
    def _mount(unit: Path) -> dict[str, str]:
        parser = ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment]
        parser.read(unit)
        return dict(parser["Mount"]) | {"unit": unit.name}

    def options(self, where: str) -> dict[str, str]:
        """The options of a mount; those without a value have an empty one."""
        pairs = (option.partition("=") for option in self.mounts[where]["Options"].split(","))
        return {name: value for name, _separator, value in pairs}

    def problems(self, store: str = "/sysroot/nix/store") -> list[str]:
        """Everything that would keep the store from being mounted as it is meant to be."""
        return [*self.complaints, *self._store_problems(store), *self._ordering_problems()]

    def _store_problems(self, store: str) -> Iterator[str]:
        if store not in self.mounts:
            yield f"{store} is not mounted"
            return
        options = self.options(store)
        own, *lower = options["lowerdir"].split(":")
        if own != "/sysroot/nix/store":
            yield f"the guest's own store is not the first layer, {own} is"
        if not lower:
            yield "the host's store is not a layer"
        yield from (f"nothing is mounted on the layer {layer}" for layer in lower if layer not in self.mounts)
        for name in ("upperdir", "workdir"):
            if not any(options[name].startswith(f"{where}/") for where in self.mounts if where != "/sysroot"):
                yield f"{name} {options[name]} is on no layer of its own"
            if not any(options[name] in service.read_text() for service in self.units.glob("rw-*.service")):
                yield f"nothing creates {name} {options[name]}"

    def _ordering_problems(self) -> list[str]:
        result = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *TARGETS],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{self.units}:"},
            capture_output=True,
            text=True,
            check=False,
        )
        return [line for line in result.stderr.splitlines() if str(self.units) in line or "cycle" in line.lower()]
