# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the side effects of a task, and disturbs it before each of them. No Ansible: scenario faults uses it on hosts.

The effects are not listed. They are what Python's audit events say about files and processes, every function of libvirt
that is not known to read, and every call of the C library by the collection.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from lxml import etree

State = dict[str, Any]
"""All that a task may change, by name."""

COLLECTION = "ansible_collections.keystone.virtiofs.plugins."
# Audit events of the module os that change nothing.
READING = {
    *("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.getxattr", "os.listxattr", "os.putenv", "os.unsetenv"),
    *("os.fork", "os.forkpty", "os.kill", "os.chdir", "os.lockf"),
}
# Parts of names of libvirt's functions that read.
QUERY = re.compile("Get|Lookup|List|NumOf|XMLDesc|Has|Is[A-Z]|Open|Close|Free|Ref$|Info|Addresses|Handler|Initialize")
# What needs room on a disk; the kernel also lets a full disk forget.
TAKES_ROOM = {"open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.setxattr", "write", "fsync"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Effects:
    """Calls ``before`` with the number and the name of each side effect of this process, just before it happens.

    An audit hook cannot be removed, so this belongs into a process of its own (``in_child``).
    """

    def __init__(self, before: Callable[[int, str], None]) -> None:
        self._before = before
        self._is_active = False
        self.names: list[str] = []

    def watch(self) -> None:
        sys.dont_write_bytecode = True
        sys.addaudithook(self._see)
        for name in ("write", "pwrite", "fsync"):
            setattr(os, name, self._counted(name, getattr(os, name)))
        driver = sys.modules["libvirtmod"]
        for name, function in vars(driver).copy().items():
            if name.startswith("vir") and callable(function) and not QUERY.search(name):
                setattr(driver, name, self._counted(name, function))
        for module in [module for name, module in sys.modules.items() if name.startswith(COLLECTION)]:
            self._watch_library(module)
        self._is_active = True

    def _watch_library(self, module: ModuleType) -> None:
        """The C library as a module of the collection has loaded it."""
        effects = self

        class Library:
            def __init__(self, real: ctypes.CDLL) -> None:
                self._real = real

            def __getattr__(self, name: str) -> Any:
                return effects._counted(f"libc.{name}", getattr(self._real, name))

        for name, value in vars(module).copy().items():
            if isinstance(value, ctypes.CDLL):
                setattr(module, name, Library(value))

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_writing = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
        if is_writing or event == "subprocess.Popen" or (event.startswith("os.") and event not in READING):
            self._count(event)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self._count(name)
            return function(*arguments, **named)

        return counted

    def _count(self, name: str) -> None:
        if not self._is_active:
            return
        self._is_active = False  # what ``before`` does is not an effect of the task
        try:
            self._before(len(self.names), name)
        finally:
            self.names.append(name)
            self._is_active = True


def watch(work: Callable[[], object], read: Callable[[], State]) -> tuple[list[str], list[State]]:
    """Do the work in this process: the names of its side effects, and what ``read`` returns just before each."""
    states: list[State] = []
    effects = Effects(lambda _number, _name: states.append(read()))
    effects.watch()
    work()
    return effects.names, states


def run_until(at: int, work: Callable[[], object], act: Callable[[], object]) -> None:
    """Do the work in this process, and ``act`` before the side effect with a number, which does not return."""

    def before(number: int, _name: str) -> None:
        if number == at:
            act()

    Effects(before).watch()
    work()


def run_on_full_disk(since: int, work: Callable[[], object]) -> None:
    """Do the work while, from the side effect with a number on, nothing more fits on any disk."""

    def before(number: int, name: str) -> None:
        if number >= since and name in TAKES_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    Effects(before).watch()
    work()


def differences(found: State, *wanted: State) -> str:
    """What is as in none of the wanted states. Each thing counts by itself: a disturbed task got part of the way."""
    keys = sorted(found.keys() | {key for state in wanted for key in state})
    wrong = [key for key in keys if found.get(key) not in [state.get(key) for state in wanted]]
    return "; ".join(f"{key}: {short(found.get(key))} instead of {short(wanted[0].get(key))}" for key in wrong)


def definition(text: str) -> str:
    """A domain's XML without what libvirt draws or places, and without an order of devices."""
    root = etree.fromstring(text)
    for element in [*root.iter("uuid"), *root.iter("address"), *root.iter("alias")]:
        parent = element.getparent()
        if parent is not None:
            parent.remove(element)
    for element in root.iter():
        element.attrib.pop("uuid", None)  # of the collection's mark
        element.tail = None
        element.text = (element.text or "").strip() or None
    devices = root.find("devices")
    if devices is not None:
        devices[:] = sorted(devices, key=lambda device: str(etree.tostring(device)))
    return etree.tostring(root, encoding="unicode")


def short(value: object) -> str:
    text = str(value)
    return text if len(text) < 300 else f"{text[:300]}..."


class Killed(Exception):
    """A child ended without a result."""


def in_child(work: Callable[[], Any]) -> Any:
    """What the work returns in a forked process; raises what it raised, and Killed when it did not end by itself."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _report(writer, work)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise Killed
    is_error, result = pickle.loads(answer)  # noqa: S301 - from this process's own child
    if is_error:
        raise result
    return result


def _report(writer: int, work: Callable[[], Any]) -> NoReturn:
    """Send what the work returns or raises, and end the process without the parent's clean-up."""
    write = os.write
    try:
        answer = pickle.dumps((False, work()))
    except BaseException as error:
        answer = pickle.dumps((True, AssertionError(f"{type(error).__name__}: {error}")))
    while answer:
        answer = answer[write(writer, answer) :]
    os._exit(0)
