import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn

import unseen
from small_runs import FAST, TABLES, equal, new_net, tables
from unseen import Config, Run, UnseenError, open_run, score
from unseen.config import OPTIONS
from unseen.runs import list_runs, not_fitted
from unseen.scoring.inputs import add_noise
from unseen.scoring.scores import detection


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return score("digits", out=tmp_path_factory.mktemp("runs") / "run", seeds=2, null_fraction=0.1, **FAST)


def test_the_tables_of_a_run(run):
    train = run.examples.filter(pl.col("split") == "train")
    assert run.scores["index"].to_list() == train["index"].to_list() and run.scores["id"].to_list() == train["id"].to_list()
    assert run.history.height == 2 * 3 * run.examples.height
    last = run.history.filter(pl.col("epoch") == 3).group_by("index").agg((pl.col("loss_unseen") - pl.col("loss_seen")).mean().alias("gap"))
    joined = run.scores.join(last, on="index")
    assert (joined["gap"] - joined["memorization"]).abs().max() < 1e-5
    assert (run.probabilities().sum(1) - 1).max() < 1e-5
    rows = torch.from_numpy(run.probabilities())
    assert (rows.argmax(1).numpy() == run.scores["predicted_label"].to_numpy()).all()
    assert run.scores["label_score"].is_between(0, 1).all()
    assert run.summary["auroc"] > 0.75
    assert not run.scores.filter("trained").is_empty() and 50 < run.summary["null_examples"] < 250


def test_the_seed_correlation_is_that_of_the_seeds(run):
    kept = run.scores.filter("trained").select("index")
    last = run.history.filter(pl.col("epoch") == 3).join(kept, on="index").with_columns(gap=pl.col("loss_unseen") - pl.col("loss_seen"))
    wide = last.pivot(on="seed", index="index", values="gap")
    assert wide.select(pl.corr("0", "1", method="spearman")).item() == pytest.approx(run.summary["seed_correlation"], abs=1e-6)


def test_every_column_says_what_it_is(run):
    for name in TABLES:
        metadata = pl.read_parquet_metadata(run.path / f"{name}.parquet")
        assert set(run.table(name).columns) <= set(metadata) and metadata["unseen_version"] == unseen.__version__
    assert "eq. 2 and 6" in pl.read_parquet_metadata(run.path / "scores.parquet")["memorization"]


def test_examples_never_trained_show_no_memorization(run):
    kept, held_out = run.scores.filter("trained"), run.scores.filter(pl.col("trained").not_())
    assert abs(held_out["memorization"].mean()) < 0.25 * kept["memorization"].mean()
    wrong = kept.filter(pl.col("true_label") != pl.col("given_label"))
    assert wrong["memorization"].mean() > kept["memorization"].mean() * 2


def test_a_run_can_be_read_by_others(run):
    import pandas

    modes = {path.stat().st_mode & 0o777 for path in run.path.rglob("*") if path.is_file()}
    assert len(modes) == 1, "some files of a run are readable by fewer people than others"

    frame = pandas.read_parquet(run.path / "scores.parquet")
    assert list(frame.columns) == run.scores.columns


def test_a_config_replays_its_run(run, tmp_path):
    config = run.config.flat()
    again = score(config.pop("data"), config.pop("model"), out=tmp_path / "again", **config)
    assert equal(tables(run), tables(again))


def test_the_mean_of_the_weights_is_scored_and_survives_a_stop(tmp_path, digits, monkeypatch):
    options = FAST | {"epochs": 4, "average": 3}
    states = []
    write = Run.write_tensors

    def noting(self, name, tensors, **notes):
        if name.startswith("seed"):
            states.append(tensors)
        write(self, name, tensors, **notes)

    monkeypatch.setattr(Run, "write_tensors", noting)
    whole = score("digits", out=tmp_path / "whole", **options)
    weights = {name: torch.stack([state[name] for state in states[1:]]).mean(0) for name in states[0] if name.startswith("net.")}
    net = new_net(whole.config, digits, "mlp", 0)
    net.load_state_dict({name.removeprefix("net."): value for name, value in weights.items()})
    train = add_noise(digits, whole.config).train
    slow = unseen.measure(net, train)["loss_unseen"].numpy()
    assert abs(whole.scores["loss_unseen"].to_numpy() - slow).max() < 1e-4
    monkeypatch.setattr(Run, "write_tensors", lambda *_, **__: stop() if len(states) == 8 else (states.append(_), write(*_, **__)))
    with pytest.raises(Stopped):
        score("digits", out=tmp_path / "stopped", **options)
    monkeypatch.undo()
    assert equal(tables(score("digits", out=tmp_path / "stopped", resume=True, **options)), tables(whole))


def stop():
    raise Stopped


class Stopped(KeyboardInterrupt):
    pass


def stop_after(monkeypatch, when):
    """Stop right after a file whose name contains ``when`` has appeared; returns the names written."""
    from contextlib import contextmanager

    writing, names = Run.writing, []

    @contextmanager
    def stopping(self, name):
        with writing(self, name) as path:
            yield path
        names.append(name)
        if when in name:
            raise Stopped

    monkeypatch.setattr(Run, "writing", stopping)
    return names


@pytest.mark.parametrize("when", ["seed-0", "history-0-000002", "history-1-000001", "final-1", "unseen_probabilities"])
def test_a_stopped_run_resumes_to_the_same_bits(run, tmp_path, monkeypatch, when):
    """The resumed run must equal the uninterrupted one."""
    options = FAST | {"seeds": 2, "null_fraction": 0.1, "out": tmp_path / "run"}
    stop_after(monkeypatch, when)
    with pytest.raises(Stopped):
        score("digits", **options)
    monkeypatch.undo()
    with pytest.raises(UnseenError, match="unfinished run.*--resume"):
        score("digits", **options)
    resumed = score("digits", resume=True, **options)
    assert equal(tables(resumed), tables(run))
    for seed in ("seed-0", "seed-1"):
        (one, notes), (other, _) = run.read_tensors(seed), resumed.read_tensors(seed)
        assert notes["epoch"] == "3" and all(torch.equal(one[name], other[name]) for name in one | other)


def test_a_run_whose_summary_was_deleted_is_made_again(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    options = FAST | {"seeds": 2, "null_fraction": 0.1, "out": tmp_path / "run"}
    assert equal(tables(score("digits", resume=True, **options)), tables(run))


def test_what_a_killed_writer_left_goes_with_the_next_writing(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "run").mkdir()
    leftover = tmp_path / "run" / f".config.json.{gone.pid}.tmp"
    leftover.write_text("{")
    score("digits", hidden=(32,), epochs=1, limit=100, out=tmp_path / "run")
    assert not leftover.exists()


def test_a_finished_run_is_not_trained_again(run):
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    score("digits", out=run.path, seeds=2, null_fraction=0.1, **FAST)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_another_configuration_is_refused_and_force_replaces(tmp_path):
    first = score("digits", out=tmp_path / "run", hidden=(32,), epochs=1)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UnseenError, match=r"another configuration \(epochs: 1 there, 2 asked\)"):
        score("digits", out=first.path, hidden=(32,), epochs=2)
    assert score("digits", out=first.path, hidden=(32,), epochs=2, force=True).history["epoch"].max() == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UnseenError, match="holds other files"):
        score("digits", out=tmp_path, hidden=(32,), epochs=1)
    (tmp_path / "config.json").write_text('{"hidden_size": 768}')
    with pytest.raises(UnseenError, match="not a configuration of this version"):
        score("digits", out=tmp_path, hidden=(32,), epochs=1, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "thesis.tex"]


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path, monkeypatch):
    replace = os.replace
    written = []

    def full(source, target):
        if "history-0-000002" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UnseenError, match=r"The disk is full.*history-0-000002.*--resume"):
        score("digits", out=tmp_path / "run", **FAST)
    monkeypatch.undo()
    assert "seed-0.safetensors" in written and not list((tmp_path / "run").rglob("*.tmp"))
    assert score("digits", out=tmp_path / "run", resume=True, **FAST).finished


def test_a_loss_that_is_not_finite_leaves_a_run(tmp_path):
    with pytest.raises(UnseenError, match="The loss became"):
        score("digits", out=tmp_path / "run", **(FAST | {"lr": 1e30, "momentum": 0.9}))
    assert open_run(tmp_path / "run").config.training.lr == 1e30


def test_two_processes_give_the_same_scores(tmp_path):
    options = FAST | {"epochs": 2, "batch_size": 100}
    one = score("digits", out=tmp_path / "one", **options)
    two = score("digits", out=tmp_path / "two", devices=2, **options)
    for column in ("loss_seen", "loss_unseen", "loss_full", "memorization"):
        assert (one.scores[column] - two.scores[column]).abs().max() < 1e-4


def test_your_own_network_and_arrays(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=generator)
    y = (x[:, 0] > 0).long()
    net = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 2))
    run = score((x, y), net, out=tmp_path / "run", epochs=20, lr=0.1, batch_size=32)
    assert run.summary["accuracy_seen"] > 0.9 and len(run.scores) + len(run.examples.filter(pl.col("split") == "test")) == 300
    assert not any("turn_over" in name for name, _ in net.named_modules())
    with pytest.raises(UnseenError, match="data: "):
        score((x + 1, y), net, out=run.path, epochs=20, lr=0.1, batch_size=32)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("digits", {"model": "resnet"}, "Unknown model 'resnet'.*mlp, vgg11, cct"),
        ("mnits", {}, "mnits.*digits.*mnist"),
        ("digits", {"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ("digits", {"lr": -1.0}, "--lr is -1.0; it must be above 0"),
        ("digits", {"seeds": 0}, "--seeds is 0"),
        ("digits", {"schedule": "linear"}, "--schedule is 'linear'.*constant, step, cosine"),
        ("digits", {"null_fraction": 1.5}, "--null-fraction is 1.5"),
        ("digits", {"epoch": 3}, "Unknown option 'epoch'. Did you mean 'epochs'"),
        ("digits", {"hidden": (10,), "estimator": "turnover"}, "Two examples would share a mask"),
        ("digits", {"only": ("conv1",)}, "No hidden layer is called 'conv1'"),
        ("digits", {"random_labels": 10_000}, "10.?000"),
    ],
)
def test_bad_input(tmp_path, data, options, message):
    with pytest.raises(UnseenError, match=message):
        score(data, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_broken_files_are_named(tmp_path):
    with pytest.raises(UnseenError, match="is not a run"):
        open_run(tmp_path)
    run = Run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnseenError, match="config.json is not JSON"):
        _ = run.config
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(UnseenError, match="scores.parquet cannot be read as Parquet"):
        _ = run.scores
    with pytest.raises(UnseenError, match=r"history.parquet is not there. `unseen score`"):
        _ = run.history
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "seed-0.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UnseenError, match="not a safetensors file"):
        run.read_tensors("seed-0")


def test_defaults_of_the_models():
    paper = Config.of(model="vgg11", groups=0, tied=False, mask_scale=2.0).resolved()
    assert tuple(paper.flat()[name] for name in ("lr", "momentum", "schedule", "milestones")) == (0.01, 0.9, "step", (100, 150))
    deep = Config.of(model="vgg11").resolved().masks
    assert (deep.groups, deep.tied) == ("auto", True) and Config.of(groups="auto").resolved().masks.tied
    mlp = Config.of().resolved()
    assert tuple(mlp.flat()[name] for name in ("hidden", "lr", "momentum", "batch_size", "groups", "mask_scale")) == (
        (4096,),
        0.06,
        0.0,
        256,
        0,
        2.0,
    )


@pytest.mark.parametrize(("model", "lr"), [("vgg11", 0.01), ("resnet10", 0.05)])
def test_images_train_and_score_in_convolutions(tmp_path, model, lr):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 3
    x = torch.rand(120, 3, 32, 32, generator=generator) * 0.3
    x[torch.arange(120), y] += 0.7  # the class is the brightest channel
    run = score((x, y), model, width=0.25, epochs=15, lr=lr, batch_size=16, out=tmp_path / "run")
    assert run.summary["accuracy_seen"] > 0.8


def test_members_score_too(tmp_path):
    options = FAST | {"estimator": "auto", "epochs": 10, "lr": 0.05, "null_fraction": 0.1}
    run = score("digits", out=tmp_path / "m", **options)
    assert run.config.estimator == run.summary["estimator"] == "members"
    scores = run.scores
    kept = scores.filter("trained")
    wrong = (kept["true_label"] != kept["given_label"]).to_numpy()
    assert run.summary["auroc"] > 0.95 and detection(wrong, kept["unseen_loss_mean"].to_numpy())["auroc"] > 0.95
    null = scores.filter(pl.col("trained").not_())
    assert abs(null["memorization"].mean()) < 0.2 * scores.filter("trained")["memorization"].mean()
    inside = (null["memorization_low"] < 0) & (null["memorization_high"] > 0)  # their true gap is 0
    assert 0.8 < inside.mean() <= 1.0
    assert abs(run.probabilities().sum(1) - 1).max() < 1e-4 and scores["label_score"].is_between(0, 1).all()
    assert equal(tables(run), tables(score("digits", out=tmp_path / "again", **options)))


SMALL_MEMBERS = FAST | {"estimator": "members", "members": 8, "limit": 200, "epochs": 4, "null_fraction": 0.05}


@pytest.mark.parametrize("when", ["history-0-000001", "members-0-0-of-1", "seed-0", "cost-0", "final-0"])
def test_stopped_members_go_on_to_the_same_bits(tmp_path, monkeypatch, when):
    whole = score("digits", out=tmp_path / "whole", **SMALL_MEMBERS)
    trained = stop_after(monkeypatch, when)
    with pytest.raises(Stopped):
        score("digits", out=tmp_path / "stopped", **SMALL_MEMBERS)
    monkeypatch.undo()
    assert equal(tables(score("digits", out=tmp_path / "stopped", resume=True, **SMALL_MEMBERS)), tables(whole))
    assert trained and sorted(path.name for path in (tmp_path / "stopped" / "weights").iterdir()) == ["seed-0.safetensors"]


def test_processes_take_shares_of_the_members(tmp_path):
    alone = score("digits", out=tmp_path / "one", **SMALL_MEMBERS)
    shared = score("digits", out=tmp_path / "two", devices=2, **SMALL_MEMBERS)
    for name in ("memorization", "memorization_se", "unseen_loss_mean", "label_score", "el2n"):
        assert abs(alone.scores[name] - shared.scores[name]).max() < 1e-3 * abs(alone.scores[name]).max()
    one, two = (run.read_tensors("seed-0")[0] for run in (alone, shared))
    assert all(torch.allclose(two[name], value, atol=1e-4) for name, value in one.items())
    with pytest.raises(UnseenError, match="8 members do not divide among 3"):
        score("digits", devices=3, out=tmp_path / "three", **SMALL_MEMBERS)


def test_a_run_says_what_it_cost(run):
    facts = run.summary
    seconds = facts["training_seconds"] + facts["measuring_seconds"]
    assert facts["cost"] == pytest.approx(seconds / facts["plain_seconds"]) and facts["plain_seconds"] > 0
    assert facts["cost"] > 1  # two seeds


def test_runs_are_listed(run):
    assert [listed.path for listed in list_runs(run.path.parent)] == [run.path]


def test_config_is_plain_json(run):
    values = json.loads((run.path / "config.json").read_text())
    assert set(values) == set(OPTIONS)


def test_mnist_long_tail(tmp_path, data_dir):
    """The paper's figure 2b in little: random labels are memorized far more than real ones, in one epoch of real data."""
    run = score(
        "mnist",
        data_dir=data_dir,
        limit=4000,
        hidden=(512,),
        epochs=4,
        lr=0.1,
        batch_size=64,
        random_labels=400,
        estimator="turnover",
        out=tmp_path / "run",
    )
    assert run.summary["auroc"] > 0.95 and run.summary["accuracy_unseen_true"] > 0.75


def test_a_second_writer_is_told(tmp_path, monkeypatch):
    options = {"hidden": (32,), "epochs": 2, "limit": 100, "out": tmp_path / "run"}
    import unseen.scoring.estimators.one_network as one_network

    real = one_network.measure

    def meanwhile(*args, **kwargs):
        with pytest.raises(UnseenError, match="Another process is writing"):
            unseen.score("digits", **options, resume=True)
        return real(*args, **kwargs)

    monkeypatch.setattr(one_network, "measure", meanwhile)
    run = unseen.score("digits", **options)
    assert run.finished and len(run.scores) == 100


def test_a_finished_run_loses_the_state_that_a_kill_left(tmp_path):
    options = {"hidden": (16,), "epochs": 2, "limit": 100, "estimator": "members", "members": 8, "out": tmp_path / "run"}
    run = unseen.score("digits", **options)
    left = run.path / "weights" / "members-0-0-of-1-000004.safetensors"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a file")
    unseen.score("digits", **options, resume=True)
    assert not left.exists()


def test_groups_auto_become_a_number_that_the_run_tells(tmp_path):
    run = unseen.score("digits", estimator="turnover", groups="auto", hidden=(32, 16), epochs=1, limit=200, out=tmp_path / "auto")
    assert (run.config.masks.groups, run.config.masks.tied) == (2, True)
    facts = run.summary
    assert f"{facts['accuracy_seen']:.1%} of its labels right" in not_fitted(facts) and not_fitted(facts | {"accuracy_seen": 0.95}) is None
    assert facts["mask_groups"] == 2 and facts["examples_per_mask"] == facts["trained"] / 2
    assert "shared by about" in facts["shared_masks"] and "500 examples or more should share a mask" in facts["shared_masks"]
    with pytest.raises(UnseenError, match="equation 5 says the same. Use --method gradient"):
        unseen.influence(run, "test[:2]")
    same = {"estimator": "turnover", "groups": 2, "tied": True, "hidden": (32, 16), "epochs": 1, "limit": 200}
    assert unseen.score("digits", out=tmp_path / "two", **same).scores.equals(run.scores)


class Softly(torch.nn.Module):
    """Logits that no linear layer gives."""

    def __init__(self):
        super().__init__()
        self.net = unseen.mlp(64, (16,))

    def forward(self, x):
        return self.net(x).log_softmax(1)


@pytest.mark.parametrize("estimator", ["plain", "turnover"])
def test_every_example_has_a_head_score_and_a_network_without_linear_output_says_why_not(tmp_path, estimator):
    options = {"estimator": estimator, "epochs": 2, "limit": 300, "null_fraction": 0.1}
    run = unseen.score("digits", hidden=(16,), out=tmp_path / "linear", **options)
    scores = run.scores
    assert scores["head_memorization"].is_finite().all() and scores["head_loss"].is_finite().all() and "no_head" not in run.summary
    assert (scores.filter(~scores["trained"])["head_memorization"] == 0).all() and scores["head_memorization"].mean() > 0
    other = unseen.score("digits", Softly(), out=tmp_path / "softly", **options)
    assert "head_memorization" not in other.scores.columns and "no linear layer" in other.summary["no_head"]
