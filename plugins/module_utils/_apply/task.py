# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of every module that talks to libvirt: import guards, one connection, one ladder of errors."""

from __future__ import annotations

from typing import Any, Callable

from ansible.module_utils.basic import missing_required_lib

from .._domain.xml.places import LXML_IMPORT_ERROR
from .._host.connection import LIBVIRT_IMPORT_ERROR
from .._host.limits import read_limits
from .._module import Module
from .._untrusted import printable
from .controller import Controller


def run(module: Module, work: Callable[[Controller], dict[str, Any]]) -> None:
    """Do the work over one connection and leave the module, also when it fails."""
    require_libraries(module)

    def connected() -> dict[str, Any]:
        with connect(module, module.check_mode) as controller:
            result = work(controller)
            for warning in controller.warnings:
                module.warn(printable(warning))
            return result

    module.run(connected)


def connect(module: Module, check_mode: bool) -> Controller:
    """The connection that a task names, as far as this host lets tasks use it."""
    read_limits().check_uri(module.params["uri"])
    return Controller(module.params["uri"], check_mode)


def require_libraries(module: Module) -> None:
    """Leave the module unless everything that a Controller needs can be imported."""
    for library, error in (("libvirt-python", LIBVIRT_IMPORT_ERROR), ("lxml", LXML_IMPORT_ERROR)):
        if error:
            fix = f"Install {library} for the Python that runs the module."
            module.fail_json(msg=missing_required_lib(library), fix=fix, exception=error)
