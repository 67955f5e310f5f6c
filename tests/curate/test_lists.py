import json

import numpy as np
import polars as pl
import pytest

import unseen
from unseen.curate import lists as curate
from unseen.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Digits with a tenth of the labels wrong, and their nearest by pixels."""
    path = tmp_path_factory.mktemp("curate") / "run"
    options = {"estimator": "members", "members": 8, "epochs": 20, "random_labels": 0.1, "label_noise": "other"}
    run = unseen.score("digits", out=path, **options)
    images = unseen.load("digits").train.inputs.flatten(1).double().numpy()
    distances = np.square(images[:, None] - images[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1, kind="stable")[:, :10]
    index = run.scores["index"].to_numpy()
    columns = {"index": index.repeat(10), "rank": np.tile(np.arange(1, 11), len(index)), "neighbour_index": index[nearest.ravel()]}
    run.write_table("neighbours", pl.DataFrame(columns).with_columns(similarity=pl.lit(0.0)))
    return run


def test_suspects_are_wrong_and_rare_ones_are_right(run):
    found, rare = curate.suspects(run), curate.rare(run)
    assert len(found) > 80 and curate.error_rate(run, "suspects", found) == curate.ErrorRate(pytest.approx(0, abs=0.1), "known labels")
    assert len(rare) > 20 and curate.error_rate(run, "rare", rare).rate <= 0.05
    assert curate.error_rate(run, "easy", curate.easy(run)).rate == 0
    truth = run.scores.select("index", "true_label")
    assert found.join(truth, on="index").select((pl.col("true_label") == pl.col("suggested_label")).mean()).item() > 0.9


def test_lists_are_disjoint_ranked_and_of_trained_examples(run):
    lists = [make(run) for make in curate.LISTS.values()]
    indices = [set(rows["index"].to_list()) for rows in lists]
    assert not indices[0] & indices[1] and not indices[1] & indices[2] and not indices[0] & indices[2]
    assert [rows["score"].is_sorted(descending=down) for rows, down in zip(lists, (True, True, False), strict=True)] == [True] * 3
    for rows in lists:
        assert {"id", "given_label", "given_class", "suggested_label", "suggested_class", "support"} <= set(rows.columns)
    assert (lists[0]["suggested_label"] != lists[0]["given_label"]).all()


def test_neighbours_help(run, tmp_path):
    alone = Run(tmp_path)
    for name in ("config.json", "summary.json", "examples.parquet", "scores.parquet", "unseen_probabilities.parquet"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    assert curate.judged(alone)["support"].null_count() == len(alone.scores)
    assert len(curate.rare(alone)) and len(curate.suspects(alone))
    doubts = [
        curate.judged(each).select(pl.corr("doubt", pl.col("true_label") != pl.col("given_label"), method="spearman")).item()
        for each in (run, alone)
    ]
    assert doubts[0] > doubts[1]


def test_votes_are_what_counting_says(run):
    labels, index = run.scores["given_label"].to_numpy(), run.scores["index"].to_numpy()
    votes = curate.neighbour_votes(run, index, labels, 10)
    of = dict(zip(index.tolist(), labels.tolist(), strict=True))
    for place in (0, 7, 500):
        near = run.table("neighbours").filter(pl.col("index") == index[place])["neighbour_index"].to_list()
        assert votes[place].tolist() == [sum(of[i] == c for i in near) for c in range(10)]


def test_a_habit_of_confusing_two_classes_is_learned():
    """Class 0 is often called 1 by mistake, never 2: with the same evidence a 0 called 1 is doubted more than a 0 called 2."""
    random = np.random.default_rng(0)
    true = random.integers(3, size=3000)
    given = np.where((true == 0) & (random.random(3000) < 0.3), 1, true)
    evidence = np.full((3000, 3), 0.1)
    evidence[np.arange(3000), true] = 0.8
    evidence[:2], given[:2] = (0.6, 0.2, 0.2), (1, 2)
    right = curate.right_probability(evidence, given)
    assert right[0] < 0.7 < 0.9 < right[1]
    wrong = true[2:] != given[2:]
    assert right[2:][wrong].max() < right[2:][~wrong].min() and (right > 0).all()


def test_error_rates_say_where_they_come_from(run, tmp_path):
    assert curate.error_rate(run, "suspects", curate.suspects(run).head(0)).method == "empty list"
    config = json.loads((run.path / "config.json").read_text())
    for name in ("plain", "check"):
        (tmp_path / name).mkdir()
        for file in run.path.glob("*.*"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    plain = Run(tmp_path / "plain")
    plain.write_json("config.json", config | {"random_labels": 0})
    plain.write_table("scores", plain.scores.drop("true_label"))
    by_name = {name: curate.error_rate(plain, name, make(plain)) for name, make in curate.LISTS.items()}
    assert by_name["rare"].method == "noise floor" and 0 < by_name["rare"].rate < 0.1
    assert by_name["suspects"].method == by_name["easy"].method == "its own probabilities"
    Run(tmp_path / "check").write_json("selfcheck.json", {})
    known = curate.error_rate(plain, "suspects", curate.suspects(plain))
    assert str(tmp_path / "check") in known.method and known.rate == curate.error_rate(run, "suspects", curate.suspects(run)).rate
    with pytest.raises(unseen.UnseenError, match="suspects, rare, easy"):
        curate.error_rate(run, "hard", curate.rare(run))


def test_class_names_and_paths(tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    for name, level in (("cat", 60), ("dog", 160)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray((random.normal(level, 20, (8, 8)) % 256).astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    run = unseen.score(str(tmp_path / "photos"), hidden=(16,), epochs=3, batch_size=8, estimator="turnover", out=tmp_path / "run")
    assert run.classes == ("cat", "dog")
    rows = curate.easy(run, 0.3)
    assert set(rows["given_class"]) <= {"cat", "dog"} and all(path.endswith(".png") for path in rows["path"])
    assert (rows["path"][0], rows["id"][0]) == (f"{tmp_path}/photos/{rows['id'][0]}", rows["id"][0])


def test_an_ordinary_network_has_no_lists(tmp_path):
    run = unseen.score("digits", estimator="plain", hidden=(16,), epochs=1, out=tmp_path / "run")
    with pytest.raises(unseen.UnseenError, match="no unseen half"):
        curate.suspects(run)


def test_neighbours_that_know_less_than_the_network_are_no_witness(run, tmp_path):
    import shutil

    blind = Run(tmp_path / "blind")
    shutil.copytree(run.path, blind.path)
    table, random = blind.table("neighbours"), np.random.default_rng(0)
    blind.write_table("neighbours", table.with_columns(neighbour_index=pl.Series(random.permutation(table["neighbour_index"].to_numpy()))))
    (blind.path / "neighbours.parquet").rename(tmp_path / "kept.parquet")
    alone = curate.judged(blind)["wrong_probability"].to_list()
    (tmp_path / "kept.parquet").rename(blind.path / "neighbours.parquet")
    assert curate.judged(blind)["wrong_probability"].to_list() == alone
    assert curate.judged(run)["wrong_probability"].to_list() != alone
