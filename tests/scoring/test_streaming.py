"""Data in shards: the same numbers as in memory, one shard at a time, whatever happens on the way."""

import json
import weakref

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

import unseen
from reference_scores import free_scores
from small_runs import new_net
from unseen.cli import main
from unseen.commands.terminal import print_summary
from unseen.curate.lists import _judged
from unseen.data.loading import examples_of
from unseen.data.moments import Moments
from unseen.data.noise import random_labels
from unseen.data.splits import trained
from unseen.errors import UnseenError
from unseen.hashing import hash64, uniform
from unseen.runs.run import Run
from unseen.scoring.floor import noise_floor
from unseen.scoring.inputs import prepare, settings_of
from unseen.scoring.ranks import Detection, kth_smallest
from unseen.scoring.scores import detection
from unseen.training.loop import channels_last, epoch_order

SMALL = {"hidden": (32,), "epochs": 3, "lr": 0.1, "batch_size": 64, "random_labels": 0.1, "null_fraction": 0.1}
SMALL |= {"precision": "32", "estimator": "turnover", "shuffle_buffer": 1}
TABLES = ("examples", "scores", "unseen_probabilities", "history")


def features(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = uniform(torch.arange(first * 8, (first + count) * 8).view(count, 8), "x").float()
    return x, (x[:, :2].sum(1) > 1).long() + (x[:, 2] > 0.8).long()


def shards(*counts: int) -> unseen.Shards:
    starts = np.cumsum([0, *counts]).tolist()
    return unseen.Shards(len(counts), lambda number: features(starts[number], counts[number]), name="arrays")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three files of a table: 500 rows."""
    path = tmp_path_factory.mktemp("data") / "table"
    path.mkdir()
    for number, (first, count) in enumerate(((0, 200), (200, 120), (320, 180))):
        x, y = features(first, count)
        columns = {f"x{column}": x[:, column].numpy() for column in range(8)}
        names = np.array(["cat", "ant", "bee"])[y.numpy()]
        pl.DataFrame(columns | {"label": names, "name": [f"n{first + row}" for row in range(count)]}).drop("name").write_parquet(
            path / f"part-{number}.parquet"
        )
    return path


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return unseen.score(str(folder), shards=True, out=tmp_path_factory.mktemp("run"), **SMALL)


def assert_same(one: pl.DataFrame, other: pl.DataFrame, rounded: bool = True) -> None:
    """Equal to the bit, but for the free scores, which are summed in another way."""
    from polars.testing import assert_frame_equal

    free = [name for name in free_scores(pl.DataFrame(schema=HISTORY)).columns if name != "index" and name in one.columns]
    assert one.schema == other.schema
    assert one.drop(free).equals(other.drop(free))
    assert_frame_equal(one.select(free), other.select(free), check_exact=not rounded, rel_tol=1e-5, abs_tol=1e-6)


HISTORY = {"seed": pl.Int64, "epoch": pl.Int32, "index": pl.Int64} | {
    f"{quantity}_{side}": pl.Float32 for quantity in ("loss", "margin", "correct", "error_norm") for side in ("seen", "unseen", "full")
}


@pytest.mark.parametrize(
    "options",
    [{}, {"seeds": 2, "history_every": 2}, {"estimator": "plain"}, {"null_fraction": 0.0, "label_noise": "other"}, {"join_test": True}],
    ids=str,
)
def test_one_shard_is_the_run_in_memory(tmp_path, options):
    whole = unseen.score(features(0, 400), out=tmp_path / "whole", **SMALL | options)
    shard = unseen.score(shards(400), out=tmp_path / "shards", **SMALL | options)
    for name in TABLES if options.get("estimator") != "plain" else ("examples", "scores", "history"):
        assert_same(whole.table(name), shard.table(name))
    varying = ("cost", "seconds", "shards", "reading")
    facts = [{name: value for name, value in run.summary.items() if not name.endswith(varying)} for run in (whole, shard)]
    assert facts[0] == facts[1]


def test_several_shards_are_trained_in_their_order(folder, run):
    """A slow twin: the whole in memory, and one step after the other."""
    config = run.config
    whole = unseen.load(str(folder), seed=0)
    starts = (0, 200, 320, 500)
    whole = random_labels(whole, 0.1)
    net = new_net(config, whole, "mlp", 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in range(1, 4):
        for number in hash64(torch.arange(3), 0, "shards", epoch).argsort().tolist():
            inside = (whole.index >= starts[number]) & (whole.index < starts[number + 1])
            part = trained(whole.select(inside), config.noise.null_fraction, config.seed)
            for positions in epoch_order(part.index, 0, epoch).split(64):
                x, labels, index = part.batch(positions)
                optimizer.zero_grad()
                (F.cross_entropy(net(channels_last(x), index), labels, reduction="sum") / len(positions)).backward()
                optimizer.step()
    found = unseen.measure(net, whole)
    twin = pl.DataFrame({"index": whole.index.numpy()} | {f"loss_{side}": found[f"loss_{side}"].numpy() for side in ("seen", "unseen")})
    joined = run.scores.join(twin, on="index", suffix="_twin")
    assert len(joined) == len(run.scores) == len(whole.train)
    for side in ("seen", "unseen"):  # measured in other batches, so not to the bit
        np.testing.assert_allclose(joined[f"loss_{side}"], joined[f"loss_{side}_twin"], rtol=1e-4, atol=1e-5)


def test_a_folder_is_the_same_examples_as_in_memory(folder, run, tmp_path):
    whole = unseen.score(str(folder), out=tmp_path / "whole", **SMALL)
    assert run.examples.sort("index").equals(whole.examples.sort("index"))
    assert run.classes == whole.classes == ("ant", "bee", "cat")
    assert run.scores["index"].to_list() == whole.scores["index"].to_list()
    assert run.scores["trained"].to_list() == whole.scores["trained"].to_list()
    config = settings_of(str(folder), "mlp", SMALL | {"shards": True})
    shard = prepare(str(folder), "mlp", None, config)[1][0]
    examples = unseen.load(str(folder))
    torch.testing.assert_close(shard.mean, examples.mean)
    torch.testing.assert_close(shard.std, examples.std)
    wrong = run.summary["wrong_labels"]
    assert wrong == whole.summary["wrong_labels"] > 0


def test_free_scores_noise_floor_and_issues_are_those_of_the_whole(folder, tmp_path):
    from unseen.scoring.scores import label_issues

    run = unseen.score(str(folder), shards=True, out=tmp_path / "run", test_fraction=0.0, **SMALL)
    history, scores = run.history, run.scores
    assert_same(free_scores(history).join(scores.select("index"), on="index", how="semi"), scores.select(free_scores(history).columns))
    last = history.filter(pl.col("epoch") == 3)
    gaps = last.select("index", gap=pl.col("loss_unseen") - pl.col("loss_seen"))
    null = gaps.join(scores.filter(~pl.col("trained")), on="index")["gap"].to_numpy()
    trained = scores["trained"].to_numpy()
    own = scores.filter("trained").select("index").join(gaps, on="index", maintain_order="left")
    z, q = noise_floor(own["gap"].to_numpy(), null)
    np.testing.assert_allclose(scores.filter("trained")["z_score"], z, rtol=1e-5)
    np.testing.assert_allclose(scores.filter("trained")["q_value"], q, rtol=1e-12)
    assert scores.filter(~pl.col("trained"))["q_value"].null_count() == (~trained).sum() > 0  # no hypotheses
    issues = label_issues(run.probabilities()[trained], scores["given_label"].to_numpy()[trained])
    assert issues.any() and not trained.all()
    assert (issues == scores["is_label_issue"].to_numpy()[trained]).all()


@pytest.mark.parametrize("stop", [1, 4, 7, 11, 17])
def test_a_stopped_run_goes_on_to_the_same_bits(folder, run, tmp_path, monkeypatch, stop):
    write, count = Run.write_tensors, 0

    def write_some(self, *args, **notes):
        nonlocal count
        count += 1
        if count > stop:
            raise KeyboardInterrupt
        write(self, *args, **notes)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "write_tensors", write_some)
        unseen.score(str(folder), shards=True, out=tmp_path / "run", **SMALL)
    with pytest.raises(UnseenError, match="--resume"):
        unseen.score(str(folder), shards=True, out=tmp_path / "run", **SMALL)
    again = unseen.score(str(folder), shards=True, out=tmp_path / "run", resume=True, **SMALL)
    for name in TABLES:
        assert again.table(name).equals(run.table(name))
    assert sorted(path.name for path in (again.path / "weights").iterdir()) == ["seed-0.safetensors"]


def test_no_more_than_two_shards_are_in_memory(tmp_path, monkeypatch):
    alive, most = 0, 0

    def died():
        nonlocal alive
        alive -= 1

    def watched(*args, **options):
        nonlocal alive, most
        piece = examples_of(*args, **options)
        alive += 1
        weakref.finalize(piece.inputs, died)
        most = max(most, alive)
        return piece

    monkeypatch.setattr("unseen.data.scanning.examples_of", watched)
    unseen.score(shards(*[60] * 9), out=tmp_path / "run", **SMALL)
    assert 2 <= most <= 3  # the one that is used, the one that comes, and while scanning the first


def test_streams_of_the_package_datasets(tmp_path):
    def rows(starts):
        for start in starts:
            x, y = features(start, 100)
            for row in range(100):
                yield {f"x{column}": float(x[row, column]) for column in range(8)} | {"label": int(y[row])}

    stream = datasets.IterableDataset.from_generator(rows, gen_kwargs={"starts": [0, 100, 200]})
    run = unseen.score(stream, out=tmp_path / "stream", **SMALL)
    same = unseen.score(shards(100, 100, 100), out=tmp_path / "shards", **SMALL)
    for name in TABLES:
        assert run.table(name).equals(same.table(name))


def test_a_test_split_in_files_of_its_own(tmp_path):
    for number, split in enumerate(("train-0", "train-1", "test-0")):
        x, y = features(100 * number, 100)
        pl.DataFrame({f"x{column}": x[:, column].numpy() for column in range(8)} | {"label": y.numpy()}).write_parquet(
            tmp_path / f"{split}.parquet"
        )
    whole = unseen.score(str(tmp_path), out=tmp_path / "whole", **SMALL)
    run = unseen.score(str(tmp_path), shards=True, out=tmp_path / "run", **SMALL)
    assert run.examples.equals(whole.examples)
    assert run.scores["id"].to_list() == whole.scores["id"].to_list()
    assert "test_accuracy_full" in run.summary


def test_history_is_of_a_sample_where_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr("unseen.scoring.seeds.HISTORY_ROWS", 0)  # then of 1,000 examples
    run = unseen.score(shards(700, 700), out=tmp_path / "run", **SMALL)
    everyone = uniform(torch.arange(1400), "history").argsort()[:1000].sort().values.tolist()
    assert run.history["index"].unique().sort().to_list() == everyone
    assert len(run.scores) + (run.examples["split"] == "test").sum() == 1400


def test_the_kth_smallest():
    values = uniform(torch.arange(1000), "k")
    for k in (1, 2, 500, 999, 1000):
        assert kth_smallest(lambda: iter(values.split(300)), k) == values.sort().values[k - 1]
    assert kth_smallest(lambda: iter(values.split(300)), 1001) == 1.0


def test_detection_in_bins(monkeypatch, generator):
    score = torch.randn(5000, generator=generator).numpy()
    wrong = (torch.rand(5000, generator=generator).numpy() < 0.2) & (score > -1)
    exact = detection(wrong, score)
    monkeypatch.setattr("unseen.scoring.ranks.EXACT", 100)
    bins = Detection()
    for part in np.array_split(np.arange(5000), 7):
        bins.add(wrong[part], score[part])
    assert bins.bins is not None
    assert bins.facts() == pytest.approx(exact, abs=1e-3)


def test_the_noise_floor_is_that_of_scipy(generator):
    from scipy.stats import false_discovery_control

    gaps, null = (torch.randn(count, generator=generator).mul(3).round().div(3).numpy() for count in (500, 60))  # with ties
    p = (1 + (null[None] >= gaps[:, None]).sum(1)) / 61
    np.testing.assert_allclose(noise_floor(gaps, null)[1], false_discovery_control(p), rtol=1e-12)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_moments_add_up(kind, generator):
    inputs = torch.randint(0, 256, (90, 3, 4, 4), generator=generator).float()
    inputs = inputs.to(torch.uint8) if kind == "bytes" else inputs / 255
    parts = [Moments.of(part) for part in inputs.split([20, 1, 69])]
    for added, whole in zip((parts[0] + parts[1] + parts[2]).mean_and_std(), Moments.of(inputs).mean_and_std(), strict=True):
        torch.testing.assert_close(added, whole)


def table(count: int, first: int = 0, **columns) -> pl.DataFrame:
    x, y = features(first, count)
    return pl.DataFrame({"a": x[:, 0].numpy(), "b": x[:, 1].numpy(), "label": y.numpy()} | columns)


BAD = {
    "other columns": ({"p1": table(50).rename({"b": "c"})}, "Shard 1 of 3.*has the features a, c, and the first shard a, b"),
    "another column": ({"p1": table(50, z=np.zeros(50))}, "features a, b, z"),
    "text for numbers": ({"p1": table(50, b=["u", "v"] * 25)}, "features a, b=u, b=v"),
    "labels of another type": ({"p2": table(50, label=["x", "y"] * 25)}, "labels of type text, and the first shard integers"),
    "empty": ({"p1": table(50).head(0)}, "In shard 1 of 3.*is empty"),
    "no label": ({"p1": table(50).drop("label")}, "In shard 1 of 3.*for target"),
    "missing values": ({"p2": table(50, a=[None, 0.5] * 25)}, "In shard 2 of 3.*missing values"),
    "an index twice": (
        {f"p{n}": table(50, index=np.arange(50) + first) for n, first in enumerate((0, 50, 99))},
        "index of shard 2 of 3.*begins at 99, and the one before ends at 99",
    ),
    "an index in one alone": ({"p1": table(50, index=np.arange(50))}, "an index of its own True"),
    "one class": ({f"p{n}": table(50, label=["x"] * 50) for n in range(3)}, "classes \\[x\\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_shards_are_named(tmp_path, name):
    files, message = BAD[name]
    for stem, frame in ({f"p{number}": table(50, 50 * number) for number in range(3)} | files).items():
        frame.write_parquet(tmp_path / f"{stem}.parquet")
    with pytest.raises(UnseenError, match=message):
        unseen.score(str(tmp_path), shards=True, out=tmp_path / "run", hidden=(16,), epochs=1)
    assert not (tmp_path / "run").exists()


def test_an_index_of_ones_own(tmp_path):
    for number in range(3):
        table(50, 50 * number, index=np.arange(50) * 2 + 1000 * number).write_parquet(tmp_path / f"p{number}.parquet")
    run = unseen.score(str(tmp_path), shards=True, out=tmp_path / "run", hidden=(32,), epochs=1, random_labels=15)
    assert run.examples["index"].to_list()[-1] == 2098 or 2098 in run.examples["index"]
    whole = unseen.score(str(tmp_path), out=tmp_path / "whole", hidden=(32,), epochs=1, random_labels=15)
    assert run.examples.sort("index").equals(whole.examples.sort("index"))


def test_broken_and_missing_files_are_named(tmp_path):
    for number in range(3):
        table(50).write_parquet(tmp_path / f"train-{number:05d}-of-00003.parquet")
    (tmp_path / "train-00001-of-00003.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UnseenError, match="In shard 1 of 3 .*train-00001-of-00003.parquet.*Repair"):
        unseen.score(str(tmp_path), shards=True, out=tmp_path / "run")
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(UnseenError, match="lacks train-00001-of-00003.parquet"):
        unseen.score(str(tmp_path), shards=True, out=tmp_path / "run")


def test_a_shard_that_changes_is_refused(tmp_path):
    made = []

    def make(number):
        made.append(number)
        x, y = features(100 * number, 100)
        return x + len(made) * (number == 1), y

    with pytest.raises(UnseenError, match="Shard 1 of 2 is not what it was"):
        unseen.score(unseen.Shards(2, make), out=tmp_path / "run", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 100}, "--limit is 100"),
        ({"watch": ("wrong",)}, "--watch is"),
        ({"estimator": "members"}, "--estimator is 'members'"),
        ({"label_noise": "asymmetric"}, "--label-noise is 'asymmetric'"),
        ({"text": "x"}, "--text is 'x'"),
    ],
)
def test_options_that_need_the_whole_are_refused(tmp_path, options, message):
    with pytest.raises(UnseenError, match=message):
        unseen.score(shards(100, 100), out=tmp_path / "run", **SMALL | options)


def test_what_has_no_shards_is_refused(tmp_path):
    with pytest.raises(UnseenError, match="has no shards"):
        unseen.score("digits", shards=True, out=tmp_path / "run")
    with pytest.raises(UnseenError, match="Could not make shard 0 of 1: ZeroDivisionError"):
        unseen.score(unseen.Shards(1, lambda number: 1 / 0), out=tmp_path / "run")
    with pytest.raises(UnseenError, match="Allowed: at least one"):
        unseen.Shards(0, features)


def test_tables_are_read_in_shards(run, tmp_path):
    import shutil

    assert [len(piece) for piece in run.pieces("scores", ["index"])] == [len(pl.read_parquet(path)) for path in run.files("scores")]
    assert run.scan("scores").select(pl.len()).collect().item() == len(run.scores)
    copy = Run(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    (copy.path / "scores" / "00001.parquet").unlink()
    with pytest.raises(UnseenError, match="00001.parquet is not there, one of 3 shards"):
        _ = copy.scores
    (copy.path / "scores" / "00001.parquet").write_bytes(b"nothing")
    with pytest.raises(UnseenError, match="00001.parquet cannot be read"):
        _ = copy.scores
    copy.clear()
    assert not list(copy.path.rglob("*.parquet"))


def test_commands_read_a_run_in_shards(run, capsys, monkeypatch):
    assert main(["show", str(run.path), "--top", "7", "--json"]) == 0
    shown = [row["id"] for row in json.loads(capsys.readouterr().out)]
    assert shown == run.scores.sort("memorization", descending=True)["id"].head(7).to_list()
    for command in ("suspects", "evaluate", "report"):
        assert main([command, str(run.path)]) == 0
    monkeypatch.setattr("unseen.runs.run.MOST_ROWS", 100)
    _judged.cache_clear()  # as in a process of its own
    assert main(["show", str(run.path), "--top", "7"]) == 0
    print_summary(run)
    assert "Wrong labels (" in capsys.readouterr().out
    for command in ("suspects", "evaluate", "report"):
        assert main([command, str(run.path)]) == 2
        assert "rows in shards" in capsys.readouterr().err


def test_shards_of_a_window_share_their_batches(folder, tmp_path):
    """A slow twin: windows of up to 330 examples, whose examples are ordered together."""
    options = SMALL | {"shuffle_buffer": 330, "random_labels": 0.0, "null_fraction": 0.0, "test_fraction": 0.0}
    run = unseen.score(str(folder), shards=True, out=tmp_path / "run", **options)
    whole = unseen.load(str(folder), test_fraction=0.0)
    starts, counts = (0, 200, 320, 500), (200, 120, 180)
    net = new_net(run.config, whole, "mlp", 0)
    optimizer, mixed = torch.optim.SGD(net.parameters(), lr=0.1), 0
    for epoch in range(1, 4):
        windows = [[]]
        for number in hash64(torch.arange(3), 0, "shards", epoch).argsort().tolist():
            if windows[-1] and sum(counts[other] for other in windows[-1]) + counts[number] > 330:
                windows.append([])
            windows[-1].append(number)
        mixed += sum(len(window) > 1 for window in windows)
        for window in windows:
            places = torch.cat([torch.arange(starts[number], starts[number + 1]) for number in window])
            part = whole.select(places)
            for positions in epoch_order(part.index, 0, epoch).split(64):
                x, labels, index = part.batch(positions)
                optimizer.zero_grad()
                (F.cross_entropy(net(channels_last(x), index), labels, reduction="sum") / len(positions)).backward()
                optimizer.step()
    assert mixed, "no window has two shards"
    found = unseen.measure(net, whole)
    twin = pl.DataFrame({"index": whole.index.numpy(), "twin": found["loss_unseen"].numpy()})
    joined = run.scores.join(twin, on="index")
    np.testing.assert_allclose(joined["loss_unseen"], joined["twin"], rtol=1e-4, atol=1e-5)


def test_one_large_file_is_cut_by_its_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("unseen.data.shards.ROWS", 120)
    table(400).write_parquet(tmp_path / "large.parquet", row_group_size=50)
    run = unseen.score(str(tmp_path / "large.parquet"), shards=True, out=tmp_path / "run", **SMALL)
    assert [len(piece) for piece in run.pieces("examples")] == [100, 100, 100, 100]
    whole = unseen.score(str(tmp_path / "large.parquet"), out=tmp_path / "whole", **SMALL)
    assert run.examples.sort("index").equals(whole.examples.sort("index"))


def test_the_next_shard_is_read_while_one_is_worked_on():
    import threading

    reading, others = threading.main_thread(), []

    def make(number):
        others.append(threading.current_thread() is not reading)
        return features(100 * number, 100)

    config = settings_of(unseen.Shards(4, make), "mlp", SMALL)
    data = prepare(unseen.Shards(4, make), "mlp", None, config)[1]
    others.clear()
    assert [len(examples) for examples in data.walk(range(4))] == [100] * 4
    assert others == [True] * 4


def test_an_error_of_the_reading_thread_is_the_users(tmp_path):
    made = []

    def make(number):
        made.append(number)
        if len(made) > 6:
            raise OSError("gone")
        return features(100 * number, 100)

    with pytest.raises(UnseenError, match="Could not make shard . of 3: OSError: gone"):
        unseen.score(unseen.Shards(3, make), out=tmp_path / "run", **SMALL)


def test_a_killed_run_in_shards_loses_its_leftovers(tmp_path, monkeypatch):
    """What was written between the last table and the end of a run that was killed there goes at the next call."""
    with monkeypatch.context() as patch:
        patch.setattr(Run, "remove_parts", lambda self: None)
        unseen.score(shards(100, 100), out=tmp_path / "run", **SMALL)
    assert (tmp_path / "run" / "parts").exists()
    unseen.score(shards(100, 100), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run" / "parts").exists()
