"""Deciding in a browser: keys, undo, notes, many at once; kept, exported, imported and merged; nothing is lost."""

import csv

import numpy as np
import polars as pl
import pytest
from browsing import ATTACK, FAST, counted, shown_ids

import unseen
from unseen.curate.copying import apply
from unseen.page.build import report

FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"
HEADER = ["id", "decision", "label", "note", "reviewer", "other_decision", "other_label", "other_reviewer"]


@pytest.fixture(scope="module")
def page_file(run):
    return report(run)


def downloaded(page, path):
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "decisions.csv"
    download.value.save_as(path)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][-1] == "data" and len({row[-1] for row in rows[1:]}) == 1  # of which data they are
    return [row[:-1] for row in rows]


def reloaded(page):
    page.reload()
    page.wait_for_selector("html[data-ready]")


def test_ten_are_decided_with_few_keys(page_file, open_page):
    page = open_page(page_file)
    for presses in range(1, 41):
        page.keyboard.press("kdrs"[presses % 4])
        if page.evaluate("decided.size") == 10:
            break
    assert presses == 10 and page.evaluate("decided.size") == 10


def test_keys_decide_and_the_decisions_download(run, page_file, open_page, tmp_path):
    page = open_page(page_file)
    ids = shown_ids(page)
    unseen_says = dict(run.scores.select("id", "predicted_unseen").iter_rows())
    for key in "kdrs":
        page.keyboard.press(key)
    assert page.evaluate("+document.activeElement.dataset.i") == 4  # each key moved on
    assert "3 of 1,403 decided (1 kept, 1 dropped, 1 relabelled, 1 skipped)" in page.text_content("#progress")
    rows = [["keep", ""], ["drop", ""], ["relabel", str(unseen_says[ids[2]])], ["skip", ""]]
    expected = [HEADER] + [[name, *row, "", "", "", "", ""] for name, row in zip(ids, rows, strict=False)]
    assert downloaded(page, tmp_path / "decisions.csv") == expected
    reloaded(page)
    assert "3 of 1,403 decided" in page.text_content("#progress")  # the browser keeps them
    page.locator(".card").nth(2).locator(".classes-of").select_option("7")
    page.click('#lists [data-list="decided"]')
    assert counted(page) == 4 and downloaded(page, tmp_path / "decisions.csv")[3][:3] == [ids[2], "relabel", "7"]


def test_undo_and_redo_go_over_everything(page_file, open_page, tmp_path):
    page = open_page(page_file)
    read = "JSON.stringify([...decided])"
    states = [page.evaluate(read)]

    def noted():
        states.append(page.evaluate(read))

    page.keyboard.press("k")
    noted()
    page.keyboard.press("d")
    noted()
    page.keyboard.press("n")
    page.keyboard.type("blurred")
    page.keyboard.press("Escape")
    noted()
    page.keyboard.press("Escape")
    page.select_option("#class", "3")
    page.locator("#all").click()
    page.locator("#bulk select").select_option("8")
    noted()
    (tmp_path / "b.csv").write_text("id,decision,label\n" + "".join(f"{name},drop,\n" for name in shown_ids(page)[:3]))
    page.set_input_files("#file", tmp_path / "b.csv")
    page.wait_for_function("() => document.getElementById('message').textContent.includes('3 different')")
    noted()
    assert len(set(states)) == 6
    for expected in states[-2::-1]:
        page.locator("body").press("u")
        assert page.evaluate(read) == expected
    for expected in states[1:]:
        page.locator("body").press("Shift+U")
        assert sorted(eval_rows(page.evaluate(read))) == sorted(eval_rows(expected))


def eval_rows(text):
    import json

    return [json.dumps(row, sort_keys=True) for row in json.loads(text)]


def test_many_at_once(run, page_file, open_page):
    page = open_page(page_file, "#class=4")
    size = counted(page)
    page.keyboard.press("Shift+A")
    assert f"{size} selected" in page.text_content("#selected")
    page.keyboard.press("d")
    assert page.evaluate("[...decided.values()].filter(d => d.decision === 'drop').length") == size and not page.is_visible("#bulk")
    page.locator(".pick input").nth(0).click()
    page.locator(".pick input").nth(4).click(modifiers=["Shift"])
    page.wait_for_function("() => location.hash.split('selected=')[1]?.split('.').length === 5")
    reloaded(page)
    assert "5 selected" in page.text_content("#selected") and page.evaluate("decided.size") == size
    page.keyboard.press("k")
    assert page.evaluate("[...decided.values()].filter(d => d.decision === 'keep').length") == 5


def test_two_reviewers_are_merged(page_file, open_page, tmp_path):
    one = open_page(page_file)
    one.fill("#reviewer", "Ada")
    one.locator("#reviewer").press("Tab")
    ids = shown_ids(one)
    for key in "kddk":
        one.locator("body").press(key)
    downloaded(one, tmp_path / "ada.csv")
    two = open_page(page_file)
    for key in "kkk":
        two.keyboard.press(key)
    two.set_input_files("#file", tmp_path / "ada.csv")
    two.wait_for_function("() => document.getElementById('message').textContent.includes('ada.csv: 1 new, 1 the same, 2 different')")
    two.click('#lists [data-list="disagreements"]')
    assert shown_ids(two) == ids[1:3] and "Ada: dropped" in two.locator(".decision").first.text_content()
    rows = downloaded(two, tmp_path / "both.csv")
    assert [row[:3] + row[5:] for row in rows[1:]][1] == [ids[1], "keep", "", "drop", "", "Ada"] and len(rows) == 5
    three = open_page(page_file)  # the file alone brings all of it back
    three.set_input_files("#file", tmp_path / "both.csv")
    three.wait_for_function("() => decided.size === 4")
    assert downloaded(three, tmp_path / "again.csv") == rows
    two.locator(".card .drop").first.click()  # settled
    assert two.evaluate("[...decided.values()].filter(d => d.other).length") == 1


def test_bad_files_are_said_and_change_nothing(page_file, open_page, tmp_path):
    page = open_page(page_file)
    page.keyboard.press("k")
    (tmp_path / "a.csv").write_text("name,what\nx,keep\n")
    (tmp_path / "b.csv").write_text(f"id,decision,label\n{shown_ids(page)[1]},relabel,unicorn\n{shown_ids(page)[2]},burn,\nnowhere,drop,\n")
    page.set_input_files("#file", [tmp_path / "a.csv", tmp_path / "b.csv"])
    page.wait_for_function("() => document.getElementById('message').textContent.includes('b.csv')")
    said = page.text_content("#message")
    assert "a.csv was not read: it must have the columns id, decision and label." in said
    assert "2 rows were not understood" in said and "1 are of examples that this page does not hold" in said
    assert page.evaluate("decided.size") == 2


def test_a_full_storage_loses_nothing_and_says_so(page_file, open_page, tmp_path):
    page = open_page(page_file, before=FULL)
    for key in "kkd":
        page.keyboard.press(key)
    assert "storage is full" in page.text_content("#message") and "3 decisions" in page.text_content("#message")
    rows = downloaded(page, tmp_path / "decisions.csv")
    assert [row[1] for row in rows[1:]] == ["keep", "keep", "drop"]
    fresh = open_page(page_file)
    fresh.set_input_files("#file", tmp_path / "decisions.csv")
    fresh.wait_for_function("() => decided.size === 3")


def test_the_list_learns(page_file, open_page):
    page = open_page(page_file, "#list=suspects")
    script = """() => { const all = [...learnedChances(DATA)]; return all }"""
    page.evaluate("() => unpack(document.getElementById('data').textContent).then(data => { window.DATA = data })")
    before = page.evaluate(script)
    listed = page.evaluate("[...DATA.list_suspects]")
    given, stated = page.evaluate("[[...DATA.given], [...(DATA.stated ?? DATA.wrong_probability)]]")
    for _ in range(6):
        page.keyboard.press("k")
    after = page.evaluate(script)
    kept = listed[:6]
    whole = 2 / (sum(stated[i] for i in kept) + 2)
    for i in listed[6:30]:
        of_class = [k for k in kept if given[k] == given[i]]
        factor = 2 * whole / (sum(stated[k] for k in of_class) + 2)
        assert after[i] == pytest.approx(min(0.99, stated[i] * factor), abs=1e-4) and after[i] < before[i]
    assert "6 of" in page.text_content("#progress") and "0 wrong so far" in page.text_content("#progress")


def test_the_decisions_go_through_apply(open_page, tmp_path):
    random = np.random.default_rng(0)
    pl.DataFrame({"a": random.normal(size=90), "b": random.normal(size=90), "kind": [ATTACK, 'a "b", c', "ok"] * 30}).write_csv(
        tmp_path / "in.csv"
    )
    run = unseen.score(str(tmp_path / "in.csv"), target="kind", out=tmp_path / "run", **FAST)
    page = open_page(report(run))
    page.keyboard.press("d")
    page.keyboard.press("r")
    page.keyboard.press("s")
    (dropped, _, *_), (relabelled, _, label, *_), _ = downloaded(page, tmp_path / "decisions.csv")[1:]
    counts = apply(tmp_path / "decisions.csv", tmp_path / "in.csv", tmp_path / "out.csv", target="kind")
    before, after = pl.read_csv(tmp_path / "in.csv"), pl.read_csv(tmp_path / "out.csv")
    row = int(relabelled.removeprefix("row/"))
    assert len(after) == 89 and label in (ATTACK, 'a "b", c', "ok") and sum(counts.values()) == 90
    assert after["kind"][row - (int(dropped.removeprefix("row/")) < row)] == label
    assert (before["a"].is_in(after["a"].implode())).sum() == 89
    before.reverse().write_csv(tmp_path / "in.csv")
    with pytest.raises(unseen.UnseenError, match="decides on other data"):
        apply(tmp_path / "decisions.csv", tmp_path / "in.csv", tmp_path / "again.csv", target="kind")
