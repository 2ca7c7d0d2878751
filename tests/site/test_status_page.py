# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the status in a real browser: drawn in both colour schemes, sorted, and without an error."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
PICTURES = runpy.run_path(str(CHECKOUT / "scripts/pictures"))
REPORT = json.loads((CHECKOUT / "docs/images/status.json").read_text())
ATTACK = (
    "</script></style><script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
)
# Each guest's row, by its name and the text of the column.
CELLS = "return [...document.querySelectorAll('tbody tr')].map((row) => row.cells[arguments[0]].textContent)"
CONTRAST = """
const parts = (color) => color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
const light = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
const weights = [0.2126, 0.7152, 0.0722];
const luminance = (color) => parts(color).map(light).reduce((sum, part, i) => sum + part * weights[i], 0);
const back = luminance(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll('main *')].map((element) => {
  const [a, b] = [luminance(getComputedStyle(element).color), back].sort((a, b) => b - a);
  return (a + 0.05) / (b + 0.05);
}).reduce((least, ratio) => Math.min(least, ratio));
"""


@pytest.fixture(scope="module", params=["light", "dark"])
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    hostile = {**REPORT["guests"][0], "guest": ATTACK}
    file = tmp_path_factory.mktemp("page") / "status.html"
    file.write_text(PICTURES["status_page"]({**REPORT, "guests": [*REPORT["guests"], hostile]}))
    with PICTURES["browser"](request.param) as driver:
        driver.get(file.as_uri())
        driver.scheme = request.param
        yield driver


def test_it_is_drawn_without_an_error(browser: Any) -> None:
    assert browser.title == "Status of the guests"
    assert browser.get_log("browser") == []
    assert browser.execute_script(CELLS, 0) == [*(guest["guest"] for guest in REPORT["guests"]), ATTACK]


def test_it_follows_the_colour_scheme_and_can_be_read(browser: Any) -> None:
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[browser.scheme]
    assert browser.execute_script(CONTRAST) >= 4.5, "WCAG 2 AA"


def test_each_heading_sorts_both_ways_by_keyboard(browser: Any) -> None:
    buttons = browser.find_elements("css selector", "thead button")
    assert len(buttons) == 11
    for column, button in enumerate(buttons):
        orders = []
        for order in ("ascending", "descending"):
            button.send_keys("\ue007")  # Enter
            heading = browser.find_elements("css selector", "[aria-sort]")
            assert [element.get_attribute("aria-sort") for element in heading] == [order]
            orders.append(browser.execute_script(CELLS, column))
        assert sorted(orders[0]) == sorted(orders[1])
        assert orders[0] == orders[1][::-1] or len(set(orders[0])) < len(orders[0])
    buttons[0].send_keys("\ue007")
    names = browser.execute_script(CELLS, 0)
    assert names[1:] == sorted(names[1:])


def test_it_runs_nothing_but_its_own_script(browser: Any) -> None:
    """Even if a value were not escaped: the page's policy refuses what it does not contain."""
    inject = "const s = document.createElement('script'); s.textContent = arguments[0]; document.body.append(s)"
    browser.execute_script(inject, "document.title = 'attacked'")
    assert browser.title == "Status of the guests"
    assert "Content Security Policy" in "".join(entry["message"] for entry in browser.get_log("browser"))
