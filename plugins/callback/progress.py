# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Report tasks that take long, and what a run changed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Report tasks that take long, and what a run changed
version_added: 1.0.0
author: keystone contributors (@ncrmro)
description:
  - Shows a line for a task that still runs after 10 seconds, and another line every 10 seconds until the task ends.
  - Ends each run with the duration of each play and the tasks that changed a host. A play that took less than a second
    and changed nothing is left out.
  - Writes to the standard error stream, so that programs can still parse the output of the stdout callback.
requirements:
  - enable in configuration
options:
  interval:
    description:
      - Number of seconds between the lines for a task. With V(0), only the end of a run is reported.
    type: float
    default: 10
    env: [{name: KEYSTONE_PROGRESS_INTERVAL}]
    ini: [{section: callback_progress, key: interval}]
"""

EXAMPLES = r"""
example: |
  # ansible.cfg
  [defaults]
  callbacks_enabled = keystone.virtiofs.progress
"""

import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from ansible import constants, context
from ansible.plugins.callback import CallbackBase

from ansible_collections.keystone.virtiofs.plugins.module_utils._untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class _Task:
    name: str
    hosts: dict[str, float] = field(default_factory=dict)  # those where the task runs, with the start
    reported: float = 0


@dataclass
class _Phase:
    name: str
    start: float
    end: float
    changes: dict[str, list[str]] = field(default_factory=dict)  # hosts, by the name of the task


class CallbackModule(CallbackBase):
    """The plugin, under the name that Ansible looks for."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "keystone.virtiofs.progress"

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._tasks: dict[str, _Task] = {}
        self._phases: list[_Phase] = []
        self._ended = threading.Event()
        interval = self.get_option("interval")
        if interval > 0:
            # A daemon, so that an aborted run ends.
            threading.Thread(target=self._watch, args=[interval, self._ended], daemon=True).start()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        now = time.monotonic()
        self._phases.append(_Phase(_on_one_line(play.get_name()), now, now))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        with self._lock:
            self._known(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        with self._lock:
            known = self._known(task)
            known.hosts[_on_one_line(host.get_name())] = known.reported = time.monotonic()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._end_task(result, result.is_changed())

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._end_task(result, ignore_errors and result.is_changed())  # as in the recap

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._end_task(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._end_task(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._ended.set()
        for line in _summary(self._phases, context.CLIARGS["check"]):
            self._show(line, constants.COLOR_CHANGED if line.startswith(" ") else None)

    def _known(self, task: Any) -> _Task:
        """What is known of a task, by its name when Ansible announced the task; later, the name is a template."""
        return self._tasks.setdefault(task._uuid, _Task(_on_one_line(task.get_name())))

    def _end_task(self, result: Any, changed: bool = False) -> None:
        host, phase = _on_one_line(_part(result, "host").get_name()), self._phases[-1]
        phase.end = time.monotonic()
        with self._lock:
            task = self._known(_part(result, "task"))
            task.hosts.pop(host, None)
        if changed:
            phase.changes.setdefault(task.name, []).append(host)

    def _watch(self, interval: float, ended: threading.Event) -> None:
        while not ended.wait(interval / 20):
            for line in self._due(interval):
                self._show(line, constants.COLOR_DEBUG)

    def _show(self, line: str, color: str | None) -> None:
        with suppress(OSError):  # the reader of the output has ended
            sys.stdout.flush()  # if both streams go to one file, the lines keep their order
        self._display.display(line, color=color, stderr=True)

    def _due(self, interval: float) -> list[str]:
        """A line for each running task whose last line was shown that many seconds ago."""
        now = time.monotonic()
        with self._lock:
            due = [task for task in self._tasks.values() if task.hosts and now - task.reported >= interval]
            for task in due:
                task.reported = now
            return [f"running: {_on(task.hosts)} {task.name} ({_time(now - min(task.hosts.values()))})" for task in due]


def _part(result: Any, name: str) -> Any:
    """The host or task of a result, which has a public name in ansible-core 2.19 and later."""
    return getattr(result, name, None) or getattr(result, f"_{name}")


def _summary(phases: Iterable[_Phase], is_predicted: bool) -> list[str]:
    lines = ["PREDICTED CHANGES" if is_predicted else "CHANGES"]
    for phase in phases:
        if phase.changes or phase.end - phase.start >= 1:
            lines.append(f"{phase.name}: {_outcome([phase])}")
        lines += [f"  {name} {_on(dict.fromkeys(hosts))}" for name, hosts in phase.changes.items()]
    return [*lines, f"Total: {_outcome(phases)}"]


def _outcome(phases: Iterable[_Phase]) -> str:
    changes = sum(len(phase.changes) for phase in phases)
    seconds = sum(phase.end - phase.start for phase in phases)
    return f"{_time(seconds)}, {changes or 'no'} change{'s' * (changes != 1)}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _on(hosts: Iterable[str]) -> str:
    return f"[{shorten(', '.join(hosts), 60, placeholder=' ...')}]"


def _on_one_line(name: str) -> str:
    """A name that is safe to print: a guest may have chosen the value of a variable in the name."""
    return " ".join(printable(name).split())
