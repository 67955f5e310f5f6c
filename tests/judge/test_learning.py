"""Subsets, their dynamics and their gradients: on planted tables, and on a run of digits with wrong labels."""

import json

import polars as pl
import pytest
import torch

import unseen
from small_runs import new_net
from unseen.attribution.job import saved_epochs
from unseen.cli import main
from unseen.data.splits import null_mask
from unseen.data.subsets import find_subsets, parse
from unseen.errors import UnseenError
from unseen.gradients.statistics import contributions, cosine_similarity
from unseen.gradients.watch import coming_steps, gradient_rows
from unseen.judge.learning import dynamics, learning_times, run_gradients, subset_curves
from unseen.scoring.inputs import run_examples

OPTIONS = {"hidden": (128,), "epochs": 4, "batch_size": 32, "random_labels": 0.2, "estimator": "turnover", "precision": "32"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    watch = {"watch": ("wrong", "right"), "gradients_every": 2, "save_every": 2, "gradient_examples": 100}
    return unseen.score("digits", out=tmp_path_factory.mktemp("dynamics") / "run", **OPTIONS, **watch)


@pytest.fixture(scope="module")
def table():
    split = ["train"] * 6 + ["held"] * 2 + ["test"] * 2
    labels = {"given_label": [0, 0, 1, 1, 2, 2, 0, 1, 0, 1], "true_label": [0, 1, 1, 1, 2, 2, 0, 1, 0, 1]}
    return pl.DataFrame({"index": range(10), "id": [f"row/{i}" for i in range(10)], "split": split} | labels)


@pytest.fixture(scope="module")
def scores():
    return pl.DataFrame({"index": range(8), "memorization": [5.0, 7, 1, 2, 3, 4, 0, 6], "aum": range(8)})


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("easy:3", [6, 2, 3]),
        ("difficult:0.25", [1, 7]),
        ("x=low:aum:2", [0, 1]),
        ("right", [0, 2, 3, 4, 5, 6, 7]),
        ("wrong", [1]),
        ("class:two", [4, 5]),
        ("class:2", [4, 5]),
        ("test/class:one", [9]),
        ("split:held", [6, 7]),
        ("index:3,row/5", [3, 5]),
        ("all", list(range(8))),
        ("test/all", [8, 9]),
    ],
)
def test_what_a_subset_holds(text, members, table, scores):
    assert list(find_subsets([text], table, scores, ["zero", "one", "two"]).values()) == [members]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["easy:0.6", "difficult:0.6"], "overlap: .* index"),
        (["hard:0.2"], "There is no subset or column 'hard'.*easy:0.2"),
        (["class:seven"], "zero, one, two"),
        (["split:nowhere"], "is empty.*train, held"),
        (["test/easy:0.5"], "--join-test"),
        (["easy"], "got nothing"),
        (["easy:100"], "from 1 to 8"),
        (["index:3,99"], "'99'"),
        (["index:@nowhere.txt"], "cannot be read"),
        (["a=class:0", "a=class:1"], "Two subsets are called 'a'"),
        (["="], "does not name a subset"),
    ],
)
def test_subsets_that_are_refused(texts, message, table, scores):
    with pytest.raises(UnseenError, match=message):
        find_subsets(texts, table, scores, ["zero", "one", "two"])


def test_ranking_needs_scores_and_wrong_needs_true_labels(table):
    with pytest.raises(UnseenError, match="--scores RUN"):
        find_subsets(["easy:0.2"], table, None, ["0", "1", "2"])
    with pytest.raises(UnseenError, match="--random-labels"):
        find_subsets(["wrong"], table.drop("true_label"), None, ["0", "1", "2"])


def test_a_list_in_a_file(table, tmp_path):
    (tmp_path / "hard.txt").write_text("3\nrow/4\n\n")
    assert find_subsets([f"index:@{tmp_path / 'hard.txt'}"], table, None, ["0", "1", "2"]) == {"index": [3, 4]}
    assert parse("test/difficult:0.1").name == "test difficult"


def test_curves_are_means_over_the_members(run):
    subsets = {"a": [0, 5, 9], "b": [1]}
    curves, history = subset_curves(run.history, subsets), run.history
    for row in curves.to_dicts():
        part = history.filter(pl.col("epoch") == row["epoch"], pl.col("index").is_in(subsets[row["subset"]]))
        assert row["loss"] == pytest.approx(part[f"loss_{row['side']}"].mean(), rel=1e-5) and row["examples"] == len(subsets[row["subset"]])
        assert row["accuracy"] == pytest.approx(part[f"correct_{row['side']}"].mean())


def test_when_examples_are_learned():
    right = {0: [0, 1, 1, 1], 1: [1, 0, 1, 0], 2: [0, 0, 0, 0], 3: [1, 0, 0, 1], 4: [1, 1, 1, 1]}
    rows = [(0, e, i, float(r)) for i, all_of in right.items() for e, r in enumerate(all_of, 1)]
    history = pl.DataFrame(rows, schema=["seed", "epoch", "index", "correct_seen"], orient="row")
    times = learning_times(history)
    assert times["first_learned_epoch"].to_list() == [2, 1, None, 1, 1]
    assert times["learned_epoch"].to_list() == [2, None, None, 4, 1]
    assert times["forgetting_events"].to_list() == [0, 2, 5, 1, 0]  # the third was never learned
    assert times["last_forgotten_epoch"].to_list() == [None, 4, None, 2, None]


def test_dynamics_of_a_run(run):
    curves, times = dynamics(run)
    assert set(curves["subset"]) == {"wrong", "right", "test"} and len(times) == len(run.examples)
    ranked, _ = dynamics(run, ["easy:0.2", "difficult:0.2"])
    last = ranked.filter(pl.col("epoch") == 4, pl.col("side") == "unseen")
    loss = dict(zip(last["subset"], last["loss"], strict=True))
    assert loss["difficult"] > loss["easy"]


def test_live_and_later_gradients_are_the_same(run):
    live = run.table("gradients")
    later = run_gradients(run, most=100)
    assert live.equals(later) and set(live["epoch"]) == {2, 4}


def test_gradient_rows_against_the_functions_they_stand_for(run):
    config, examples = run_examples(run)
    net = new_net(config, examples, config.network.model, 0)
    net.load_state_dict(next(saved_epochs(run, 0, net))[1])
    index = examples.index.tolist()
    subsets = {"first": index[:40], "rest": index[40:90]}
    steps = coming_steps(examples.train, 32, 0, 2)
    rows = {(row["subset"], row["quantity"]): row["value"] for row in gradient_rows(net, examples, subsets, steps)}
    assert rows["first", "cosine_similarity"] == pytest.approx(cosine_similarity(net, examples.select(list(range(40)))), abs=1e-6)
    pulls = torch.cat([contributions(net, examples.train.select(step)) for step in steps])
    assert rows["all", "contribution"] == pytest.approx(float(pulls.mean()), rel=1e-5)
    inside = torch.isin(examples.train.index[torch.cat(steps)], examples.index[:40])
    assert rows["first", "contribution"] == pytest.approx(float(pulls[inside].mean()), rel=1e-5)


def test_examples_without_a_gradient_are_not_counted_in_cosines(digits):
    torch.manual_seed(0)
    net = unseen.mlp(64, (64,))
    examples = digits.train.select(range(40))
    x, labels, _ = examples.batch(torch.arange(40))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(20)  # so sure of itself that in float32 some probabilities are 1, and gradients 0
    norms = torch.stack([_norm(net, examples, i) for i in range(40)])
    assert 0 < (norms <= 1e-18).sum() < 38
    index = examples.index.tolist()
    rows = gradient_rows(net, examples, {"all": index, "half": index[:20]}, [])
    counts = {(row["subset"], row["quantity"]): row["examples"] for row in rows}
    assert counts["all", "norm"] == 40 and counts["all", "cosine_similarity"] == (norms > 1e-18).sum()
    assert counts["all", "cosine_between"] == (norms[:20] > 1e-18).sum()


def _norm(net, examples, position):
    x, labels, _ = examples.batch(torch.tensor([position]))
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), labels), list(net.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def test_training_on_a_subset_leaves_the_others_alone(run, tmp_path):
    part = unseen.score("digits", out=tmp_path / "part", **OPTIONS, train_on="difficult:0.3", watch=("easy:0.3",), scores=str(run.path))
    scores, highest = part.scores, run.scores.sort("memorization", descending=True)
    trained = set(scores.filter("trained")["index"])
    assert trained == set(highest.head(round(0.3 * len(highest)))["index"]) and len(scores) == len(run.scores)
    assert set(part.examples["split"]) == {"train", "held", "test"}
    easy = set(part.table("subsets")["index"])
    assert not easy & trained
    history = part.history.filter(pl.col("epoch") == 4)
    assert set(history["index"]) == set(part.examples["index"])  # the others are measured all the same


def test_test_examples_get_scores_when_joined(run, tmp_path):
    joined = unseen.score("digits", out=tmp_path / "joined", **OPTIONS, join_test=True)
    assert len(joined.scores) == len(run.examples) and joined.scores["trained"].all()
    test = run.examples.filter(pl.col("split") == "test")
    kept = joined.scores.join(test.select("index", "true_label"), on="index")
    assert (kept["given_label"] == kept["true_label"]).all()  # noise is for the training examples alone
    watched = unseen.score(
        "digits", out=tmp_path / "watched", **OPTIONS, watch=("test/easy:0.5", "test/difficult:0.5"), scores=str(joined.path)
    )
    assert set(watched.table("subsets")["index"]) == set(test["index"])


def test_commands(run, capsys, tmp_path):
    assert main(["dynamics", str(run.path), "--subset", "easy:0.1", "--json", "--out", str(tmp_path / "figure.png")]) == 0
    assert {"easy", "test"} == {row["subset"] for row in json.loads(capsys.readouterr().out)}
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert main(["dynamics", str(run.path), "--side", "full"]) == 0 and "end learned" in capsys.readouterr().out
    assert main(["gradients", str(run.path), "--examples", "20"]) == 0 and "wrong × right" in capsys.readouterr().out
    assert main(["dynamics", str(run.path), "--side", "left"]) == 2 and "seen, unseen or full" in capsys.readouterr().err
    assert main(["score", "digits", "--gradients-every", "1"]) == 2 and "--watch" in capsys.readouterr().err


def test_no_step_has_an_example_of_the_noise_floor(digits):
    train, null = digits.train, (0.3, 5)
    positions = torch.cat(coming_steps(train, 32, 0, 1, null))
    assert len(positions) == 8 * 32 and not null_mask(train.index[positions], *null).any()
