"""The page for everybody: axe-core finds nothing, first things are in view, a thumb is enough."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from browsing import counted

from unseen.page.build import report

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
AXE = "async () => (await axe.run(document)).violations.map(v => [v.id, v.nodes.map(n => n.target.join(' ') + ': ' + n.failureSummary)])"


@pytest.fixture(scope="module")
def page_file(run):
    return report(run)


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core: of the installed package that holds it, else by npm."""
    if found := find_spec("axe_playwright_python"):
        return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm"):
        subprocess.run(["npm", "pack", "axe-core@4"], cwd=folder, capture_output=True, timeout=60, check=False)
        for packed in folder.glob("*.tgz"):
            shutil.unpack_archive(packed, folder, filter="data")
            return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")
    assert not os.environ.get("CI"), "CI needs axe-core: pip install axe-playwright-python"
    pytest.skip("no axe-core: `pip install axe-playwright-python` (in CI this is a failure)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(page_file, open_page, axe, scheme, size):
    page = open_page(page_file, color_scheme=scheme, viewport=size)
    for key in "kdrs":
        page.keyboard.press(key)
    page.locator(".pick input").first.click()
    page.evaluate(axe)
    assert page.evaluate(AXE) == []
    for chart in ("pairs", "classes", "epochs"):
        page.evaluate("chart => { location.hash = '#chart=' + chart + '&list=suspects&search=1&class=3&said=3' }", chart)
        if size is PHONE:
            page.click('#thumb [data-view="side"]')
        page.wait_for_function("chart => state.chart === chart", arg=chart)
        assert page.evaluate(AXE) == []
    if size is PHONE:
        page.click('#thumb [data-view="about"]')
        assert page.evaluate(AXE) == []
        page.click('#thumb [data-view="work"]')
    page.evaluate("() => { location.hash = '#list=memorized' }")
    page.wait_for_function("() => state.list === 'memorized'")
    page.keyboard.press("Enter")
    assert page.evaluate(AXE) == []


def box(page, selector):
    return page.locator(selector).first.bounding_box()


def test_list_filter_sort_and_cards_are_in_view_together(page_file, open_page):
    page = open_page(page_file, viewport=DESKTOP)
    for selector in ("#headline", "#lists", "#class", "#sort", ".card", "#canvas"):
        found = box(page, selector)
        assert found["y"] >= 0 and found["y"] + min(found["height"], 60) <= 900, selector
    card = box(page, ".card")
    assert card["y"] + card["height"] <= 900
    page.mouse.wheel(0, 3000)
    page.wait_for_function("() => scrollY > 1000")
    for selector in ("#lists", "#class", "#sort", "#canvas"):
        found = box(page, selector)
        assert found["y"] >= 0 and found["y"] + min(found["height"], 60) <= 900, selector


def test_a_thumb_is_enough(page_file, open_page):
    page = open_page(page_file, viewport=PHONE, has_touch=True, is_mobile=True)
    assert box(page, ".card")["y"] < 2 * 844 - 200  # on the second screen at the latest
    for selector in (".card .keep", ".card .drop", ".card .skip", "#thumb button"):
        found = box(page, selector)
        assert found["height"] >= 44 and found["width"] >= 44, selector
    page.locator(".card .keep").first.tap()
    page.locator(".card .body .thumb").nth(1).tap()
    page.locator("#large .drop").tap()
    assert page.evaluate("[...decided.values()].map(d => d.decision)") == ["keep", "drop"]
    page.locator('#large [aria-label="Close"]').tap()
    page.locator('#thumb [data-view="side"]').tap()
    page.locator("#lasso").tap()
    page.evaluate(
        """() => {
      const canvas = document.getElementById('canvas'), r = canvas.getBoundingClientRect()
      const spot = (x, y) => ({clientX: r.left + x * r.width, clientY: r.top + y * r.height})
      const fire = (type, x, y) => {
        canvas.dispatchEvent(new PointerEvent(type, {pointerType: 'touch', pointerId: 1, button: 0, ...spot(x, y)}))
      }
      canvas.setPointerCapture = () => {}
      fire('pointerdown', .1, .1)
      for (const [x, y] of [[.6, .1], [.6, .6], [.1, .6]]) fire('pointermove', x, y)
      fire('pointerup', .1, .6)
    }"""
    )
    page.locator('#thumb [data-view="work"]').tap()
    assert 0 < counted(page) < 1403 and page.evaluate("document.documentElement.scrollWidth") == 390


def test_every_control_has_a_name(page_file, open_page):
    page = open_page(page_file)
    script = """() => [...document.querySelectorAll('button, select, input, textarea, canvas, [role=img]')].filter(e =>
      !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent.trim() || e.title)).map(e => e.outerHTML)"""
    assert page.evaluate(script) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the examples"


def test_an_address_that_comes_while_the_last_one_is_written_is_followed(page_file, open_page):
    """The page writes its own address a moment after each change; that must not undo one that came meanwhile."""
    page = open_page(page_file, viewport=DESKTOP)
    page.evaluate("() => { location.hash = '#list=memorized'; history.replaceState(null, '', '#list=suspects') }")
    page.wait_for_function("() => state.list === 'memorized'", timeout=5000)
