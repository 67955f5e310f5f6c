"""The work of a command grows with the number of classes, not with its square: counted in calls, which no busy machine changes.

What one call computes is not counted; the memory of the lists' arithmetic is, in tests/curate.
"""

import cProfile
import io
import pstats
import shutil
from contextlib import redirect_stdout
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

import unseen
from campaign import SOAK
from unseen.cli import main
from unseen.commands import COMMANDS

SIZES = (10, 100, 1000, 10_000) if SOAK else (5, 25, 125)
FACTOR = SIZES[1] // SIZES[0]
NETWORK = ["--hidden", "32", "--epochs", "1"]
QUICK = {
    "show": ["show", "RUN"],
    "suspects": ["suspects", "RUN"],
    "rare": ["rare", "RUN", "--json"],
    "easy": ["easy", "RUN", "--csv"],
    "report": ["report", "RUN"],
    "export": ["export", "RUN"],
    "evaluate": ["evaluate", "RUN"],
    "prune": ["prune", "RUN", "--stratify"],
    "runs": ["runs", "ABOVE"],
    "data": ["data", "TABLE"],
    "apply": ["apply", "DECISIONS", "TABLE", "OUT"],
    "outliers": ["outliers", "RUN"],
    "duplicates": ["duplicates", "RUN"],
    "leaks": ["leaks", "RUN"],
    "audit": ["audit", "TABLE", "--hidden", "32"],
}
LONG = {
    "plot": ["plot", "RUN"],
    "dynamics": ["dynamics", "RUN"],
    "score": ["score", "TABLE", *NETWORK, "--estimator", "turnover", "--force", "--out", "OUT"],
    "selfcheck": ["selfcheck", "TABLE", *NETWORK, "--estimator", "turnover", "--force", "--out", "OUT"],
    "truth": ["truth", "RUN", "--members", "8"],
    "influence": ["influence", "RUN", "--queries", "train[:3]"],
    "gradients": ["gradients", "RUN", "--subset", "wrong", "right", "--examples", "20"],
    "privacy": ["privacy", "RUN", "--members", "8", "--held-out-targets", "2"],
    "risky": ["risky", "RUN"],
}
NO_CLASSES = {"recipe": "its data sets have ten", "language": "its text has letters", "download": "it reads nothing"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of as many examples each, of ever more classes."""
    found, rows = {}, 3 * max(SIZES) // 2
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    for classes in SIZES:
        folder = tmp_path_factory.mktemp("growth") / str(classes)
        folder.mkdir()
        labels = [f"class {number % classes}" for number in range(rows)]
        pl.DataFrame({f"x{column}": x[:, column] for column in range(4)} | {"label": labels}).write_csv(folder / "d.csv")
        (folder / "decisions.csv").write_text("id,decision,label\nrow/1,drop,\nrow/2,relabel,class 0\n")
        options = {"hidden": (32,), "epochs": 1, "estimator": "turnover", "random_labels": 0.05, "save_every": 1}
        found[classes] = unseen.score(str(folder / "d.csv"), out=folder / "run", **options).path
    return found


def calls(command, run):
    """Calls of functions, Python's and C's, in one command; a first one imports and caches."""
    above, out = run.parent, run.parent / "out.csv"
    places = {"RUN": run, "ABOVE": above, "TABLE": above / "d.csv", "DECISIONS": above / "decisions.csv", "OUT": out}
    words = [str(places.get(word, word)) for word in command]
    profile = cProfile.Profile()
    with redirect_stdout(io.StringIO()):
        for measured in (False, True):
            shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
            for kept in (*run.glob("weights/truth-*"), *run.glob("weights/privacy-*")):  # else nothing is trained the second time
                shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
            profile.enable() if measured else None
            status = main(words)
            profile.disable()
            assert status == 0
    return pstats.Stats(profile, stream=io.StringIO()).total_calls


@pytest.mark.parametrize("name", [*QUICK, *(LONG if SOAK else ())])
def test_no_command_is_quadratic_in_the_classes(runs, name):
    counts = [calls((QUICK | LONG)[name], runs[classes]) for classes in SIZES]
    for before, after in pairwise(counts[1:]):
        grown = (after - counts[0]) / max(1, before - counts[0])
        assert after < 3 * counts[0] or grown < 2 * FACTOR, (SIZES, counts)  # so many times the classes: so many times the work


def test_every_command_is_measured_or_has_no_classes():
    assert {*QUICK, *LONG, *NO_CLASSES} == COMMANDS.keys()


def test_checking_a_wide_table_is_not_quadratic():
    """Calls on a frame of 10 times as many columns: 10 times as many, and each column is asked for once."""
    from unseen.runs.schema import table_fault

    def asked(width):
        frame = pl.DataFrame({"index": [0, 1]} | {f"p_{number}": [0.5, 0.5] for number in range(width)})
        schemas = []
        whole = pl.DataFrame.schema
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pl.DataFrame, "schema", property(lambda self: schemas.append(1) or whole.fget(self)))
            assert table_fault("unseen_probabilities", frame) is None
        return len(schemas)

    assert asked(1000) == asked(100) <= 2
