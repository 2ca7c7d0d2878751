# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus, read once, and the table of what the checks found in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.tests.corpus.documents import Document, NoSourcePackage, corpus

Row = tuple[str, int, int, int]
ROWS = pytest.StashKey[list[Row]]()
SHOWN = 20
NEVER = r"(?!)"


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    try:
        found = corpus()
    except NoSourcePackage as error:
        pytest.skip(f"this machine's mirror of Debian does not have the source packages: {error}")
    assert len(found) > 3000, "the packages lie otherwise than they did"
    return found


class Figures:
    """Runs a check over all documents and remembers the figures for the table."""

    def __init__(self, rows: list[Row], test: str) -> None:
        self._rows = rows
        self._test = test

    def check(
        self, documents: list[Document], problems: Callable[[Document], Iterator[str]], refused: str = NEVER
    ) -> None:
        """``problems`` yields what is wrong with a document; a refusal must match ``refused``."""
        failures: dict[str, str] = {}
        refusals = 0
        for document in documents:
            try:
                problem = next(problems(document), None)
            except InvalidInput as error:
                refusals += 1
                problem = None if re.search(refused, str(error)) else f"refused: {error}"
            if problem:
                failures[document.name] = problem
        self._rows.append((self._test, len(documents), refusals, len(failures)))
        listed = "\n".join(f"{document}: {problem}" for document, problem in list(failures.items())[:SHOWN])
        assert not failures, f"{len(failures)} of {len(documents)} documents\n{listed}"


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    return Figures(request.config.stash.setdefault(ROWS, []), request.node.name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("foreign documents")
    line = "{:<70} {:>10} {:>10} {:>10}"
    terminalreporter.write_line(line.format("check", "documents", "refused", "failures"))
    for row in config.stash.get(ROWS, []):
        terminalreporter.write_line(line.format(*row))
