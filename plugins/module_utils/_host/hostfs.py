# SPDX-License-Identifier: GPL-3.0-or-later
"""What a domain needs of the host's files: bind mounts, wrappers, disk images. No Ansible, no libvirt."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .._domain.model import DiskImage
from .._domain.state_paths import STATE, wrapper_flags
from .._errors import HostError, InvalidInput, WaitTimeout
from .._waiting import wait_until

# Longer than a guest gets by default to power off, several times over.
LOCK_TIMEOUT = 600
FSTAB = Path("/etc/fstab")
# A source that is gone does not keep the host from booting. Such a mount is waited for by nobody, so libvirt must be
# told to: else a guest that starts with the host is handed the empty, writable directory below the mount.
FSTAB_OPTIONS = "bind,ro,nofail,x-systemd.before=libvirtd.service,x-systemd.before=virtqemud.service"
# On NixOS a path below /nix/store dies with the next garbage collection; this link lives as long as the system.
STABLE_BIN = Path("/run/current-system/sw/bin")


def state_root(session: bool) -> str:
    """Where domains' bind mounts and wrappers lie: the system's, or the user's own in session mode."""
    if not session:
        return STATE
    data = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    return f"{data}/keystone-virtiofs"


@contextmanager
def exclusive() -> Iterator[None]:
    """Let one task at a time choose ports, write fstab and define domains on this host.

    Raises HostError when another task does not finish within LOCK_TIMEOUT seconds.
    """
    # Where nobody else may write: in /run/lock another user could hold the lock for ever.
    directory = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or Path.home())
    with (directory / "keystone-virtiofs.lock").open("a") as handle:
        wait_until(lambda: _try_lock(handle.fileno()), LOCK_TIMEOUT, _lock_is_held)
        yield


def _try_lock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True


def _lock_is_held() -> WaitTimeout:
    return WaitTimeout(
        f"another task of this collection has been changing this host for {LOCK_TIMEOUT} s",
        fix="Wait for it, or end it, and run the task again.",
    )


def has_state(state: str, domain: str) -> bool:
    """The domain has bind mounts or wrappers, or what a killed run left of them."""
    return Path(state, domain).is_dir()


# Read-only bind mounts.


def list_binds(state: str, domain: str) -> dict[str, bool]:
    """The domain's bind mounts: target, and whether it is complete (mounted read-only, and in fstab for reboots)."""
    root = Path(state, domain, "ro")
    targets = [str(target) for target in sorted(root.iterdir())] if root.is_dir() else []
    lasting = _fstab_targets()
    return {target: target in lasting and _is_read_only_mount(target) for target in targets}


def _mount_entries() -> list[tuple[str, set[str]]]:
    """(mount point, options of the mount) of this process's mount table."""
    entries = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        entries.append((_unescape(fields[4]), set(fields[5].split(","))))
    return entries


def _escape(path: str) -> str:
    """A path as fstab(5) wants it."""
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")


def _unescape(field: str) -> str:
    """A field of fstab or of a mount table as a path."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _is_read_only_mount(target: str) -> bool:
    options = [options for point, options in _mount_entries() if point == target]
    return bool(options) and "ro" in options[-1]


def _fstab_lines() -> list[str]:
    return FSTAB.read_text().splitlines(keepends=True) if FSTAB.exists() else []


def _fstab_target(line: str) -> str | None:
    fields = line.split()
    return _unescape(fields[1]) if len(fields) > 1 and not line.lstrip().startswith("#") else None


def _fstab_targets() -> set[str | None]:
    return {_fstab_target(line) for line in _fstab_lines()}


def _write_fstab(lines: list[str]) -> None:
    """Replace fstab in one step: a half-written one would keep the host from booting."""
    if FSTAB.is_symlink():
        raise HostError(
            f"{FSTAB} is a link to {FSTAB.resolve()}: another tool writes it",
            fix="Upgrade to libvirt 11.0 and virtiofsd 1.13, which need no bind mount for a read-only share.",
        )
    with tempfile.NamedTemporaryFile("w", dir=FSTAB.parent, delete=False) as new:
        new.write("".join(lines))
        new.flush()
        os.fchmod(new.fileno(), 0o644)
        os.fsync(new.fileno())
    Path(new.name).replace(FSTAB)


def bind_read_only(source: str, target: str) -> None:
    """Mount ``source`` read-only at ``target``, now and after a reboot."""
    Path(target).mkdir(parents=True, exist_ok=True)
    if target not in _fstab_targets():
        lines = _fstab_lines()
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        _write_fstab([*lines, f"{_escape(source)} {_escape(target)} none {FSTAB_OPTIONS} 0 0\n"])
    if not _is_read_only_mount(target):
        _run(["mount", "--bind", source, target])
        _run(["mount", "-o", "remount,bind,ro", target])


def unbind(target: str) -> None:
    """Undo bind_read_only; the source is not touched."""
    while any(point == target for point, _options in _mount_entries()):
        _run(["umount", target])
    _write_fstab([line for line in _fstab_lines() if _fstab_target(line) != target])
    Path(target).rmdir()
    _remove_empty(Path(target).parent)


def _remove_empty(directory: Path) -> None:
    """Remove a directory of a domain's state when it is empty, and the domain's when that is empty then."""
    for path in (directory, directory.parent):
        if any(path.iterdir()):
            return
        path.rmdir()


# Wrappers of virtiofsd.


def list_wrappers(state: str, domain: str, virtiofsd: str) -> dict[str, bool]:
    """The domain's wrappers: path, and whether it starts this virtiofsd."""
    root = Path(state, domain, "bin")
    paths = [str(path) for path in sorted(root.iterdir())] if root.is_dir() else []
    return {path: Path(path).read_text() == _wrapper_text(virtiofsd, wrapper_flags(path)) for path in paths}


def write_wrapper(path: str, virtiofsd: str, flags: Mapping[str, str]) -> None:
    """A script that starts virtiofsd with flags for which libvirt has no XML."""
    wrapper = Path(path)
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=wrapper.parent, delete=False) as script:
        script.write(_wrapper_text(virtiofsd, flags))
        os.fchmod(script.fileno(), 0o755)
    Path(script.name).replace(wrapper)


def _wrapper_text(virtiofsd: str, flags: Mapping[str, str]) -> str:
    daemon = Path(virtiofsd)
    stable = STABLE_BIN / daemon.name
    command = str(stable if virtiofsd.startswith("/nix/store/") and stable.exists() else daemon)
    arguments = " ".join(f"--{flag}={shlex.quote(value)}" for flag, value in sorted(flags.items()))
    return f'#!/bin/sh\nexec {shlex.quote(command)} "$@" {arguments}\n'


def remove_wrapper(path: str) -> None:
    Path(path).unlink()
    _remove_empty(Path(path).parent)


def remove_state(state: str, domain: str) -> None:
    """Remove the domain's wrappers and empty directories; a bind mount that is still there makes this fail."""
    root = Path(state, domain)
    for path in root.glob("bin/*"):
        path.unlink()
    for directory in (root / "bin", root / "ro", root):
        if directory.is_dir():
            directory.rmdir()


# Disk images.


def read_image(path: str) -> DiskImage | None:
    """The image at a path, None when there is none; raises InvalidInput for what cannot be a disk."""
    file = Path(path)
    if file.is_dir():
        raise InvalidInput(f"disk {path} is a directory", fix="Give the path of an image file.")
    if file.is_block_device():
        return _block_device(path)
    if not file.exists():
        return None
    information = json.loads(_run(["qemu-img", "info", "--force-share", "--output=json", path]))
    backing = information.get("full-backing-filename")
    return DiskImage(int(information["virtual-size"]) // 2**20, information["format"], backing)


def backing_chain(path: str) -> list[str]:
    """The images that an image is based on, real paths; none for what is no image file."""
    if not Path(path).is_file():
        return []
    chain = json.loads(_run(["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", path]))
    return [real_path(image["filename"]) for image in chain[1:]]


def _block_device(path: str) -> DiskImage:
    """A block device as a raw image; the kernel refuses O_EXCL while it is mounted or part of something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_EXCL)
    except OSError as error:
        raise InvalidInput(
            f"disk {path} is a block device in use: {error.strerror}", fix="Unmount it, or give another disk."
        ) from None
    with os.fdopen(descriptor, "rb") as device:
        return DiskImage(device.seek(0, os.SEEK_END) // 2**20, "raw", is_block_device=True)


def create_image(path: str, image_format: str, size: int | None, backing: str | None) -> None:
    """Create an image of ``size`` MiB, or over a backing image; it appears only when it is complete."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["qemu-img", "create", "-q", "-f", image_format]
    if backing:
        original = read_image(backing)
        if original is None:
            raise InvalidInput(f"backing image {backing} of disk {path} does not exist", fix="Create it first.")
        command += ["-b", backing, "-F", original.format]
    scratch = target.with_name(f".{target.name}.new")
    try:
        _run([*command, str(scratch), *([f"{size}M"] if size else [])])
        scratch.chmod(0o600)  # a guest's secrets; libvirt hands the file to QEMU's user
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def grow_image(path: str, image_format: str, size: int) -> None:
    """Grow an image to ``size`` MiB."""
    _run(["qemu-img", "resize", "-q", "-f", image_format, path, f"{size}M"])


def remove_image(path: str) -> None:
    """Delete an image file; a block device is never deleted."""
    if Path(path).is_file():
        Path(path).unlink()


# Checks.


def check_source(path: str) -> None:
    """Raise InvalidInput when a share's source cannot be shared; libvirt would find out only at the start."""
    source = Path(path)
    try:
        source.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInput(f"source {path} does not exist", fix="Create it, or correct the path.") from None
    except PermissionError:
        raise InvalidInput(f"source {path} is out of this user's reach", fix="Use become, or share another.") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: pathlib's word for a loop before Python 3.13
        raise InvalidInput(f"source {path} is a loop of symbolic links: {error}", fix="Correct the link.") from None
    if not source.is_dir():
        raise InvalidInput(f"source {path} is not a directory", fix="Share the directory it lies in.")


def real_path(path: str) -> str:
    """The path without links and detours."""
    return str(Path(path).resolve())


def is_file(path: str) -> bool:
    return Path(path).is_file()


def virtiofsd_logs(domain: str, session: bool) -> list[str]:
    """The logs that libvirt keeps of the domain's virtiofsd processes, one per share."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    logs = Path(cache, "libvirt/qemu/log") if session else Path("/var/log/libvirt/qemu")
    return sorted(str(path) for path in logs.glob(f"{glob.escape(domain)}-fs*-virtiofsd.log"))


def is_port_taken(address: str, port: int) -> bool:
    """Somebody listens on the TCP port, so QEMU could not."""
    if port > 65535:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False


def ssh_answers(address: str, port: int) -> bool:
    """An ssh server greets on the port."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            # A guest that has other work greets late, and a new connection would only be more of it.
            connection.settimeout(15)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise HostError(f"{command[0]} is not installed", fix="The role keystone.virtiofs.host installs it.")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
