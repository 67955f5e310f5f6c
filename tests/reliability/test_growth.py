"""The work of a command grows with the number of classes, not with its square: counted in calls, which no busy machine changes."""

import cProfile
import io
import pstats
from contextlib import redirect_stdout
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

import unseen
from campaign import SOAK
from unseen.cli import main

SIZES = (10, 100, 1000, *((10_000,) if SOAK else ()))
COMMANDS = [["show"], ["suspects"], ["report"], ["export"]]
COMMANDS += [["rare", "--json"], ["evaluate"], ["dynamics"], ["prune", "--stratify"], ["plot"]] if SOAK else []


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of as many examples each, of ever more classes."""
    found, rows = {}, 2 * max(SIZES)
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    for classes in SIZES:
        labels = [f"class {number % classes}" for number in range(rows)]
        options = {"hidden": (32,), "epochs": 1, "estimator": "turnover", "random_labels": 0.05}
        found[classes] = unseen.score((x, labels), out=tmp_path_factory.mktemp("growth") / str(classes), **options).path
    return found


def calls(command, run):
    """Calls of functions, Python's and C's, in one command; a first one imports and caches."""
    profile = cProfile.Profile()
    with redirect_stdout(io.StringIO()):
        assert main([command[0], str(run), *command[1:]]) == 0
        profile.enable()
        status = main([command[0], str(run), *command[1:]])
        profile.disable()
    assert status == 0
    return pstats.Stats(profile, stream=io.StringIO()).total_calls


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_command_is_quadratic_in_the_classes(runs, command):
    counts = [calls(command, runs[classes]) for classes in SIZES]
    for before, after in pairwise(counts[1:]):
        grown = (after - counts[0]) / max(1, before - counts[0])
        assert after < 3 * counts[0] or grown < 20, (SIZES, counts)  # ten times as many classes: ten times the work, not a hundred


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
