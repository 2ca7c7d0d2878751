# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to libvirt, and what the hypervisor as a whole is and offers.

This file and gateway.py are the only importers of libvirt. Every error of libvirt becomes a GatewayError that carries
libvirt's code and message, the domain, and what to do.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

try:
    import libvirt
except ImportError:
    LIBVIRT_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    LIBVIRT_IMPORT_ERROR = None
    # libvirt's default handler prints every error to stderr, also those that are expected and handled.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)

from .._domain.values import check_uri
from .._errors import GatewayError, InvalidInput
from . import libvirt_fixes

_Observed = TypeVar("_Observed")


@contextmanager
def translated(
    problem: str, domain: str | None = None, by_code: Mapping[int, str] = libvirt_fixes.OTHERS
) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        code, message = error.get_error_code() or 0, error.get_error_message() or str(error)
        raise GatewayError(
            f"{problem}: {message}",
            code=code,
            libvirt_message=message,
            domain=domain,
            fix=libvirt_fixes.fix_for(code, message, by_code, domain),
        ) from error


def observe_each(found: Iterable[Any], observe: Callable[[Any], _Observed], gone: int) -> dict[str, _Observed]:
    """What is observed of each object of libvirt, by name; ``gone`` is the code for one removed since the listing."""
    observed = {}
    for one in found:
        try:
            observed[one.name()] = observe(one)
        except GatewayError as error:
            if error.code != gone:
                raise
    return observed


class Connection:
    """One connection to libvirt, which lasts as long as its context."""

    def __init__(self, uri: str) -> None:
        problem = check_uri(uri)
        if problem:
            raise InvalidInput(
                f"uri: {problem}",
                fix="Correct uri, such as qemu+ssh://root@host/system; set the rest in libvirt's own configuration.",
            )
        self.uri = uri
        with translated(f"cannot connect to {uri}", by_code=libvirt_fixes.CONNECT):
            self._connection = libvirt.open(uri)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    @property
    def is_remote(self) -> bool:
        """The hypervisor is another machine: its files are out of reach."""
        host = self.uri.partition("://")[2].partition("/")[0]
        return bool(host)

    @property
    def is_session(self) -> bool:
        return self.uri.partition("?")[0].endswith("/session")

    def libvirt_version(self) -> int:
        """As libvirt encodes it: 11003000 is 11.3.0."""
        with translated("cannot read libvirt's version"):
            return int(self._connection.getLibVersion())

    def memory(self) -> int:
        """The host's memory in MiB."""
        with translated("cannot read the host's memory"):
            return int(self._connection.getInfo()[1])

    def architecture(self) -> str:
        """The host's architecture, as in x86_64."""
        with translated("cannot read the host's architecture"):
            return str(self._connection.getInfo()[0])

    def max_vcpus(self) -> int:
        """How many vCPUs the hypervisor gives a domain; 0 where libvirt does not report it."""
        try:
            return int(self._connection.getMaxVcpus("kvm"))
        except libvirt.libvirtError:
            return 0

    def cpu_models(self) -> list[str]:
        """The CPU models that libvirt knows; empty where libvirt reports none."""
        with suppress(libvirt.libvirtError):
            return list(self._connection.getCPUModelNames(self.architecture()))
        return []
