"""The page: what it holds, what it says, and that data are never read as HTML. What it does is in ``test_report_browser``."""

import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from browsing import FAST

import unseen
from unseen.cli import main
from unseen.curate import odd_lists
from unseen.curate.lists import rare, suspects
from unseen.errors import UnseenError
from unseen.page.build import report
from unseen.page.looks import words
from unseen.page.notebook import gallery
from unseen.page.packing import pack, unpack
from unseen.page.points import PLOTTED, choose
from unseen.page.rows import rows
from unseen.page.thumbnails import sheets
from unseen.scoring import run_examples

ATTACK = "<script>document.title='owned'</script>"


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return unpack(re.search(r'id="data">([^<]*)</script>', text)[1])


@pytest.fixture(scope="module")
def page(run):
    return report(run)


def test_the_page_holds_the_scores(run, page):
    arrays, facts = data_of(page)
    scores = run.scores.filter("trained").sort("memorization", "index", descending=[True, False])
    assert page == run.path / "report.html" and facts["ids"] == scores["id"].to_list() and facts["classes"] == [str(c) for c in range(10)]
    for name in PLOTTED:
        spread = scores[name].max() - scores[name].min()
        np.testing.assert_allclose(arrays[name], scores[name].to_numpy(), atol=spread / 100_000)
    for short, name in (("given", "given_label"), ("true", "true_label"), ("said_unseen", "predicted_unseen")):
        np.testing.assert_array_equal(arrays[short], scores[name].to_numpy())
    assert (arrays["picture"] > 0).all() and facts["media"]["kind"] == "images" and "sampled" not in arrays


def test_the_curves_are_those_of_the_history(run, page):
    arrays, facts = data_of(page)
    history = run.history.filter(pl.col("index") == run.scores.filter(pl.col("id") == facts["ids"][3])["index"].item()).sort("epoch")
    curves = arrays["curves_of"].reshape(-1, 2, 3)[3] / 255 * np.log1p(facts["curves"]["largest"])
    expected = np.minimum(history.select("loss_seen", "loss_unseen").to_numpy().T, facts["curves"]["largest"])
    np.testing.assert_allclose(curves, np.log1p(expected), atol=0.02)
    whole, real, changed = facts["history"]["groups"]
    assert [group["name"] for group in (whole, real, changed)] == ["all", "real labels", "changed labels"]
    trained = run.history.join(run.scores.filter("trained").select("index"), on="index")
    assert whole["loss_unseen"][-1] == pytest.approx(trained.filter(pl.col("epoch") == 3)["loss_unseen"].mean(), rel=1e-4)
    assert whole["correct_seen"][-1] == pytest.approx(run.summary["accuracy_seen"], abs=1e-4)


def test_the_overview_says_how_far_to_trust(page):
    text = page.read_text(encoding="utf-8")
    said = ("AUROC", "never trained", "--seeds 3", "output.bias", "probably wrong labels?", "turn-over dropout", "Seen accuracy")
    assert re.search(r"<h1 id=\"headline\">About [0-9]+ of 1,403 labels are wrong \([0-9]+ to [0-9]+\).</h1>", text)
    for part in said:
        assert part in text


def test_the_lists_are_those_of_the_command(run, page):
    arrays, facts = data_of(page)
    for name, find in (("suspects", suspects), ("rare", rare)):
        assert [facts["ids"][place] for place in arrays[f"list_{name}"]] == find(run)["id"].to_list()
        assert "Estimated share" in facts["qualities"][name] or not len(find(run))


def test_nothing_comes_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src &#39;none&#39;" in policy and "unsafe" not in policy and "http" not in policy
    assert set(re.findall(r"https?://[^\s\"'<>]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_pack_is_undone_by_unpack():
    arrays = {
        "f": np.array([0.5, np.nan, -3.0, 9.0], np.float32),
        "i": np.arange(300, dtype=np.uint16),
        "same": np.full(3, 2.5),
        "none": np.zeros(0),
    }
    back, facts = unpack(pack(arrays, {"name": "</script>é"}))
    assert facts == {"name": "</script>é"} and np.isnan(back["f"][1])
    np.testing.assert_allclose(back["f"][[0, 2, 3]], [0.5, -3.0, 9.0], atol=1e-4)
    np.testing.assert_array_equal(back["i"], arrays["i"])
    np.testing.assert_array_equal(back["same"], arrays["same"])


def test_a_sample_keeps_every_extreme(run):
    count, random = 20_000, np.random.default_rng(0)
    values = {name: random.exponential(size=count).astype(np.float32) for name in PLOTTED}
    scores = pl.DataFrame({"index": np.arange(count), "given_label": random.integers(5, size=count)} | values)
    listed = pl.Series([17, 4711])
    rows, weights = choose(scores, [listed], 2000)
    kept = scores[rows]
    assert len(rows) == 2000 and weights.sum() == pytest.approx(count, rel=1e-4) and set(listed) <= set(kept["index"])
    for name in PLOTTED:
        assert kept[name].max() == scores[name].max() and kept[name].min() == scores[name].min()
    for label in range(5):
        of = pl.col("given_label") == label
        assert kept.filter(of)["memorization"].max() == scores.filter(of)["memorization"].max()
    estimate = np.average(kept["loss_seen"].to_numpy(), weights=weights)
    assert estimate == pytest.approx(scores["loss_seen"].mean(), rel=0.1)


def test_a_sampled_page_says_so(run, tmp_path):
    page = report(run, out=tmp_path / "small.html", points=200, pictures=50)
    arrays, facts = data_of(page)
    assert len(facts["ids"]) == 200 and facts["total"] == run.summary["trained"] and (arrays["picture"] > 0).sum() == 50
    assert "This page holds 200 of the 1,4" in page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A table whose class names, column names and cells are an attack."""
    folder = tmp_path_factory.mktemp("attack")
    random = np.random.default_rng(0)
    frame = pl.DataFrame({f"<b>{ATTACK}": random.normal(size=120), "b": random.normal(size=120), "label": [ATTACK, 'a"quote', "ok"] * 40})
    frame.write_csv(folder / "table.csv")
    return unseen.score(str(folder / "table.csv"), target="label", out=folder / "run", **FAST)


def test_names_are_shown_and_not_run(attacked):
    page = report(attacked)
    text = page.read_text(encoding="utf-8")
    assert ATTACK not in text and text.count("<script") == 2
    arrays, facts = data_of(page)
    assert ATTACK in facts["classes"] and facts["media"]["kind"] == "rows" and f"<b>{ATTACK}" in facts["media"]["names"]
    row = facts["media"]["rows"][arrays["picture"][0] - 1]
    assert row[-1] == facts["classes"][arrays["given"][0]]
    assert ATTACK not in gallery(attacked)


def test_without_the_data_the_page_says_how_to_get_them(tmp_path):
    x, y = torch.rand(50, 1, 6, 6), torch.arange(50) % 2
    run = unseen.score((x, y), out=tmp_path / "run", **FAST)
    page = report(run)
    assert "report(run, data=" in page.read_text(encoding="utf-8") and data_of(page)[1]["media"] is None
    shown = data_of(report(run, data=(x, y)))[1]["media"]
    assert shown["kind"] == "images" and set(shown["parts"][0]["sizes"]) == {6}
    texts = [f"text {number}" for number in range(50)]
    arrays, facts = data_of(report(run, data=texts))
    assert facts["media"]["rows"][arrays["picture"][0] - 1] == [texts[int(facts["ids"][0].split("/")[-1])]]
    with pytest.raises(UnseenError, match="data has 3 rows"):
        report(run, data=texts[:3])
    with pytest.raises(UnseenError, match="was made of"):
        report(run, data=(x + 1, y))


def test_rows_are_found_by_their_own_index():
    frame = pl.DataFrame({"index": [7, 3, 5], "word": ["seven", "three", "five"]})
    assert rows(frame, [5, 7])["rows"] == [["five"], ["seven"]]
    with pytest.raises(UnseenError, match="no 4"):
        rows(frame, [4])


def test_the_sizes_of_a_page_of_photographs(tmp_path):
    noise = torch.randint(256, (300, 3, 200, 160), dtype=torch.uint8)
    found = sheets(unseen.load((noise, torch.arange(300) % 2)), list(range(300)))
    large = found["parts"][0]
    assert large["sizes"][:2] == [102, 128] and (large["stride"], large["per"], found["ink"]) == (128, 64, False)
    assert sum(len(part["sizes"]) for part in found["parts"]) == 600


def test_small_thumbnails_follow_where_the_large_ones_are_too_many(monkeypatch):
    monkeypatch.setattr("unseen.page.thumbnails.BUDGET", 100_000)
    noise = torch.randint(256, (300, 3, 64, 64), dtype=torch.uint8)
    large, small = sheets(unseen.load((noise, torch.arange(300) % 2)), list(range(300)))["parts"]
    assert set(large["sizes"]) == {64} and set(small["sizes"]) == {32}
    assert small["start"] == len(large["sizes"]) // 2 and small["start"] + len(small["sizes"]) // 2 == 300


def test_thumbnails_come_from_the_original_files(tmp_path):
    from PIL import Image

    for number in range(12):
        folder = tmp_path / "photos" / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400, 200), (20 * number, 0, 0)).save(folder / f"{number}.png")
    run = unseen.score(str(tmp_path / "photos"), image_size=32, out=tmp_path / "runs" / "run", test_fraction=0, **FAST)
    media = data_of(report(run))[1]["media"]
    assert media["parts"][0]["sizes"][:2] == [128, 64] and media["folder"] == "../../photos"


@pytest.mark.parametrize("options", [{"estimator": "members", "members": 8}, {"seeds": 2}, {"test_fraction": 0.0}])
def test_every_kind_of_run_has_a_page(tmp_path, options):
    run = unseen.score("digits", out=tmp_path / "run", limit=300, **FAST | options)
    text = report(run).read_text(encoding="utf-8")
    assert ("different networks" in text) == ("members" in options) and ("Two seeds" in text) == ("seeds" in options)


def test_a_thousand_classes(tmp_path):
    y = torch.arange(2000) % 1000
    run = unseen.score((torch.randn(2000, 8), y), out=tmp_path / "run", **FAST | {"epochs": 1})
    assert len(data_of(report(run))[1]["classes"]) == 1000


def test_related_examples_are_shown(run, tmp_path):
    copy = unseen.Run(shutil.copytree(run.path, tmp_path / "run"))
    index = run.scores["index"]
    near = {"index": [index[5]] * 2, "rank": [1, 2], "neighbour_index": [index[1], index[2]], "similarity": [0.9, 0.8]}
    pl.DataFrame(near).write_parquet(copy.path / "neighbours.parquet")
    assert main(["influence", str(copy.path), "--queries", "train[:2]", "--top", "3"]) == 0
    facts = data_of(report(copy))[1]
    place = str(facts["ids"].index(run.scores["id"][5]))
    told = [[kind, facts["related"]["others"][number][1], value] for kind, number, value in facts["related"]["of"][place]]
    assert [one for one in told if one[0] == "nearest"] == [["nearest", run.scores["id"][1], 0.9], ["nearest", run.scores["id"][2], 0.8]]
    kinds = {kind for found in facts["related"]["of"].values() for kind, _, _ in found}
    assert kinds >= {"nearest", "helped it most", "hurt it most"}


def test_the_nearest_are_those_of_the_features(run, page):
    arrays, facts = data_of(page)
    inputs = run_examples(run, as_scored=False)[1].train
    rows = inputs.standardise(inputs.inputs).flatten(1).double()
    rows = (rows - rows.mean(0)) / rows.std(0).clamp_min(1e-9)
    rows = torch.nn.functional.normalize(rows, dim=1)
    positions = {name: k for k, name in enumerate(inputs.ids)}
    for place in (0, 7, 99):
        own = positions[facts["ids"][place]]
        told = [facts["related"]["others"][number][1] for kind, number, _ in facts["related"]["of"][str(place)] if kind == "nearest"]
        cosine = rows @ rows[own]
        cosine[own] = -2
        assert [inputs.ids[k] for k in cosine.topk(6).indices.tolist()] == told
    assert np.isfinite(arrays["look_x"]).all() and arrays["look_x"].std() > arrays["look_y"].std() > 0


def test_texts_with_the_same_words_are_near():
    texts = ["a good film", "A film, good!", "dull and long", "long, and dull", "the plot is thin", "a good film about a dull man"]
    rows = words(texts)
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[2], rows[3]) and not torch.equal(rows[0], rows[4])
    near = torch.nn.functional.normalize(rows, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T
    assert near[5, 0] > near[5, 2] > near[5, 4] - 1e-6


def test_lists_of_duplicates_leaks_and_outliers(run, page):
    arrays, facts = data_of(page)
    for name, table in odd_lists(run).items():
        column = "other_index" if name == "leaks" else "index"
        ids = dict(run.examples.select("index", "id").iter_rows())
        assert [facts["ids"][place] for place in arrays[f"list_{name}"]] == [ids[k] for k in table[column].unique(maintain_order=True)]


def test_a_report_shows_itself(page, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page.show()
    assert opened == [page.as_uri()]
    shown = []
    monkeypatch.setattr("unseen.page.notebook._display", lambda: lambda content, raw: shown.append(content["text/html"]))
    page.show(height=400)
    assert shown[0].startswith('<iframe srcdoc="&lt;!DOCTYPE') and "height:400px" in shown[0] and shown[0].count("<") == 2


def test_the_gallery_finds_its_data_from_any_folder(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for number in range(20):
        folder = tmp_path / "photos" / ("a" if number % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (12 * number, 0, 0)).save(folder / f"{number}.png")
    unseen.score("photos", out="run", test_fraction=0, **FAST)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert gallery(unseen.open_run("../run")).count("data:image/png") == 12


def test_the_notebook_shows_pictures(run, attacked):
    html = run._repr_html_()
    assert html.count("data:image/png") == 12 and "nan" not in html
    assert "<table" in attacked._repr_html_() and "scores is not there" not in html


def test_bad_input(run, tmp_path, capsys):
    assert main(["report", str(run.path), "--points", "5"]) == 2 and "--points is 5" in capsys.readouterr().err
    (tmp_path / "config.json").write_text((run.path / "config.json").read_text())
    with pytest.raises(UnseenError, match="is not finished"):
        report(unseen.open_run(tmp_path))
    assert "is not there" in gallery(unseen.open_run(tmp_path))


def test_a_run_without_an_unseen_side_has_no_page(tmp_path):
    run = unseen.score("digits", out=tmp_path / "run", limit=300, **FAST | {"estimator": "plain"})
    with pytest.raises(UnseenError, match="has no unseen half"):
        report(run)
    assert "<table" in gallery(run)


def test_the_run_keeps_the_names_of_its_classes(run):
    assert run.summary["classes"] == [str(c) for c in range(10)] and run.summary["shared_parameters"] == {"output.bias": 10}
    assert json.loads((run.path / "summary.json").read_text())["parameters"] == 64 * 64 + 64 + 64 * 10 + 10
