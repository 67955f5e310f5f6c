"""The page in a real browser, from ``file://``: it draws, lists, filters, sorts and selects, and runs nothing of the data."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from browsing import ATTACK, FAST, cards, counted, shown_ids

import unseen
from unseen.curate import outliers
from unseen.page.build import report


@pytest.fixture(scope="module")
def page_file(run):
    return report(run)


def drag(page, selector, spots):
    box = page.locator(selector).bounding_box()
    for k, (x, y) in enumerate(spots):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=1 if k == 0 else 4)
        if k == 0:
            page.mouse.down()
    page.mouse.up()


def pixels(page, canvas):
    """Number of pixels of a canvas that are not transparent."""
    script = "id => { const c = document.getElementById(id); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    return page.evaluate(script + " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n }", canvas)


def test_it_draws_and_filters(run, page_file, open_page):
    page = open_page(page_file)
    scores = run.scores.filter("trained")
    assert counted(page) == len(scores) and cards(page) == 24
    for chart in page.locator("#charts button").all():
        chart.click()
        drawn = page.evaluate("!document.getElementById('canvas').hidden")
        assert pixels(page, "canvas") > 1000 if drawn else page.locator("#chart > *").count() > 0
    first = scores.sort("memorization", descending=True).row(0, named=True)
    card = page.locator(".card").first
    assert card.locator(".id").text_content() == first["id"]
    assert float(card.locator(".score b").text_content()) == pytest.approx(first["memorization"], abs=0.01)
    assert card.locator(".score span").text_content() == " nats, memorization"
    page.wait_for_selector(".card .thumb[data-drawn]")
    page.select_option("#class", "3")
    assert counted(page) == (scores["given_label"] == 3).sum()
    page.fill("#low", "1")
    assert counted(page) == scores.filter(pl.col("given_label") == 3, pl.col("memorization") >= 1).height
    page.select_option("#column", "loss_unseen")
    page.fill("#high", "0.5")
    assert counted(page) == pytest.approx(scores.filter(pl.col("given_label") == 3, pl.col("loss_unseen") <= 0.5).height, abs=1)
    page.click("#clear")
    page.fill("#search", first["id"])
    page.wait_for_function("() => !document.getElementById('count').textContent.startsWith('1,')")
    assert first["id"] in shown_ids(page)
    assert page.locator(".card mark").first.text_content() == first["id"]


def test_sorted_by_what_the_card_shows(run, page_file, open_page):
    page = open_page(page_file, "#sort=loss_seen")
    scores = run.scores.filter("trained")
    expected = scores.sort("loss_seen", descending=True)["loss_seen"].head(24).to_list()
    assert [float(text) for text in page.locator(".card .score b").all_text_contents()] == pytest.approx(expected, abs=0.01)
    page.select_option("#sort", "confidence")
    found = [float(text) for text in page.locator(".card .score b").all_text_contents()]
    assert found == sorted(found) and found[0] == pytest.approx(scores["confidence"].min(), abs=0.01)
    page.select_option("#sort", "id")
    rows = [int(name.split("/")[1]) for name in shown_ids(page)]
    assert rows == sorted(rows)


def test_lists_and_the_cells_of_pairs_open_what_they_count(run, page_file, open_page):
    page = open_page(page_file, "#chart=pairs")
    page.click('#lists [data-list="easy"]')
    assert shown_ids(page)[0] == run.scores.filter("trained").sort("memorization", "index", descending=[False, True])["id"][0]
    for listed in ("suspects", "memorized"):
        page.click(f'#lists [data-list="{listed}"]')
        for k in range(3):
            cell = page.locator("#confusion td.differ button").nth(k)
            cell.click()
            told = page.locator("#confusion .confusion button[aria-pressed=true]").get_attribute("aria-label")
            assert counted(page) == int(told.rsplit(" ", 1)[1])
    page.click("#clear")
    page.click('#charts [data-chart="classes"]')
    row = page.locator("button.class-row").first
    told = row.locator(".class-count").text_content()
    row.click()
    assert page.input_value("#class") != "" and counted(page) == int(told)


def test_a_sampled_page_counts_what_it_stands_for(run, open_page, tmp_path):
    page = open_page(report(run, out=tmp_path / "sampled.html", points=300), "#chart=pairs")
    trained = len(run.scores.filter("trained"))
    assert counted(page) == 300 and f"300 of the {trained:,} examples" in page.text_content("#sampled")
    cells = page.locator("#confusion .confusion button").evaluate_all(
        "all => all.map(b => +b.getAttribute('aria-label').split('≈ ')[1].split(', ')[0].replace(',', ''))"
    )
    assert sum(cells) == pytest.approx(trained, rel=0.05)


def test_a_lasso_selects_and_the_address_keeps_it(run, page_file, open_page):
    page = open_page(page_file, "#chart=cartography")
    whole = counted(page)
    drag(page, "#canvas", [(0.2, 0.3), (0.9, 0.3), (0.9, 0.8), (0.2, 0.8)])
    some = counted(page)
    xs, ys, region = page.evaluate("[...['xs', 'ys'].map(k => [...kept.cartography[k]]), state.region.points]")
    inside = inside_polygon(np.array(xs), np.array(ys), np.array(region).reshape(-1, 2))
    assert 0 < some < whole and some == inside.sum()
    page.wait_for_function("() => location.hash.includes('region')")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert counted(page) == some
    page.keyboard.press("Escape")
    assert counted(page) == whole
    page.click('#charts [data-chart="histogram"]')
    drag(page, "#canvas", [(0.5, 0.5), (0.7, 0.55), (0.9, 0.6)])
    assert 0 < counted(page) < whole and page.input_value("#low") != ""


def inside_polygon(xs, ys, corners):
    """Which points lie in a polygon: by the sum of the angles to its corners, a rule of another kind than the page's."""
    points = np.stack([xs, ys], 1)
    turned = [np.arctan2(*(corner - points).T[::-1]) for corner in [*corners, corners[0]]]
    steps = [(b - a + np.pi) % (2 * np.pi) - np.pi for a, b in pairwise(turned)]
    return np.abs(np.sum(steps, 0)) > np.pi


def test_the_large_view(run, page_file, open_page):
    page = open_page(page_file)
    ids = shown_ids(page)
    page.locator(".card .thumb").first.click()
    assert page.text_content("#large-title") == ids[0] and page.locator("#large .thumb").first.bounding_box()["width"] >= 300
    page.keyboard.press("ArrowRight")
    assert page.text_content("#large-title") == ids[1] and page.locator("#large .kin li").count() == 6
    chances = [float(text.strip("<>%")) for text in page.locator("#large .chances > div > span:last-child").all_text_contents()]
    assert 2 <= len(chances) <= 4 and page.locator("#large .legend").text_content() == "unseen lossseen loss"
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement.className === 'card' && document.activeElement.dataset.i === '1'")
    assert not page.locator("#large").is_visible()


def test_texts_are_whole_searched_and_marked(open_page, tmp_path):
    words = ["good", "bad"] * 40
    texts = [f"a {word} film number {k} " + "with much to say " * 20 + f"end{k}." for k, word in enumerate(words)]
    pl.DataFrame({"text": texts, "label": words}).write_csv(tmp_path / "in.csv")
    run = unseen.score(str(tmp_path / "in.csv"), text="text", target="label", out=tmp_path / "run", estimator="turnover", epochs=2)
    page = open_page(report(run))
    page.fill("#search", "end17.")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 1")
    assert page.locator(".card mark").text_content() == "end17."
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    assert page.locator("#large .text").text_content() == texts[17]


def test_unusual_fields_are_marked(open_page, tmp_path):
    random = np.random.default_rng(0)
    frame = pl.DataFrame({"a": random.normal(size=400), "b": random.normal(size=400), "label": ["one", "two"] * 200})
    frame[7, "a"] = 50.0
    frame.write_csv(tmp_path / "in.csv")
    run = unseen.score(str(tmp_path / "in.csv"), target="label", out=tmp_path / "run", test_fraction=0, **FAST)
    page = open_page(report(run), "#search=row%2F7&sort=id")
    assert page.locator('.card[aria-label^="row/7,"] .unusual').first.text_content() == "ahigh 50"
    assert set(page.locator("#lists button").evaluate_all("all => all.map(b => b.dataset.list)")) >= {"duplicates", "outliers"}
    page.goto(page.url.split("#")[0] + "#list=outliers")
    page.wait_for_function("() => state.list === 'outliers'")
    assert shown_ids(page) == outliers(run)["id"].to_list()[:24]
    assert "strangeness" in page.locator(".score span").first.text_content()


def test_an_attackers_names_are_text(attacked, open_page):
    run, examples = attacked
    page = open_page(report(run, data=examples))
    assert page.title() != "owned" and page.locator("img").count() == 0 and page.locator("script").count() == 2
    assert ATTACK in page.locator("#class option").all_text_contents() and ATTACK in shown_ids(page)[0]
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    assert page.title() != "owned" and page.locator("img").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390), ("dark", 390)])
def test_themes_and_widths(page_file, open_page, scheme, width):
    page = open_page(page_file, color_scheme=scheme, viewport={"width": width, "height": 844})
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    assert (before == "rgb(20, 23, 26)") == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.click("#theme")
    assert page.evaluate(ground) != before
