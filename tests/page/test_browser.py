"""The page in a real browser, from ``file://``, offline: loads, filters, selects, keys, downloads, and runs nothing of the data."""

import csv
import os
import shutil

import numpy as np
import polars as pl
import pytest

import unseen
from unseen.curate.copying import apply
from unseen.page.build import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
FAST = {"estimator": "turnover", "hidden": (64,), "epochs": 3, "batch_size": 32}
ATTACK = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no chromium: `apt-get install chromium` (in CI this is a failure)"
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI needs chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return unseen.score("digits", out=tmp_path_factory.mktemp("browser") / "run", random_labels=0.1, **FAST)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attack")
    random = np.random.default_rng(0)
    names = {"id": [f'"{ATTACK}",{n}' for n in range(90)], f"a{ATTACK}": random.normal(size=90), "label": [ATTACK, '=1+1,"x"', "ok"] * 30}
    pl.DataFrame(names).write_csv(folder / "table.csv")
    examples = unseen.load(str(folder / "table.csv"), target="label", id_column="id")
    return unseen.score(examples, out=folder / "run", **FAST), examples


@pytest.fixture
def open_page(browser):
    """Opens a file, offline; every message of its console and every request that is not the file itself is an error."""
    contexts, complaints = [], []

    def opened(path, **options):
        context = browser.new_context(offline=True, accept_downloads=True, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith(("http", "ws")) else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=20_000)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def counted(page):
    return int(page.text_content("#count").split()[0].replace(",", ""))


def decisions(page, tmp_path):
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / download.value.suggested_filename)
    with (tmp_path / "decisions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][3] == "data" and len({row[3] for row in rows[1:]}) == 1  # of which data they are
    return [row[:3] for row in rows]


def drag(page, selector, start, end):
    box = page.locator(selector).bounding_box()
    page.mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=4)
    page.mouse.up()


def pixels(page, canvas):
    """Number of pixels of a canvas that are not transparent."""
    script = "id => { const c = document.getElementById(id); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    return page.evaluate(script + " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n }", canvas)


def test_it_draws_and_filters(run, open_page):
    page = open_page(report(run))
    scores = run.scores.filter("trained")
    assert counted(page) == len(scores) and page.locator(".card").count() == 24
    assert all(pixels(page, canvas) > 2000 for canvas in ("histogram", "map", "losses"))
    assert page.locator("#loss-curves path").count() == 6 and page.locator("#confusion td.agree").count() == 10
    first = scores.sort("memorization", descending=True).row(0, named=True)
    card = page.locator(".card").first
    assert card.locator(".id").text_content() == first["id"] and float(card.locator(".score").text_content()) == pytest.approx(
        first["memorization"], abs=0.01
    )
    page.wait_for_function(
        """() => { const c = document.querySelector('.card .thumb');
        return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0 && v < 255) }"""
    )
    page.select_option("#class", "3")
    assert counted(page) == (scores["given_label"] == 3).sum()
    page.fill("#low", "1")
    assert counted(page) == scores.filter(pl.col("given_label") == 3, pl.col("memorization") >= 1).height
    page.select_option("#column", "loss_unseen")
    page.fill("#high", "0.5")
    assert counted(page) == pytest.approx(scores.filter(pl.col("given_label") == 3, pl.col("loss_unseen") <= 0.5).height, abs=1)
    page.click("#clear")
    page.fill("#search", first["id"])
    page.wait_for_function(
        "() => document.getElementById('count').textContent.startsWith('1 ') || document.querySelectorAll('.card').length < 24"
    )
    assert first["id"] in page.locator(".card .id").all_text_contents()


def test_lists_classes_and_cells(run, open_page):
    page = open_page(report(run))
    page.click('#lists [data-list="easy"]')
    assert (
        page.locator(".card .id").first.text_content()
        == run.scores.filter("trained").sort("memorization", "index", descending=[False, True])["id"][0]
    )
    page.click('#lists [data-list="suspects"]')
    assert 0 < counted(page) < len(run.scores)
    page.click('#lists [data-list="memorized"]')
    page.locator("#confusion td.differ button").first.click()
    told = page.locator("#confusion button[aria-pressed=true]").get_attribute("aria-label")
    assert counted(page) == int(told.rsplit(" ", 1)[1])
    page.keyboard.press("Escape")
    page.locator(".class-row").first.click()
    assert page.input_value("#class") != "" and counted(page) < len(run.scores) / 5
    page.click("#clear")
    page.locator(".mini").first.click()
    assert page.evaluate("document.activeElement.className") == "card" and counted(page) == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "keep"
    page.click("#clear")
    assert counted(page) == len(run.scores.filter("trained"))


def test_a_sampled_page_counts_what_it_stands_for(run, open_page, tmp_path):
    page = open_page(report(run, out=tmp_path / "sampled.html", points=300))
    trained = len(run.scores.filter("trained"))
    assert counted(page) == 300 and f"300 of the {trained:,} examples" in page.text_content("#sampled")
    cells = page.locator("#confusion button").evaluate_all(
        "all => all.map(b => +b.getAttribute('aria-label').split('≈ ')[1].replace(',', ''))"
    )
    assert sum(cells) == pytest.approx(trained, rel=0.05)


def test_selecting_in_a_chart_shows_the_cards(run, open_page):
    page = open_page(report(run))
    whole = counted(page)
    page.locator("#map").scroll_into_view_if_needed()
    drag(page, "#map", (0.08, 0.4), (0.98, 0.88))
    chosen = page.evaluate("state.selection")
    scores = run.scores.filter("trained")
    inside = scores.filter(
        pl.col("variability").is_between(chosen["x0"], chosen["x1"]), pl.col("confidence").is_between(chosen["y0"], chosen["y1"])
    )
    assert 0 < counted(page) < whole and counted(page) == pytest.approx(len(inside), abs=2)
    page.keyboard.press("Escape")
    assert counted(page) == whole
    page.locator("#histogram").scroll_into_view_if_needed()
    drag(page, "#histogram", (0.5, 0.5), (0.9, 0.6))
    assert 0 < counted(page) < whole


def test_keys_decide_and_the_decisions_download(run, open_page, tmp_path):
    page = open_page(report(run))
    ids = page.locator(".card .id").all_text_contents()
    unseen_says = dict(run.scores.select("id", "predicted_unseen").iter_rows())
    page.locator(".card").first.focus()
    for key in "kdrr":
        page.keyboard.press(key)
    assert page.evaluate("+document.activeElement.dataset.i") == 4  # each key moved on
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    assert "3 decided: 1 keep, 1 drop, 1 relabel" in page.text_content("#progress")
    expected = [["id", "decision", "label"], [ids[0], "keep", ""], [ids[1], "drop", ""], [ids[2], "relabel", str(unseen_says[ids[2]])]]
    assert decisions(page, tmp_path) == expected
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert "3 decided" in page.text_content("#progress")  # the browser keeps them
    page.locator('.card select[aria-label="New label"]').select_option("7")
    page.click('#lists [data-list="decided"]')
    assert counted(page) == 3 and decisions(page, tmp_path)[3] == [ids[2], "relabel", "7"]


def test_an_attackers_names_are_text(attacked, open_page, tmp_path):
    run, examples = attacked
    page = open_page(report(run, data=examples))
    assert page.title() != "owned" and page.locator("img").count() == 0 and page.locator("script").count() == 2
    assert ATTACK in page.locator("#class option").all_text_contents() and ATTACK in page.locator(".card .id").first.text_content()
    page.locator(".card .relabel").first.click()
    row = decisions(page, tmp_path)[1]
    names = dict(run.scores.select("id", "predicted_unseen").iter_rows())
    assert row == [page.locator(".card .id").first.text_content(), "relabel", examples.classes[names[row[0]]]]
    assert page.title() != "owned"


def test_the_decisions_go_through_apply(open_page, tmp_path):
    random = np.random.default_rng(0)
    pl.DataFrame({"a": random.normal(size=90), "b": random.normal(size=90), "kind": [ATTACK, 'a "b", c', "ok"] * 30}).write_csv(
        tmp_path / "in.csv"
    )
    run = unseen.score(str(tmp_path / "in.csv"), target="kind", out=tmp_path / "run", **FAST)
    page = open_page(report(run))
    page.locator(".card").first.focus()
    page.keyboard.press("d")
    page.keyboard.press("r")
    (dropped, _, _), (relabelled, _, label) = decisions(page, tmp_path)[1:]
    counts = apply(tmp_path / "decisions.csv", tmp_path / "in.csv", tmp_path / "out.csv", target="kind")
    before, after = pl.read_csv(tmp_path / "in.csv"), pl.read_csv(tmp_path / "out.csv")
    row = int(relabelled.removeprefix("row/"))
    assert len(after) == 89 and label in (ATTACK, 'a "b", c', "ok") and sum(counts.values()) == 90
    assert after["kind"][row - (int(dropped.removeprefix("row/")) < row)] == label
    assert (before["a"].is_in(after["a"].implode())).sum() == 89
    before.reverse().write_csv(tmp_path / "in.csv")
    with pytest.raises(unseen.UnseenError, match="decides on other data"):
        apply(tmp_path / "decisions.csv", tmp_path / "in.csv", tmp_path / "again.csv", target="kind")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390), ("dark", 390)])
def test_themes_and_widths(run, open_page, scheme, width):
    page = open_page(report(run), color_scheme=scheme, viewport={"width": width, "height": 844})
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    assert (before == "rgb(20, 23, 26)") == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.click("#theme")
    assert page.evaluate(ground) != before


def test_every_control_has_a_name(run, open_page):
    page = open_page(report(run))
    script = """() => [...document.querySelectorAll('button, select, input, canvas, [role=img]')].filter(e =>
      !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent.trim() || e.title)).map(e => e.outerHTML)"""
    assert page.evaluate(script) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the examples"
