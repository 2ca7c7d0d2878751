# SPDX-License-Identifier: GPL-3.0-or-later
"""The site that scripts/docs builds, in a real browser: its search, and its front page in both themes."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
SITE = CHECKOUT / ".cache/docs/html"
PICTURES = runpy.run_path(str(CHECKOUT / "scripts/pictures"))
VARIABLES = {
    variable
    for specs in CHECKOUT.glob("roles/*/meta/argument_specs.yml")
    for entry_point in yaml.safe_load(specs.read_text())["argument_specs"].values()
    for variable in entry_point.get("options", {})
}
# As the page of the search looks up a word.
UNKNOWN = """
const stemmer = new Stemmer();
return arguments[0].filter((word) => !Object.hasOwn(Search._index.terms, stemmer.stemWord(word.toLowerCase())));
"""
FOUND = """
const links = [...document.querySelectorAll('#search-results li a')].map((link) => link.getAttribute('href'));
return links.length > 0 && links;
"""
SCHEME = "return getComputedStyle(document.querySelector('article img')).colorScheme"


@pytest.fixture(scope="module", params=["light", "dark"])
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    with PICTURES["browser"](request.param) as driver:
        driver.scheme = request.param
        yield driver


def wait_until(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(script))


def test_the_search_knows_every_variable(browser: Any) -> None:
    browser.get(f"{(SITE / 'search.html').as_uri()}?q=vm_share_tag")
    assert any("docs/collection/vm_role.html" in link for link in wait_until(browser, FOUND))
    assert len(VARIABLES) > 100
    assert browser.execute_script(UNKNOWN, sorted(VARIABLES)) == []


def test_the_picture_on_the_front_page_follows_the_theme(browser: Any) -> None:
    browser.get((SITE / "docs/index.html").as_uri())
    assert browser.execute_script(SCHEME) == {"light": "normal", "dark": "dark"}[browser.scheme]
    browser.execute_script("document.body.dataset.theme = 'dark'")
    assert browser.execute_script(SCHEME) == "dark"
    browser.execute_script("document.body.dataset.theme = 'light'")
    assert browser.execute_script(SCHEME) == "normal"
