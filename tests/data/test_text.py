import math
from collections import Counter

import polars as pl
import pytest
import torch

import unseen
from unseen import UnseenError
from unseen.cli import main
from unseen.curate.lists import easy
from unseen.data.text import BUCKETS, bags, features
from unseen.page.loading import load_examples

GOOD = ["a fine film", "good fun and a warm heart", "a joy", "warm and funny", "fine and good"]
BAD = ["a dull mess", "bad and boring", "a waste", "boring, dull, long", "bad bad bad"]


def test_bags_are_the_weights_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = GOOD + BAD
    table = bags(texts)
    assert table[..., 0].max() < BUCKETS and (table[..., 0] == table[..., 0].round()).all()
    torch.testing.assert_close(table[..., 1].norm(dim=1), torch.ones(len(texts)))
    slow = TfidfVectorizer(analyzer=features, sublinear_tf=True).fit_transform(texts)
    compared = 0
    for row, text in enumerate(texts):
        weights = table[row, :, 1][table[row, :, 1] > 0]
        if len(weights) == len(set(features(text))):  # no two features of this text share a bucket
            compared += 1
            assert sorted(weights.tolist()) == pytest.approx(sorted(slow[row].data), abs=0.01)
    assert compared > 5
    assert Counter(features("Bad, bad"))["bad"] == 2 and math.isclose(float(bags(["x", "y"])[0, :, 1].norm()), 1, abs_tol=1e-6)


@pytest.fixture
def table(tmp_path):
    rows = [(text, label) for label, part in (("good", GOOD), ("bad", BAD)) for text in part] * 4
    frame = pl.DataFrame({"sentence": [f"{text} {i}" for i, (text, _) in enumerate(rows)], "mood": [label for _, label in rows]})
    frame.write_csv(tmp_path / "films.csv")
    return tmp_path / "films.csv"


OPTIONS = {"text": "sentence", "target": "mood", "epochs": 3}


def test_sentences_are_scored_and_kept(table, tmp_path, capsys):
    run = unseen.score(str(table), out=tmp_path / "run", **OPTIONS)
    assert run.config.network.model == "text" and run.config.training.precision == "32" and run.classes == ("bad", "good")
    joined = run.scores.join(run.examples, on="index")
    source = pl.read_csv(table)
    assert all(source["sentence"][index] == text for index, text in zip(joined["index"], joined["text"], strict=True))
    assert main(["report", str(run.path)]) == 0
    assert "neither pictures nor rows" not in (run.path / "report.html").read_text()
    assert load_examples(run)[0].texts == run.examples["text"].to_list()
    assert main(["influence", str(run.path), "--queries", "test[:2]", "--top", "2"]) == 0
    listed = easy(run, 1.0)
    assert len(listed) and all(source["sentence"][index] == text for index, text in zip(listed["index"], listed["text"], strict=True))
    pl.read_csv(table).write_parquet(tmp_path / "films.parquet")
    same = unseen.score(str(tmp_path / "films.parquet"), out=tmp_path / "parquet", **OPTIONS)
    assert same.scores["memorization"].equals(run.scores["memorization"])
    assert unseen.score(str(table), out=tmp_path / "run", **OPTIONS).finished  # the same configuration: found again


def test_a_file_without_header_has_numbered_columns(tmp_path):
    (tmp_path / "rows.tsv").write_text("".join(f'{label}\t{text} "quoted\n' for label, part in ((1, GOOD), (0, BAD)) for text in part))
    examples = unseen.load(tmp_path / "rows.tsv", text="column_2", target="column_1", test_fraction=0.0)
    assert len(examples) == 10 and examples.texts[0] == 'a fine film "quoted' and examples.select([3]).texts == ['warm and funny "quoted']


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "sentence", "target": "mood", "precision": "bf16"}, "cannot hold the numbers of a text's features"),
        ({"text": "sentence", "target": "mood", "random_inputs": "gaussian"}, "texts have neither pixels nor numbers"),
        ({"text": "words", "target": "mood"}, "no column 'words' for text. Allowed: sentence, mood"),
        ({"text": "sentence", "target": "mood", "model": "vgg11"}, "vgg11 needs images"),
        ({"text": "sentence", "target": "mood", "model": "text", "estimator": "head"}, "trains no network; --model is 'text'"),
        ({"text": "sentence", "target": "mood", "model": "vgg11", "estimator": "head"}, "trains no network; --model is 'vgg11'"),
        ({"target": "mood", "model": "text"}, "needs texts.*--text COLUMN"),
        ({"text": "length", "target": "mood"}, "'length' has type Int64. Allowed for text: strings"),
    ],
)
def test_what_is_no_text_is_refused(options, message, table):
    pl.read_csv(table).with_columns(length=pl.col("sentence").str.len_chars().cast(pl.Int64)).select(
        "sentence", "mood", *(["length"] if options.get("text") == "length" else [])
    ).write_csv(table)
    with pytest.raises(UnseenError, match=message):
        unseen.score(str(table), out=table.parent / "run", **options)


def test_a_model_that_is_asked_for_is_trained(table, tmp_path):
    run = unseen.score(str(table), "text", text="sentence", target="mood", out=tmp_path / "run")
    assert run.summary["estimator"] == "turnover"


def test_empty_texts_and_texts_for_the_wrong_model_are_named():
    with pytest.raises(UnseenError, match="row 1 is empty"):
        bags(["a", " "])
    with pytest.raises(UnseenError, match="needs texts.*--text COLUMN"):
        unseen.score("digits", "text")
