# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values the options of the modules for NixOS guests may have.

Most of them become words of a command line or of ssh's configuration. The name, address, user and host key of a machine
are checked by ssh.Target.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .._errors import InvalidInput
from .._untrusted import store_path

# PATH_MAX of Linux without the byte that ends a string; no other text needs more.
_LONGEST = 4095
_LONGEST_TIMEOUT = 86400
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What the text of an option must look like, and in words.
_FORMS: Mapping[str, tuple[str, str]] = {
    # ssh splits file names at blanks, and replaces % and $.
    "known_hosts": (r"[^-\s\"%$][^\s\"%$]*", 'a path without blanks and " % $'),
    "ssh_key": (r"[^-%$][^%$]*", "a path without % and $"),
    "flake": (r"[^-].*", "a flake"),
    "kexec": (r"[^-].*", "a file or a URL"),
    "log": (r"[^-].*", "a path"),
    "extra_files": (r"[^-].*", "a path"),
    "remote": (r"/.*", "an absolute path"),
    "local": (r"[^-].*", "a path"),
    "path": (r"[^-].*", "a path"),
}
_STORE_PATHS = ("toplevel", "disko_script")
_PORTS = ("port", "post_kexec_ssh_port")


def check_options(params: Mapping[str, Any]) -> None:
    """Raise InvalidInput for values that the programs behind a module would misread."""
    found = list(_problems(params))
    if found:
        option, problem = found[0]
        raise InvalidInput(f"{option}: {problem}", fix=f"Correct {option}.")


def _problems(params: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for option, value in params.items():
        if option.endswith("timeout") and not 1 <= value <= _LONGEST_TIMEOUT:
            yield option, f"{value} is not between 1 and {_LONGEST_TIMEOUT} seconds"
        elif option in _PORTS and value is not None and not 1 <= value <= 65535:
            yield option, f"{value} is not between 1 and 65535"
        elif option == "command" and not (value and value[0]):
            yield option, "the command is empty"
        elif isinstance(value, dict):
            yield from _problems(value)
        else:
            for item in value if isinstance(value, list) else [value]:
                yield from _problems(item) if isinstance(item, dict) else _text_problems(option, item)


def _text_problems(option: str, text: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(text, str):
        return
    shown = "the value" if option == "password" else repr(text[:100])
    form, meaning = _FORMS.get(option, (".*", ""))
    if _CONTROL.search(text):
        yield option, f"{shown} contains a control character"
    elif len(text.encode(errors="replace")) > _LONGEST:
        yield option, f"{shown} has more than {_LONGEST} bytes"
    elif option in _STORE_PATHS and store_path(text) is None:
        yield option, f"{shown} is not a path directly in /nix/store"
    elif not re.fullmatch(form, text, re.DOTALL):
        yield option, f"{shown} is not {meaning}"
