import json
import subprocess
import sys

import pytest

import unseen
from unseen.cli import COMMANDS, main
from unseen.commands.terminal import _sentences

FAST = ["--estimator", "turnover", "--hidden", "64", "--epochs", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    assert main(["score", "digits", *FAST, "--random-labels", "0.05", "--out", str(path)]) == 0
    return path


def test_score_prints_what_it_found(run, capsys):
    assert main(["score", "digits", *FAST, "--random-labels", "0.05", "--out", str(run)]) == 0
    out = capsys.readouterr().out
    for words in ("unseen half (never saw them)", "long tail", "most memorized", "AUROC"):
        assert words in out
    assert str(run) in out.splitlines() and out.splitlines()[-1].startswith(f"Next: unseen suspects {run}")


def test_show(run, capsys):
    assert main(["show", str(run), "--sort", "loss_seen", "--top", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 3 and rows[0]["loss_seen"] >= rows[1]["loss_seen"] and "memorization" in rows[0]
    assert main(["show", str(run), "--top", "3"]) == 0 and "memorization" in capsys.readouterr().out


def test_a_full_network_that_cannot_be_read_is_said(run, capsys):
    summary = unseen.open_run(run).summary
    assert "do not read loss_full" not in " ".join(_sentences(summary))
    broken = _sentences(summary | {"test_accuracy_full": 0.1})
    assert any("do not read loss_full" in line for line in broken) and any("--null-fraction" in line for line in broken)


def test_plot(run, capsys, tmp_path):
    assert main(["plot", str(run), "--out", str(tmp_path / "figure.png")]) == 0
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_audit(capsys):
    assert main(["audit", "digits", "--hidden", "64", "64", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {leak["parameter"] for leak in report["leaks"] if leak["inner_product"] != 0.0} == {"output.bias"}
    assert main(["audit", "digits", "--no-output-bias"]) == 0
    assert "Nothing is shared" in capsys.readouterr().out


def test_runs(run, capsys):
    assert main(["runs", str(run.parent)]) == 0 and "digits" in capsys.readouterr().out
    assert main(["runs", str(run.parent / "nowhere")]) == 0 and "no runs here yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "mnits"], "mnits"),
        (["score", "digits", "--model", "resnet"], "mlp, vgg11, cct"),
        (["score", "digits", "--lr", "-1"], "--lr is -1.0"),
        (["show", "nowhere"], "nowhere is not a run"),
        (["audit", "digits", "--only", "conv1"], "hidden1"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("unseen: ") and message in error and "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_unknown_column(run, capsys):
    assert main(["show", str(run), "--sort", "memorisation"]) == 2
    assert "The columns are" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert (COMMANDS[command].__doc__ or "").split(".")[0] in " ".join(capsys.readouterr().out.split())


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("unseen.scoring.estimators.one_network.measure", interrupted)
    assert main(["score", "digits", *FAST, "--out", str(tmp_path / "run")]) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["score", "digits", *FAST, "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_the_import_is_light():
    code = "import sys, unseen; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "polars",
        "sklearn",
        "scipy",
        "datasets",
        "lightning_fabric",
        "matplotlib",
        "jinja2",
        "plotly",
        "tyro",
        "rich",
        "PIL",
        "pandas",
    }  # torch itself brings tqdm
    assert heavy.intersection(loaded) == set()


def test_all_is_what_is_exported():
    assert set(unseen.__all__) == {name for name in unseen.__all__ if hasattr(unseen, name)}
    assert all(getattr(unseen, name).__doc__ for name in unseen.__all__)
    assert all(callable(getattr(unseen, name)) for name in unseen.__all__)  # none is a file of a room


def test_truth_influence_and_evaluate(tmp_path, capsys):
    path = str(tmp_path / "run")
    options = ["--hidden", "64", "--epochs", "3", "--batch-size", "32", "--random-labels", "0.05", "--limit", "300", "--save-every", "1"]
    assert main(["score", "digits", *options, "--out", path]) == 0
    assert main(["truth", path, "--members", "16"]) == 0
    capsys.readouterr()
    assert main(["evaluate", path, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = ["score", "auroc", "average_precision", "spearman", "spearman_correct", "low", "high", "reliability", "cost"]
    assert set(keys) <= set(rows[0]) and {"memorization", "loss_full"} <= {row["score"] for row in rows}
    assert rows == json.loads((tmp_path / "run" / "metrics.json").read_text())
    for method in ("turnover", "gradient"):
        assert main(["influence", path, "--queries", "test[:3]", "--top", "2", "--method", method, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 3 * 2 * 2
    assert main(["truth", path, "--leave-one-out", "0,5"]) == 0 and "left out 2" in capsys.readouterr().out
    assert main(["truth", path, "--leave-one-out", "first"]) == 2 and "3,17,99" in capsys.readouterr().err
