"""The hub, by a stand-in that lies in a folder: a run keeps the commit that it was made of, and reads that one again."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

import unseen
from unseen.cli import main
from unseen.data.hub import commit_of, pinned
from unseen.errors import UnseenError

OLD, NEW = "a" * 40, "b" * 40
SCORE = ["score", "hf:owner/name", "--hidden", "16", "--epochs", "1", "--estimator", "turnover", "--out", "run"]


class Hub:
    """Commits of one data set; the files of each lie in the cache under its name, as those of ``datasets`` do."""

    def __init__(self, folder):
        self.folder, self.asked, self.newest, self.offline = folder, [], OLD, False
        for number, commit in enumerate((OLD, NEW)):
            x = np.random.default_rng(number).normal(size=(80, 4))
            table = {f"x{column}": x[:, column] for column in range(4)} | {"label": (x[:, 0] > 0).astype(int)}
            datasets.Dataset.from_dict(table).save_to_disk(folder / commit)

    def load_dataset(self, name, revision=None):
        self.asked.append((name, revision))
        commit = self.newest if self.offline or revision in (None, "main") else revision
        return datasets.DatasetDict({"train": datasets.load_from_disk(str(self.folder / commit))})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = Hub(tmp_path / "owner___name" / "default" / "0.0.0")
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    return hub


def test_the_commit_stands_in_the_run_and_later_commands_read_it_again(hub):
    assert main(SCORE) == 0
    assert json.loads(Path("run/config.json").read_text())["data"] == f"hf:owner/name@{OLD}"
    labels = unseen.open_run("run").scores["given_label"]
    hub.newest = NEW
    assert main(["truth", "run", "--members", "16"]) == 0 and hub.asked[-1] == ("owner/name", OLD)
    assert unseen.open_run("run").table("truth")["given_label"].equals(labels)
    assert main(["influence", "run", "--queries", "test[:2]"]) == 0 and hub.asked[-1] == ("owner/name", OLD)


def test_a_new_commit_is_another_run(hub, capsys):
    assert main(SCORE) == main(SCORE) == 0  # the same commit is the same run
    hub.newest = NEW
    assert main(SCORE) == 2
    assert "data" in capsys.readouterr().err
    assert main([*SCORE, "--force"]) == 0
    assert NEW in json.loads(Path("run/config.json").read_text())["data"]


def test_a_cache_with_another_commit_is_refused(hub, capsys):
    assert main(SCORE) == 0
    hub.newest, hub.offline = NEW, True
    assert main(["truth", "run", "--members", "16"]) == 2
    said = capsys.readouterr().err
    assert OLD in said and NEW in said


def test_a_revision_of_ones_own(hub):
    for asked, found in (("main", OLD), (NEW, NEW)):
        examples = unseen.load(f"hf:owner/name@{asked}")
        assert examples.reading.revision == found and examples.name == "owner/name"
    assert unseen.Config.of(data=f"hf:owner/name@{NEW}").folder().name.startswith("name-mlp-")


def test_an_unknown_commit_is_said(hub, monkeypatch):
    table = datasets.Dataset.from_dict({"x": [1.0, 2.0] * 20, "label": [0, 1] * 20})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, revision=None: table)
    reading = unseen.load("hf:owner/name").reading
    assert commit_of(table) is None and reading.revision is None and any("@REVISION" in note for note in reading.notes)
    assert pinned("hf:owner/name", None) == "hf:owner/name" and pinned("d@1.csv", OLD) == "d@1.csv"
    assert unseen.load(f"hf:owner/name@{OLD}").reading.revision == OLD


def test_splits_of_two_commits_are_of_no_commit(hub):
    both = datasets.DatasetDict(
        {split: datasets.load_from_disk(str(hub.folder / commit)) for split, commit in (("train", OLD), ("test", NEW))}
    )
    assert commit_of(both) is None


def test_what_the_hub_does_not_have_is_told(hub, monkeypatch):
    def fails(name, revision=None):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(UnseenError, match=f"hf:owner/name at {OLD}: no network"):
        unseen.load(f"hf:owner/name@{OLD}")
