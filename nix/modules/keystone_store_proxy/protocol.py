# SPDX-License-Identifier: GPL-3.0-or-later
"""The names and numbers of Nix's worker protocol (src/libstore/worker-protocol.hh in the sources of Nix)."""

from __future__ import annotations

from enum import IntEnum

from . import wire

CLIENT_MAGIC = 0x6E697863
DAEMON_MAGIC = 0x6478696F

# The only version that the proxy speaks, to both sides: that of Nix 2.15 to 2.21 and of Lix. Later ones lower theirs to
# it; what they have added is about builds.
VERSION = 1 << 8 | 35

TRUSTED, NOT_TRUSTED = 1, 2
ERROR_LEVEL, VOMIT_LEVEL = 0, 7


class Message(IntEnum):
    """What precedes the answer to a request."""

    LAST = 0x616C7473
    ERROR = 0x63787470
    NEXT = 0x6F6C6D67
    START_ACTIVITY = 0x53545254
    STOP_ACTIVITY = 0x53544F50
    RESULT = 0x52534C54


class Operation(IntEnum):
    """Every operation that any version has had."""

    IS_VALID_PATH = 1
    HAS_SUBSTITUTES = 3
    QUERY_PATH_HASH = 4
    QUERY_REFERENCES = 5
    QUERY_REFERRERS = 6
    ADD_TO_STORE = 7
    ADD_TEXT_TO_STORE = 8
    BUILD_PATHS = 9
    ENSURE_PATH = 10
    ADD_TEMP_ROOT = 11
    ADD_INDIRECT_ROOT = 12
    SYNC_WITH_GC = 13
    FIND_ROOTS = 14
    EXPORT_PATH = 16
    QUERY_DERIVER = 18
    SET_OPTIONS = 19
    COLLECT_GARBAGE = 20
    QUERY_SUBSTITUTABLE_PATH_INFO = 21
    QUERY_DERIVATION_OUTPUTS = 22
    QUERY_ALL_VALID_PATHS = 23
    QUERY_FAILED_PATHS = 24
    CLEAR_FAILED_PATHS = 25
    QUERY_PATH_INFO = 26
    IMPORT_PATHS = 27
    QUERY_DERIVATION_OUTPUT_NAMES = 28
    QUERY_PATH_FROM_HASH_PART = 29
    QUERY_SUBSTITUTABLE_PATH_INFOS = 30
    QUERY_VALID_PATHS = 31
    QUERY_SUBSTITUTABLE_PATHS = 32
    QUERY_VALID_DERIVERS = 33
    OPTIMISE_STORE = 34
    VERIFY_STORE = 35
    BUILD_DERIVATION = 36
    ADD_SIGNATURES = 37
    NAR_FROM_PATH = 38
    ADD_TO_STORE_NAR = 39
    QUERY_MISSING = 40
    QUERY_DERIVATION_OUTPUT_MAP = 41
    REGISTER_DRV_OUTPUT = 42
    QUERY_REALISATION = 43
    ADD_MULTIPLE_TO_STORE = 44
    ADD_BUILD_LOG = 45
    BUILD_PATHS_WITH_RESULTS = 46
    ADD_PERM_ROOT = 47
    QUERY_ACTIVE_BUILDS = 48
    ADD_TEMP_ROOTS = 49
    QUERY_PATH_INFOS = 50
    SUBMIT_OUTPUT = 1000
    ADD_TO_STORE_SCANNING = 1001

    @property
    def title(self) -> str:
        """As Nix writes it: QueryPathInfo."""
        return self.name.title().replace("_", "")


def title(operation: int) -> str:
    try:
        return Operation(operation).title
    except ValueError:
        return f"number {operation}"


class Refused(Exception):
    """The text is for the guest; the connection ends."""


def error(text: str) -> bytes:
    """The message that ends a request with an error: no position, no traces."""
    return b"".join(
        [
            wire.number(Message.ERROR),
            wire.text("Error"),
            wire.number(ERROR_LEVEL),
            wire.text("Error"),
            wire.text(text),
            wire.number(0),
            wire.number(0),
        ]
    )
