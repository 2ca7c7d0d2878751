# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, as exceptions that say what failed, on what, and what to do about it."""

from __future__ import annotations

from ._untrusted import printable


class VirtiofsError(Exception):
    """Base of every error that the collection raises on purpose.

    ``problem`` says what is wrong, ``fix`` what to do; ``domain`` and ``share`` (the mount tag) say where. Problem and
    fix may quote a guest, so everything that a terminal would interpret is replaced.
    """

    def __init__(self, problem: str, *, fix: str = "", domain: str | None = None, share: str | None = None) -> None:
        self.problem = printable(problem)
        self.fix = printable(fix)
        self.domain = domain
        self.share = share
        super().__init__(self.problem)

    def __str__(self) -> str:
        where = [f"domain {self.domain}"] if self.domain else []
        where += [f"share {self.share}"] if self.share else []
        prefix = ", ".join(where)
        text = f"{prefix}: {self.problem}" if prefix else self.problem
        return f"{text}. {self.fix}" if self.fix else text

    def as_result(self) -> dict[str, object]:
        """The error as module return values."""
        return {
            "msg": str(self),
            "problem": self.problem,
            "fix": self.fix,
            "failed_domain": self.domain,
            "failed_share": self.share,
        }


class InvalidInput(VirtiofsError):
    """The task asks for something that cannot be; nothing was touched."""


class Unsupported(VirtiofsError):
    """The host is too old for, or lacks, what the task asks for; nothing was touched."""


class WaitTimeout(VirtiofsError):
    """A condition did not come true in time; the message says what was seen last."""


class HostError(VirtiofsError):
    """A command or file operation on the host failed."""


class GatewayError(VirtiofsError):
    """libvirt refused; ``code`` and ``libvirt_message`` are its own."""

    def __init__(
        self,
        problem: str,
        *,
        code: int = 0,
        libvirt_message: str = "",
        fix: str = "",
        domain: str | None = None,
    ) -> None:
        super().__init__(problem, fix=fix, domain=domain)
        self.code = code
        self.libvirt_message = printable(libvirt_message)

    def as_result(self) -> dict[str, object]:
        return {**super().as_result(), "libvirt_code": self.code, "libvirt_message": self.libvirt_message}
