import json
import tracemalloc
from functools import partial

import numpy as np
import polars as pl
import pytest

import unseen
from reference_scores import right_probability_dense
from unseen.cli import main
from unseen.curate import lists as curate
from unseen.curate.abstain import LEAST, judgeable
from unseen.curate.confusions import SHARPNESS
from unseen.curate.rates import ErrorRate, error_rate
from unseen.curate.trust import trust_in
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
    assert len(found) > 80 and error_rate(run, "suspects", found) == ErrorRate(pytest.approx(0, abs=0.1), "known labels")
    assert len(rare) > 20 and error_rate(run, "rare", rare).rate <= 0.05
    assert error_rate(run, "easy", curate.easy(run)).rate == 0
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


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_right_probability_is_that_of_the_whole_matrix_of_confusions(classes):
    """Of 40 classes half occur as labels."""
    random = np.random.default_rng(classes)
    evidence, labels = random.dirichlet(np.full(classes, 0.3), size=150), random.integers(max(2, classes // 2), size=150)
    slow = [right_probability_dense(evidence, labels, sharpness) for sharpness in SHARPNESS]
    right = max(slow, key=lambda found: found[1])[0]
    assert curate.right_probability(evidence, labels) == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("of", [curate.right_probability, partial(trust_in, repeats=2)], ids=["right_probability", "trust_in"])
def test_nothing_of_the_size_of_the_square_of_the_classes_is_made(of):
    """4,000 classes, 200 examples: a matrix of all classes would be 128 MB, the evidence is 6.4 MB."""
    random = np.random.default_rng(0)
    evidence, labels = random.dirichlet(np.full(4000, 0.3), size=200), random.integers(4000, size=200)
    of(evidence, labels)  # imports
    tracemalloc.start()
    of(evidence, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * evidence.nbytes


def test_error_rates_say_where_they_come_from(run, tmp_path):
    assert error_rate(run, "suspects", curate.suspects(run).head(0)).method == "empty list"
    config = json.loads((run.path / "config.json").read_text())
    for name in ("plain", "check"):
        (tmp_path / name).mkdir()
        for file in run.path.glob("*.*"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    plain = Run(tmp_path / "plain")
    plain.write_json("config.json", config | {"random_labels": 0})
    plain.write_table("scores", plain.scores.drop("true_label"))
    by_name = {name: error_rate(plain, name, make(plain)) for name, make in curate.LISTS.items()}
    assert by_name["rare"].method == "noise floor" and 0 < by_name["rare"].rate < 0.1
    assert by_name["suspects"].method == "errors planted in closed form"
    assert by_name["easy"].method == "its own probabilities"
    Run(tmp_path / "check").write_json("selfcheck.json", {})
    known = error_rate(plain, "suspects", curate.suspects(plain))
    assert str(tmp_path / "check") in known.method and known.rate == error_rate(run, "suspects", curate.suspects(run)).rate
    with pytest.raises(unseen.UnseenError, match="suspects, rare, easy"):
        error_rate(run, "hard", curate.rare(run))


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


def table(*rows):
    """A judged table: (class, examples, of which accused of being the next class); the suggested class is always a sure one."""
    names, given, suggested, wrong = [name for name, _, _ in rows], [], [], []
    for number, (_, examples, accused) in enumerate(rows):
        given += [number] * examples
        suggested += [(number + 1) % len(rows)] * accused + [number] * (examples - accused)
        wrong += [0.99] * accused + [0.01] * (examples - accused)
    columns = {"given_label": given, "given_class": [names[label] for label in given], "suggested_label": suggested}
    return pl.DataFrame(columns | {"wrong_probability": wrong})


TRUSTED = {
    "a tenth wrong": ([("a", 100, 10), ("b", 100, 10), ("c", 100, 10)], None, 0, (), ()),
    "nearly half wrong": ([("a", 100, 45), ("b", 100, 45), ("c", 100, 45)], None, 0, (), ()),
    "singletons": ([("a", 50, 0), ("b", 50, 2), ("c", 1, 1), ("d", 1, 1), ("e", 1, 0)], None, 3, ("c", "d", "e"), ()),
    "just too few": ([("a", 50, 0), ("b", 50, 2), ("c", LEAST - 1, 0)], None, LEAST - 1, ("c",), ()),
    "just enough": ([("a", 50, 0), ("b", 50, 2), ("c", LEAST, 2)], None, 0, (), ()),
    "a class that nobody knows": ([("a", 50, 0), ("b", 50, 2), ("c", 12, 7)], None, 12, (), ("c",)),
    "half of a class": ([("a", 50, 0), ("b", 50, 2), ("c", 12, 6)], None, 0, (), ()),
    "both": ([("a", 50, 0), ("b", 50, 2), ("c", 12, 12), ("d", 2, 0)], None, 14, ("d",), ("c",)),
    "most accused": ([("a", 100, 60), ("b", 100, 55), ("c", 100, 40)], "52% of 300 would be accused", 200, (), ("a", "b")),
    "all too few": ([("a", 3, 3), ("b", 2, 2)], "each of the 2 classes has fewer than 5", 5, ("a", "b"), ()),
    "one class that is judged": ([("a", 100, 1), ("b", 3, 3)], None, 3, ("b",), ()),
    "at random": ([("a", 100, 66), ("b", 100, 66), ("c", 100, 66)], "34.0% of 300, and 33.3% would be chance", 300, (), ("a", "b", "c")),
    "too few to tell from chance": ([("a", 6, 2), ("b", 6, 2)], "66.7% of 12, and 50.0% would be chance", 0, (), ()),
}


@pytest.mark.parametrize("kind", TRUSTED)
def test_who_can_judge_which_classes(kind):
    rows, warning, left_out, few, unknown = TRUSTED[kind]
    found = judgeable(table(*rows))
    assert (found.left_out, found.few, found.unknown) == (left_out, few, unknown)
    assert (found.warning is None) if warning is None else (warning in found.warning)
    assert len(found.lines) == (1 if warning or left_out else 0)
    if left_out and not warning:
        assert f"Left out: {left_out} examples of {len(few) + len(unknown)} class" in found.lines[0]


def test_predictions_that_are_no_better_than_the_shares_of_the_classes_are_near_chance():
    """All are called a: right in 90%, which is what the shares give."""
    rows = pl.DataFrame({"given_label": [0] * 90 + [1] * 10, "suggested_label": [0] * 100}).with_columns(
        given_class=pl.col("given_label").cast(pl.String), wrong_probability=pl.lit(0.4)
    )
    assert "90.0% of 100, and 90.0% would be chance" in judgeable(rows).warning


def scored_csv(path, x, labels, epochs=20):
    columns = {f"x{i}": x[:, i] for i in range(x.shape[1])} | {"label": labels}
    pl.DataFrame(columns).write_csv(path / "data.csv")
    return unseen.score(str(path / "data.csv"), hidden=(64,), epochs=epochs, out=path / "run")


def blobs(random, rows=240):
    true = np.arange(rows) % 3
    return random.normal(size=(rows, 4)) + (random.normal(size=(3, 4)) * 4)[true], np.array(["ant", "bee", "cat"])[true]


def test_right_examples_of_tiny_classes_are_not_accused_and_a_line_says_how_many(tmp_path, capsys):
    random = np.random.default_rng(0)
    x, labels = blobs(random)
    wrong = np.arange(0, 240, 24)
    labels[wrong] = np.where(labels[wrong] == "ant", "bee", "ant")
    far = random.normal(size=(5, 4)) + 6 * np.sign(random.normal(size=(5, 4)))
    run = scored_csv(tmp_path, np.concatenate([x, far]), [*labels, "dog", "eel", "fox", "gnu", "hen"], epochs=60)
    found = curate.suspects(run)
    rows = {int(name.removeprefix("row/")) for name in found["id"]}
    trained = {int(name.removeprefix("row/")) for name in run.scores.filter("trained")["id"]}
    planted = set(wrong.tolist()) & trained
    assert rows <= planted and len(rows) > len(planted) / 2 > 2  # and no right example, of the tiny classes least of all
    assert set(found["suggested_class"]) <= {"ant", "bee", "cat"}
    left = len([row for row in trained if row >= 240])
    assert curate.trustworthy(run).left_out == left
    assert main(["suspects", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert f"Left out: {left} examples of {left} classes that nobody could judge: fewer than 5" in said
    assert f"Probably wrong: {len(curate.suspects(run))} examples." in said


def test_labels_without_any_signal_give_a_warning_first_no_list_and_no_rate(tmp_path, capsys):
    random = np.random.default_rng(1)
    run = scored_csv(tmp_path, random.normal(size=(240, 4)), random.choice(["ant", "bee", "cat"], 240))
    assert len(curate.suspects(run)) == 0 and error_rate(run, "suspects", curate.suspects(run)).rate is None
    easy = curate.easy(run)
    assert len(easy) and error_rate(run, "easy", easy) == ErrorRate(None, "nobody can judge these labels")
    assert main(["suspects", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Warning: Nobody can judge these labels") and "would be chance" in said
    assert "Probably wrong: 0 examples. Estimated error rate of the list: unknown" in said
    assert main(["suspects", str(run.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["error_rate"] is None and facts["rows"] == [] and "chance" in facts["warning"]
    assert main(["suspects", str(run.path), "--csv"]) == 0
    both = capsys.readouterr()
    assert both.err.startswith("Warning: Nobody") and both.out.startswith("index,id")
    assert main(["report", str(run.path)]) == 0
    assert "Nobody can judge these labels" in (run.path / "report.html").read_text()


def test_a_list_of_half_a_class_stands_and_prune_drops_those_on_it_alone(run):
    from unseen.curate.pruning import chosen

    found = set(curate.suspects(run)["index"].to_list())
    kept = set(chosen(run, 1.0, drop_suspects=True).tolist())
    assert kept == set(run.scores.filter("trained")["index"].to_list()) - found and found


def test_a_class_per_row_is_refused(tmp_path):
    random = np.random.default_rng(0)
    with pytest.raises(unseen.UnseenError, match="Each of the .* training examples has a class of its own"):
        unseen.score((random.normal(size=(30, 4)).astype(np.float32), np.arange(30)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:The halves of")
def test_a_recorded_run_with_gaps_is_judged_where_it_was_measured(tmp_path):
    import torch
    from torch.nn import functional as F

    labels, every = torch.arange(60) % 3, torch.arange(60)
    torch.manual_seed(0)
    x = torch.randn(60, 8) / 2 + 4 * F.one_hot(labels, 8)
    given = torch.where(every == 50, (labels + 1) % 3, labels)
    net, recorder = unseen.TurnOverNet(unseen.mlp(8, (64,), 3)), unseen.Recorder()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(20):
        logits = net(x, every)
        optimizer.zero_grad()
        F.cross_entropy(logits, given).backward()
        optimizer.step()
        recorder.update(every, logits, given)
        recorder.end_epoch(unseen.measure_batches(net, [(x[20:], given[20:], every[20:])]))
    run = recorder.save(tmp_path / "run")
    assert curate.judged(run)["index"].to_list() == list(range(20, 60))
    assert curate.suspects(run)["index"].to_list() == [50] and curate.suspects(run)["suggested_label"].to_list() == [int(labels[50])]
    for command in ("show", "suspects", "report", "dynamics", "prune"):
        assert main([command, str(run.path)]) == 0
    assert "20 of 60 recorded examples were not measured" in (run.path / "report.html").read_text()
