"""The paper's figures at tiny scale, and what their claims are made of on planted curves."""

import json
from pathlib import Path

import polars as pl
import pytest

from unseen import UnseenError
from unseen.cli import main
from unseen.recipes import NAMES, cook, fig3, fig9, recipe_of, train
from unseen.recipes.claims import FIELDS, check, markdown, read_claims, with_table
from unseen.recipes.pieces import Piece, in_order
from unseen.recipes.pool import train_pieces
from unseen.recipes.study import area_between, final_memorization

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cooked(tmp_path_factory):
    """All recipes at tiny scale: the folder of the results and that of the runs."""
    folder = tmp_path_factory.mktemp("recipes")
    assert main(["recipe", "all", "--scale", "tiny", "--out", str(folder / "out"), "--runs", str(folder / "runs")]) == 0
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_draws_its_figure_and_checks_its_claims(cooked, name):
    folder = cooked / "out" / "tiny" / name
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG") and "<svg" in (folder / "figure.svg").read_text()
    claims = json.loads((folder / "claims.json").read_text())
    assert claims and all(set(FIELDS) <= set(claim) and claim["figure"] == name and claim["scale"] == "tiny" for claim in claims)
    for claim in claims:
        reached = claim["low"] >= claim["threshold"] if claim["at_least"] else claim["high"] <= claim["threshold"]
        assert claim["holds"] == reached and claim["low"] - 1e-9 <= claim["number"] <= claim["high"] + 1e-9


@pytest.mark.parametrize("claim", ["(b) memorization tells wrong labels from right ones: AUROC", "easy is learned faster"])
def test_what_the_paper_says_of_random_labels_holds_on_digits(cooked, claim):
    found = [row for row in read_claims(cooked / "out" / "tiny") if row.claim.startswith(claim)]
    assert len(found) == 1 and found[0].holds and found[0].seeds == 3


def test_what_is_there_is_not_trained_again(cooked, capsys):
    before = {path: path.stat().st_mtime_ns for path in (cooked / "runs").rglob("*.parquet")}
    (claims,) = cook(("fig4",), "tiny", cooked / "again", cooked / "runs")
    assert {path: path.stat().st_mtime_ns for path in (cooked / "runs").rglob("*.parquet")} == before
    assert [claim for claim in read_claims(cooked / "out" / "tiny") if claim.figure == "fig4"] == claims


def test_the_pieces_are_all_that_is_trained(cooked):
    pieces = in_order(piece for name in NAMES for piece in recipe_of(name).pieces("tiny"))
    assert {piece.folder(cooked / "runs" / "tiny") for piece in pieces} == set((cooked / "runs" / "tiny").iterdir())


def test_pieces_side_by_side_give_the_same_claims(cooked, tmp_path):
    said = []
    with pytest.raises(UnseenError, match=r"--minutes is 0, in which none of the 3 runs"):
        train(("fig6",), "tiny", 0, tmp_path / "runs")
    assert train(("fig6", "fig8"), "tiny", 10, tmp_path / "runs", jobs=2, say=said.append) == ["fig6", "fig8"]
    assert said[-1].startswith("3 of 3 runs are there") and train(("fig8",), "tiny", 0, tmp_path / "runs") == ["fig8"]
    for claims in cook(("fig8", "fig6"), "tiny", tmp_path / "out", tmp_path / "runs"):
        before = [claim for claim in read_claims(cooked / "out" / "tiny") if claim.figure == claims[0].figure]
        assert [claim.number for claim in claims] == pytest.approx([claim.number for claim in before], abs=0.02)


def test_a_piece_that_fails_leaves_the_others(tmp_path):
    good = Piece("good", {"data": "digits", "hidden": (16,), "epochs": 1})
    bad = Piece("bad", {"data": "nowhere", "hidden": (16,), "epochs": 1})
    after = Piece("after", {"data": "digits", "hidden": (16,), "epochs": 1, "train_on": "easy:0.5"}, bad)
    said = []
    assert train_pieces([bad, after, good], tmp_path, None, 60, 1, said.append) == [good]
    assert any("bad: " in line and "nowhere" in line for line in said)
    assert sum("after: the scores it needs" in line for line in said) == 1
    with pytest.raises(UnseenError, match="3 of 3 runs could not be trained"):
        train(("fig6",), "small", 5, tmp_path / "runs", data_dir=tmp_path, say=said.append)


def test_a_stopped_recipe_goes_on_to_the_same_claims(cooked, monkeypatch, tmp_path):
    import unseen.scoring.estimators.one_network as one_network

    measured, real = [], one_network.measure

    def stopping(*args, **kwargs):
        measured.append(1)
        if len(measured) == 5:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(one_network, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        list(cook(("fig7",), "tiny", tmp_path / "out", tmp_path / "runs"))
    (claims,) = cook(("fig7",), "tiny", tmp_path / "out", tmp_path / "runs")
    assert claims == [claim for claim in read_claims(cooked / "out" / "tiny") if claim.figure == "fig7"]


def test_bad_recipes_are_refused(capsys, tmp_path):
    assert main(["recipe", "fig1", "--out", str(tmp_path)]) == 2
    assert "fig2, fig3" in capsys.readouterr().err
    with pytest.raises(UnseenError, match="tiny, small, paper"):
        next(cook(("fig2",), "huge"))
    (tmp_path / "fig2").mkdir()
    (tmp_path / "fig2" / "claims.json").write_text('[{"figure": 1}]')
    with pytest.raises(UnseenError, match="does not hold claims"):
        read_claims(tmp_path)


def curves(**values):
    """One seed's curves: subset_side=[accuracy per epoch]."""
    rows = [
        {
            "seed": 0,
            "epoch": epoch,
            "subset": name.rpartition("_")[0],
            "side": name.rpartition("_")[2],
            "accuracy": value,
            "loss": 1 - value,
        }
        for name, heights in values.items()
        for epoch, value in enumerate(heights, 1)
    ]
    return pl.DataFrame(rows)


def test_a_peak_is_found_where_it_was_planted():
    planted = curves(test_seen=[0.5, 0.9, 0.8, 0.7], easy_seen=[0.4, 0.95, 1, 1], difficult_seen=[0.1, 0.2, 0.6, 0.9])
    found = fig3._at_peak(planted, 0)
    assert found == pytest.approx({"easy": 0.95, "difficult": 0.2, "epoch": 2, "fall": 0.2})
    assert area_between(planted, "easy", "difficult") == pytest.approx([(0.4 + 0.95 + 2 - 1.8) / 4])


@pytest.mark.parametrize(("heights", "share"), [([0.1, 0.5, 0.9, 0.9], 0.75), ([0.9, 0.9, 0.9, 0.9], 0.25), ([0.9, 0.1, 0.9, 0.5], 1.0)])
def test_when_a_curve_settles(heights, share):
    assert fig9._settled(curves(**{"training examples_seen": heights}), "seen", 0) == share


def test_memorization_of_the_last_epoch():
    history = pl.DataFrame(
        {"seed": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "index": [5, 5, 5, 5], "loss_seen": [1.0, 2, 3, 4], "loss_unseen": [9.0, 5, 9, 6]}
    )
    assert final_memorization(history)["memorization"].to_list() == [3, 2]


def test_claims():
    assert check("f", "tiny", "c", [0.6, 0.7], at_least=0.6).holds and not check("f", "tiny", "c", [0.5, 0.9], at_least=0.6).holds
    assert not check("f", "tiny", "c", [float("nan")], at_most=1).holds
    assert "**fails**" in markdown([check("f", "tiny", "c", [0.5], at_least=0.6)])
    alone = check("f", "small", "c", [0.5], at_least=0.6, needs_paper_scale=True, why="too few images")
    assert "**paper scale only**: too few images" in markdown([alone]) and not alone.holds
    assert check("f", "paper", "c", [0.5], at_least=0.6, needs_paper_scale=True).verdict == "fails"
    assert check("f", "small", "c", [0.7], at_least=0.6, needs_paper_scale=True, why="no").why == ""


def test_the_table_in_the_docs_is_the_one_that_was_measured():
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page == with_table(page, read_claims(ROOT / "docs" / "results" / "small"))
