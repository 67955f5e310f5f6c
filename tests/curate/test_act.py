"""The loop from scores to a cleaned data set, and the bridges to other tools, on one small run."""

import json
import re
import sys

import numpy as np
import polars as pl
import pytest
import torch

import unseen
from unseen.cli import main
from unseen.curate import bridges
from unseen.curate import lists as curate
from unseen.curate.copying import apply
from unseen.curate.pruning import chosen, curve, prune
from unseen.judge.planting import selfcheck, sentence
from unseen.scoring import loggers
from unseen.scoring.inputs import run_examples

UnseenError = unseen.UnseenError
FAST = {"estimator": "members", "members": 8, "epochs": 8, "hidden": (64,), "lr": 0.2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return selfcheck("digits", out=tmp_path_factory.mktemp("act") / "check", **FAST)


def test_selfcheck_finds_what_it_planted(run):
    facts = run.read_json("selfcheck.json")
    assert facts["planted"] == round(0.05 * len(run.scores)) and facts["precision_at_n"] > 0.8 and facts["suggestion_right"] > 0.9
    curve = facts["curve"]
    assert curve[0]["recall"] == 1 and 0.04 < curve[0]["precision"] < 0.06 and len(curve) < 450
    assert "can be trusted" in facts["sentence"] or "second look" in facts["sentence"]
    assert (run.path / "selfcheck.png").read_bytes().startswith(b"\x89PNG")
    wrong = (run.scores["true_label"] != run.scores["given_label"]).to_numpy()
    table = curate.judged(run).sort("doubt", descending=True).head(facts["planted"])
    assert facts["precision_at_n"] == pytest.approx(wrong[np.isin(run.scores["index"], table["index"])].mean())


@pytest.mark.parametrize(
    ("found", "words"), [(0.95, "can be trusted here"), (0.7, "second look"), (0.3, "weak"), (0.06, "cannot be trusted")]
)
def test_the_sentence_is_plain(found, words):
    assert words in sentence({"precision_at_n": found, "planted": 50, "examples": 1000})


def test_selfcheck_refuses_what_says_nothing(capsys):
    with pytest.raises(UnseenError, match="At least 10 are needed"):
        selfcheck("digits", limit=100, **FAST)
    with pytest.raises(UnseenError, match="two or more"):
        selfcheck((torch.randn(300, 4), torch.zeros(300, dtype=torch.int64)), **FAST)
    for share in (0, 0.5, 2):
        with pytest.raises(UnseenError, match="share of labels to change"):
            selfcheck("digits", share=share, **FAST)
    with pytest.raises(UnseenError, match="selfcheck sets itself"):
        selfcheck("digits", random_labels=0.1, **FAST)
    assert main(["selfcheck", "digits", "--random-labels", "0.1"]) == 2 and "--share" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["suspects", "rare", "easy"])
def test_list_commands(run, name, capsys):
    assert main([name, str(run.path), "--top", "3"]) == 0
    assert "Estimated error rate of the list" in " ".join(capsys.readouterr().out.split())
    assert main([name, str(run.path), "--top", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["rows"]) == min(3, facts["examples"]) and facts["neighbours"] and 0 <= facts["error_rate"] <= 1
    assert main([name, str(run.path), "--top", "0", "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == facts["examples"] + 1
    assert main([name, str(run.path), "--json", "--csv"]) == 2 and main([name, str(run.path), "--top", "-1"]) == 2


def test_suspects_to_decisions_to_clean_data(run, tmp_path):
    found = curate.suspects(run)
    decided = found.select("id", decision=pl.lit("relabel"), label="suggested_class")
    decided.write_csv(tmp_path / "decisions.csv")
    apply(tmp_path / "decisions.csv", run.path, tmp_path / "clean.csv")
    clean = pl.read_csv(tmp_path / "clean.csv").join(run.scores.select("index", "true_label", "given_label"), on="index")
    before, after = (clean.select((pl.col(name) != pl.col("true_label")).sum()).item() for name in ("given_label", "label"))
    assert after < before / 3


def test_prune_keeps_what_it_says(run):
    table = curate.judged(run)
    total = len(table)
    hard, easy = (set(chosen(run, 0.3, order).tolist()) for order in ("hard", "easy"))
    by = dict(zip(table["index"], table["difficulty"], strict=True))
    assert len(hard) == len(easy) == round(0.3 * total) and min(by[i] for i in hard) > max(by[i] for i in easy)
    assert chosen(run, 0.5, "random").tolist() != chosen(run, 0.5, "random", seed=1).tolist()
    assert set(chosen(run, 0.2, "random").tolist()) < set(chosen(run, 0.5, "random").tolist())
    suspects = set(curate.suspects(run)["index"].to_list())
    assert suspects & hard and not suspects & set(chosen(run, 1.0, "hard", drop_suspects=True).tolist())
    counts = table.filter(pl.col("index").is_in(chosen(run, 0.5, "hard", stratify=True))).group_by("given_label").len().sort("given_label")
    wanted = table.group_by("given_label").len().sort("given_label")["len"].to_numpy() * 0.5
    assert np.abs(counts["len"].to_numpy() - wanted).max() <= 0.5
    with pytest.raises(UnseenError, match="above 0 and at most 1"):
        chosen(run, 1.5)


def test_prune_command(run, capsys):
    assert main(["prune", str(run.path), "--keep", "0.5", "--keep-easy", "--drop-suspects"]) == 0
    lines = (run.path / "keep.txt").read_text().splitlines()
    test = run.examples.filter(pl.col("split") == "test")["id"].to_list()
    assert lines[-len(test) :] == test and len(lines) - len(test) == round(0.5 * len(run.scores))
    assert lines[: -len(test)] == prune(run, 0.5, "easy", drop_suspects=True)
    assert main(["prune", str(run.path), "--keep-easy", "--random"]) == 2 and "Choose one" in capsys.readouterr().err


def test_the_curve_of_pruning(run, digits):
    table = curve(run, run_examples(run)[1], "hard", drop_suspects=True, fractions=(0.02, 1.0), seeds=2)
    mean = {
        (order, fraction): value for order, fraction, value in table.group_by("order", "fraction").agg(pl.col("accuracy").mean()).rows()
    }
    assert len(table) == 8 and min(mean[order, 1.0] for order in ("hard", "random")) > 0.8
    assert max(mean[order, 0.02] for order in ("hard", "random")) < 0.8
    assert (run.path / "prune.png").read_bytes().startswith(b"\x89PNG") and len(run.read_json("prune.json")) == 8


def test_subset(run):
    part, index = unseen.subset(run, "easy", 0.2)
    assert isinstance(part, torch.utils.data.Subset) and len(part) == len(index) == round(0.2 * len(run.scores))
    x, label = part[0]
    row = run.scores.filter(pl.col("index") == int(index[0]))
    assert x.shape == (1, 8, 8) and label == row["given_label"][0]
    difficulty = dict(zip(curate.judged(run)["index"], curate.judged(run)["difficulty"], strict=True))
    other = unseen.subset(run, "difficult", 0.2, list(range(len(run.scores))))
    assert difficulty[int(index[-1])] < difficulty[int(other[1][-1])] < difficulty[int(other[1][0])]
    assert run.scores["index"].gather([other[0][3]])[0] == other[1][3]
    assert unseen.subset(run, "suspects")[1].tolist() == curate.suspects(run)["index"].to_list()
    with pytest.raises(UnseenError, match="easy, difficult, suspects, rare"):
        unseen.subset(run, "best")
    with pytest.raises(UnseenError, match="share is 0"):
        unseen.subset(run, "easy", 0)
    with pytest.raises(UnseenError, match="3 items"):
        unseen.subset(run, "easy", 0.5, [1, 2, 3])


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")  # cleanlab's own
def test_cleanlab_takes_our_probabilities(run):
    filters = pytest.importorskip("cleanlab.filter")
    scores = run.scores
    found = filters.find_label_issues(
        scores["given_label"].to_numpy(), run.probabilities(), return_indices_ranked_by="self_confidence", n_jobs=1
    )
    wrong = (scores["true_label"] != scores["given_label"]).to_numpy()
    assert wrong[found[:50]].mean() > 0.6
    issues = unseen.to_datalab(run).get_issues("label")
    assert len(issues) == len(scores) and issues["is_label_issue"].sum() > 30
    np.testing.assert_allclose(issues["label_score"], unseen.label_quality(run)["label_quality"], atol=1e-5)
    given = [run.classes[label] for label in scores["given_label"]]
    assert [str(label) for label in issues["given_label"]] == given


def test_pandas_reads_the_tables(run):
    pandas = pytest.importorskip("pandas")
    for name in ("scores", "neighbours", "unseen_probabilities"):
        frame = pandas.read_parquet(run.path / f"{name}.parquet")
        assert list(frame.columns) == run.table(name).columns and len(frame) == len(run.table(name))


def test_export(run, tmp_path, capsys):
    assert main(["export", str(run.path), "--format", "aum", "--out", str(tmp_path / "aum_values.csv")]) == 0
    aum = pl.read_csv(tmp_path / "aum_values.csv")
    assert aum.columns == ["sample_id", "aum"] and aum["aum"].is_sorted(descending=True) and set(aum["sample_id"]) == set(run.scores["id"])
    lines = [json.loads(line) for line in bridges.export(run, "cartography").read_text().splitlines()]
    assert len(lines) == len(run.scores) and lines[0]["guid"] == run.scores["id"][0]
    fields = ["guid", "index", "threshold_closeness", "confidence", "variability", "correctness", "forgetfulness"]
    assert list(lines[0]) == fields and all(0 <= line["correctness"] <= 8 for line in lines)
    assert all((line["forgetfulness"] == 1000) == (line["correctness"] == 0) for line in lines)
    issues = pl.read_csv(bridges.export(run, "cleanlab"))
    assert issues.columns == ["index", "id", "is_label_issue", "given_label", "predicted_label", "label_quality"]
    for bad in ({"form": "parquet"}, {"form": "aum", "out": tmp_path / "no" / "file.csv"}):
        with pytest.raises(UnseenError):
            bridges.export(run, **bad)


def test_loggers_get_every_epoch(tmp_path):
    run = unseen.score("digits", out=tmp_path / "run", loggers=("csv",), **(FAST | {"epochs": 3}))
    (written,) = run.path.rglob("metrics.csv")
    metrics = pl.read_csv(written)
    assert metrics["step"].to_list() == [1, 2, 3] and metrics["accuracy_seen"][-1] > metrics["accuracy_seen"][0]
    with pytest.raises(UnseenError, match="csv, tensorboard, wandb, mlflow"):
        unseen.score("digits", out=tmp_path / "other", loggers=("paper",), **FAST)
    assert not (tmp_path / "other").exists()


def test_a_logger_that_is_not_installed_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(UnseenError, match=re.escape("pip install lightning wandb")):
        loggers.make_logger("wandb", tmp_path)
