"""The audit of a run, its files, the user's own network, and the command line."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

import unseen
from unseen.cli import main
from unseen.commands.privacy import print_privacy
from unseen.errors import UnseenError
from unseen.privacy import ATTACKS, RISKS, figure, privacy_risk, risk_by_class, risk_curve, risky
from unseen.scoring import run_examples
from unseen.training import new_members, new_network, train_members

OPTIONS = {"hidden": (64,), "epochs": 8, "batch_size": 16, "lr": 0.1, "precision": "32", "limit": 300, "random_labels": 0.1}
FEW = {"members": 16, "held_out_targets": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return unseen.score("digits", estimator="plain", out=tmp_path_factory.mktemp("privacy") / "run", **OPTIONS)


@pytest.fixture(scope="module")
def table(run):
    return privacy_risk(run, **FEW)


def test_a_row_per_record_and_rates_per_attack(run, table):
    assert table["index"].equals(run.scores["index"]) and set(ATTACKS) <= set(table.columns)
    assert table.equals(run.table("privacy")) and set(table["risk"]) <= set(RISKS)
    assert table.null_count().sum_horizontal().item() == 0
    for name in ("tpr_at_1_percent", "tpr_at_tenth_percent"):
        low, value, high = (table[f"{name}{end}"].to_numpy() for end in ("_low", "", "_high"))
        assert (low >= 0).all() and (low <= value).all() and (value <= high).all() and (high <= 1).all()
    facts = run.read_json("privacy.json")
    assert (facts["members"], facts["targets"], facts["records"]) == (16, 4, 300)
    lira = facts["attacks"]["lira_online"]
    assert lira["auc"]["low"] <= lira["auc"]["value"] <= lira["auc"]["high"] and lira["auc"]["value"] > 0.55
    assert lira["auc"]["value"] > facts["attacks"]["plain_loss"]["auc"]["value"]
    assert lira["tpr_at_0.0001"]["value"] is None and "at least 100,000 records needed" in lira["tpr_at_0.0001"]["reason"]
    assert set(facts["free"]) == {"loss_trace_spread", "cumulative_loss"}


def test_wrong_labels_are_riskier(run, table):
    scores = run.scores
    wrong = (scores["true_label"] != scores["given_label"]).to_numpy()
    assert table["tpr_at_1_percent"].to_numpy()[wrong].mean() > 2 * table["tpr_at_1_percent"].to_numpy()[~wrong].mean()
    assert np.corrcoef(scores["cumulative_loss"], table["cumulative_loss"])[0, 1] > 0.99


def test_what_was_trained_is_not_trained_again(run, table, monkeypatch):
    monkeypatch.setattr("unseen.judge.retraining.train_members", None)
    assert privacy_risk(run, **FEW).equals(table)
    next((run.path / "weights").glob("privacy-*.safetensors")).unlink()
    assert privacy_risk(run, **FEW).equals(table)  # from the chunks


def test_a_stopped_audit_goes_on(run, table, tmp_path, monkeypatch):
    again = unseen.score("digits", estimator="plain", out=tmp_path / "run", **OPTIONS)
    calls = []

    def stop(*arguments, **options):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return train_members(*arguments, **options)

    monkeypatch.setattr("unseen.judge.retraining.train_members", stop)
    with pytest.raises(KeyboardInterrupt):
        privacy_risk(again, **FEW)
    assert not (again.path / "privacy.parquet").exists()
    monkeypatch.undo()
    done = []
    assert privacy_risk(again, **FEW, progress=done.append).equals(table) and sum(done) == 20


def test_targets_are_apart_from_the_members(run, table):
    tensors = run.read_tensors(next((run.path / "weights").glob("privacy-*.safetensors")).stem)[0]
    inside = tensors["inside"].numpy()
    assert inside.shape == (20, 300) and (inside[:16].sum(0) == 8).all() and (inside[16:].sum(0) == 2).all()
    assert tensors["log_odds"].dtype == torch.float16 and tensors["log_odds"].shape[1] > 300  # the test set is RMIA's population


def test_each_member_in_turn(run):
    table = privacy_risk(run, members=16, held_out_targets=0)
    facts = run.read_json("privacy.json")
    assert facts["targets"] == 16 and facts["record_tests"] is None
    assert facts["attacks"]["lira_online"]["auc"]["value"] > 0.55 and len(table) == 300
    privacy_risk(run, **FEW)


@pytest.fixture(scope="module")
def network(run):
    """A network trained on the run's training records by its recipe, and all records."""
    config, examples = run_examples(run)
    members = new_members(config.network, examples, [5])
    *_, last = train_members(members, examples.train, config.training, torch.ones(1, 300, dtype=torch.bool), 9)
    net = new_network(config.network, examples, 0)
    net.load_state_dict(last.members().member(0))
    return net, examples


def test_ones_own_network_as_callable_weights_or_logits(run, network, tmp_path):
    net, examples = network
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    logits = net(examples.batch(torch.arange(len(examples)))[0]).detach()
    np.save(tmp_path / "logits.npy", logits.numpy())
    save_file({"logits": logits}, tmp_path / "logits.safetensors")
    first = privacy_risk(run, members=16, target=net)
    facts = run.read_json("privacy.json")
    assert facts["attacked"] == "your own network" and facts["attacks"]["lira_online"]["auc"]["value"] > 0.55 and len(first) == 300
    files = [tmp_path / name for name in ("net.safetensors", "logits.npy", "logits.safetensors")]
    for target in (lambda x: net(x), logits, logits.numpy(), *files):
        other = privacy_risk(run, members=16, target=target)
        assert np.allclose(other["lira_online"], first["lira_online"], atol=1e-3)
    privacy_risk(run, members=16, target=logits, target_member=np.arange(len(examples)) < 100)
    assert run.read_json("privacy.json")["attacks"]["lira_online"] != facts["attacks"]["lira_online"]
    privacy_risk(run, members=16, target=logits, target_member=np.ones(len(examples), dtype=bool))
    unknown = run.read_json("privacy.json")["attacks"]["lira_online"]["auc"]
    assert unknown["value"] is None and "trained on all of the records" in unknown["reason"]
    assert main(["privacy", str(run.path), "--members", "16", "--target", str(files[0])]) == 0
    privacy_risk(run, **FEW)


def test_targets_that_are_none(run, network, tmp_path):
    examples = network[1]
    count = len(examples)
    spoiled = torch.zeros(count, 10)
    spoiled[7, 1] = torch.nan
    save_file({"0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.npy").write_bytes(b"none")
    (tmp_path / "broken.safetensors").write_bytes(b"none")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    bad = {
        "has 3 classes, and the run has 10": torch.zeros(count, 3),
        "shape .5, 10.": torch.zeros(5, 10),
        f"not finite for 1 of {count} records, first for 7": spoiled,
        "cannot take inputs": torch.nn.Linear(3, 10),
        "does not give a tensor of logits": lambda x: x.sum(),
        "another network than the run's mlp": tmp_path / "other.safetensors",
        "must be a file": tmp_path / "nothing.npy",
        "broken.npy cannot be read": tmp_path / "broken.npy",
        "objects.npy cannot be read": tmp_path / "objects.npy",
        "broken.safetensors is not": tmp_path / "broken.safetensors",
    }
    for message, target in bad.items():
        with pytest.raises(UnseenError, match=message):
            privacy_risk(run, members=16, target=target)
    with pytest.raises(UnseenError, match="it must be bool"):
        privacy_risk(run, members=16, target=torch.zeros(count, 10), target_member=[True])


def test_the_command_line(run, table, capsys):
    privacy_risk(run, **FEW)
    assert main(["privacy", str(run.path), "--members", "16", "--held-out-targets", "4"]) == 0
    out = capsys.readouterr().out
    assert "lira_online" in out and "tpr_at_0.0001 is unknown: at least 100,000 records needed" in out and "300 training records" in out
    assert main(["privacy", str(run.path), "--members", "16", "--held-out-targets", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == run.read_json("privacy.json")
    rows = risky(run)
    assert 0 < len(rows) < 300 and rows["score"].is_sorted(descending=True) and set(rows["risk"]) <= {"raised", "high"}
    assert len(risky(run, "high")) == rows["risk"].eq("high").sum()
    assert main(["risky", str(run.path), "--top", "3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["examples"] == len(rows) and shown["rows"] == rows.head(3).to_dicts() and sum(shown["risks"].values()) == 300
    assert main(["risky", str(run.path), "--top", "0", "--csv"]) == 0
    assert pl.read_csv(capsys.readouterr().out.encode()).drop("decision").shape == rows.shape
    assert main(["risky", str(run.path), "--top", "3"]) == 0
    assert f"At risk: {len(rows):,} of 300" in capsys.readouterr().out


def test_the_list_is_what_apply_takes(run, table, tmp_path, capsys):
    privacy_risk(run, **FEW)
    assert main(["risky", str(run.path), "--top", "0", "--csv"]) == 0
    (tmp_path / "risky.csv").write_text(capsys.readouterr().out)
    assert main(["apply", str(tmp_path / "risky.csv"), str(run.path), str(tmp_path / "kept.csv")]) == 0
    kept, gone = pl.read_csv(tmp_path / "kept.csv"), risky(run)
    assert len(kept) == 300 - len(gone) and not set(kept["index"]) & set(gone["index"])
    assert f"{len(gone)} dropped" in capsys.readouterr().out


def test_the_figure(run, table, tmp_path):
    privacy_risk(run, **FEW)
    assert main(["privacy", str(run.path), "--members", "16", "--held-out-targets", "4", "--figure"]) == 0
    assert (run.path / "privacy.png").read_bytes()[:4] == b"\x89PNG"
    assert figure(run, tmp_path / "roc.svg").read_text().count("<path") > 50
    rows = risk_by_class(table)
    at_risk = [row["high"] + row["raised"] for row in rows]
    assert sum(row["records"] for row in rows) == 300 and at_risk == sorted(at_risk, reverse=True)
    counted = sum(round(row["records"] * row["high"]) for row in rows)
    assert counted == table["risk"].eq("high").sum() and all(sum(row[risk] for risk in RISKS) == pytest.approx(1) for row in rows)


def test_memorization_by_the_members_is_that_of_their_losses(run, table):
    privacy_risk(run, **FEW)
    kept = (run.read_tensors(path.stem)[0] for path in (run.path / "weights").glob("privacy-*.safetensors"))
    tensors = next(tables for tables in kept if len(tables["inside"]) == 20)
    losses, inside = np.log1p(np.exp(-tensors["log_odds"][:16, :300].double().numpy())), tensors["inside"][:16].numpy()
    for record in range(0, 300, 37):
        wanted = losses[~inside[:, record], record].mean() - losses[inside[:, record], record].mean()
        assert table["members_memorization"][record] == pytest.approx(wanted, rel=1e-5)


def test_the_curve_says_what_lowers_the_risk(run, table, monkeypatch, capsys):
    privacy_risk(run, **FEW)
    done = []
    rows = risk_curve(run, members=8, targets=2, progress=done.append)
    assert rows["variant"].to_list() == [
        "as it is", "riskiest 5% dropped", "riskiest 10% dropped", "10% random labels",
        "weight decay 0.001", "weight decay 0.01", "4 of 8 epochs", "2 of 8 epochs",
    ]  # fmt: skip
    assert sum(done) == 10 * len(rows) and rows["records"].to_list() == [300, 285, 270, *[300] * 5]
    by = dict(zip(rows["variant"], rows["auc"], strict=True))
    assert by["2 of 8 epochs"] < by["as it is"]
    loss = dict(zip(rows["variant"], rows["test_loss"], strict=True))
    assert loss["10% random labels"] > loss["as it is"]
    monkeypatch.setattr("unseen.judge.retraining.train_members", None)  # nothing is trained again
    assert risk_curve(run, members=8, targets=2).equals(rows) and (run.path / "privacy_curve.png").exists()
    monkeypatch.undo()
    monkeypatch.setattr("unseen.privacy.curve.networks", lambda *_: pytest.fail("nothing may be trained"))
    with pytest.raises(UnseenError, match="at least 2 targets"):
        risk_curve(run, members=8, targets=0)
    print_privacy(run, as_json=False, curve=True)
    out = capsys.readouterr().out
    assert "riskiest 5% dropped" in out and "privacy_curve.png" in out


def test_data_and_a_network_of_ones_own(tmp_path):
    data = (torch.randn(120, 6), torch.arange(120) % 3)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    run = unseen.score(data, model, estimator="plain", out=tmp_path / "run", epochs=2)
    table = privacy_risk(run, members=4, held_out_targets=2, data=data, model=model)
    assert table["index"].equals(run.scores["index"])
    own = privacy_risk(run, members=4, target=model, data=data, model=model)
    assert len(own) == len(table) and not own["lira_online"].equals(table["lira_online"])
    with pytest.raises(UnseenError):
        privacy_risk(run, members=4, held_out_targets=2)  # the arrays are not in the run


def test_a_run_with_an_unseen_side(tmp_path):
    options = OPTIONS | {"limit": 80, "epochs": 2}
    run = unseen.score("digits", estimator="turnover", out=tmp_path / "run", **options)
    assert "loss_trace_spread" in privacy_risk(run, members=4, held_out_targets=2).columns
    assert "memorization" in risky(run).columns
