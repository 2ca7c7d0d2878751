# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of actions, with a stand-in for a libvirt that refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.executor import Executor
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import Destroy, Start
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import GatewayError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import logs


class Refusing:
    is_session = False

    def __init__(self, *, is_remote: bool) -> None:
        self.is_remote = is_remote

    def start(self, _name: str) -> None:
        raise GatewayError("virtiofsd died unexpectedly")

    destroy = start


@pytest.mark.parametrize(
    ("action", "is_remote", "problem"),
    [
        (Start(), False, "virtiofsd died unexpectedly; {log}: cannot open /srv/a"),
        (Start(), True, "virtiofsd died unexpectedly"),
        (Destroy(), False, "virtiofsd died unexpectedly"),
    ],
)
def test_a_failed_start_quotes_virtiofsd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Any, is_remote: bool, problem: str
) -> None:
    log = tmp_path / "vm-fs0-virtiofsd.log"
    log.write_text("[2026-01-01T00:00:00Z ERROR virtiofsd] cannot open /srv/a\n")
    monkeypatch.setattr(logs, "virtiofsd_logs", lambda _domain, _session: [str(log)])
    gateway: Any = Refusing(is_remote=is_remote)
    with pytest.raises(GatewayError) as caught:
        Executor(gateway, str(tmp_path)).execute("vm", [action], lambda _action: None)
    assert caught.value.problem == problem.format(log=log)
