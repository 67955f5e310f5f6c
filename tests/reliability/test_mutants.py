"""A stranger's run, mutated: every command works or refuses in a line. Never a traceback, never a hang."""

import io
import json
import random
import shutil
from contextlib import redirect_stderr, redirect_stdout

import polars as pl
import pytest

import unseen
from campaign import SOAK
from unseen.cli import main

MUTANTS = 2400 if SOAK else 60
ODD = [
    None,
    True,
    -1,
    0,
    1,
    2**70,
    -(2**63),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "a" * 5000,
    "$x_{",
    "../..",
    "hf:a/b",
    "\ud800",
    [],
    [1],
    ["a", "b"],
]
ODD += [
    {},
    {"a": 1},
    [[]],
    [None],
    ["index:@/etc/passwd"],
    "high:aum:0.5",
    1e-300,
    3.5,
    10**9,
    "<script>",
    "\0",
    ["x"] * 12,
    [0.5] * 12,
    [-1],
    [10**12],
]
COMMANDS = [
    ["show", "RUN"],
    ["show", "RUN", "--sort", "aum", "--json"],
    ["suspects", "RUN"],
    ["rare", "RUN", "--csv"],
    ["easy", "RUN", "--json"],
    ["report", "RUN"],
    ["plot", "RUN"],
    ["export", "RUN"],
    ["export", "RUN", "--format", "cartography"],
    ["evaluate", "RUN"],
    ["risky", "RUN"],
    ["risky", "RUN", "--csv"],
    ["dynamics", "RUN"],
    ["prune", "RUN", "--stratify", "--drop-suspects"],
    ["runs", "ABOVE"],
    ["apply", "DECISIONS", "RUN", "OUT"],
]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A run with every table that these commands read."""
    path = tmp_path_factory.mktemp("mutants") / "run"
    options = {"limit": 60, "hidden": (16,), "epochs": 2, "random_labels": 0.1, "null_fraction": 0.1, "estimator": "turnover"}
    unseen.score("digits", out=path, watch=("wrong", "right"), **options)
    audit = ["privacy", "--members", "4", "--held-out-targets", "2"]
    for command in (["suspects"], ["evaluate"], ["truth", "--members", "16"], ["influence", "--queries", "test[:3]"], audit):
        assert tell([command[0], "RUN", *command[1:]], path) == (0, "")
    return path


def tell(command, run):
    (run.parent / "decisions.csv").write_text("id,decision,label\ntrain/1,keep,\n", encoding="utf-8")
    out = run.parent / "out.csv"
    out.unlink(missing_ok=True)
    places = {"RUN": run, "ABOVE": run.parent, "DECISIONS": run.parent / "decisions.csv", "OUT": out}
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        status = main([str(places.get(word, word)) for word in command])
    return status, said.getvalue()


def mutate_json(path, chance):
    value = json.loads(path.read_text())
    if not value:
        return "empty as it is"
    target, keys = value, None
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = chance.choice(keys)
        if isinstance(target[key], dict | list) and target[key] and chance.random() < 0.5:
            target = target[key]
        else:
            break
    deed = chance.choice(["set", "set", "set", "drop", "add"])
    if deed == "drop":
        del target[key]
    elif deed == "set":
        target[key] = chance.choice(ODD)
    elif isinstance(target, dict):
        target[chance.choice(["a", "shards", "classes", "losses", "watch"])] = chance.choice(ODD)
    else:
        target.append(chance.choice(ODD))
    path.write_text(json.dumps(value))
    return f"{deed} {key!r}"


def mutate_table(path, chance):
    frame = pl.read_parquet(path)
    name = chance.choice(frame.columns)
    column, deed = (
        frame[name],
        chance.choice(["drop", "type", "nulls", "value", "value", "value", "fewer", "twice", "shuffle", "none", "rename", "add"]),
    )
    if deed == "drop":
        frame = frame.drop(name)
    elif deed == "type":
        kind = chance.choice([pl.String, pl.Float64, pl.Int8, pl.Boolean, pl.List(pl.Int64), pl.Date])
        frame = frame.with_columns(pl.Series(name, [None] * len(frame), dtype=kind) if chance.random() < 0.5 else column.cast(pl.String))
    elif deed == "nulls":
        frame = frame.with_columns(pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.col(name)).alias(name))
    elif deed == "value":
        odd = chance.choice([-1, 10**6, 2**62, -(2**62), float("nan"), float("inf"), -0.5, 1.5, 7, "$x_{", "\0", "", True])
        place = chance.randrange(len(frame))
        try:
            new = pl.Series(
                name, [odd if row == place else value for row, value in enumerate(column.to_list())], dtype=column.dtype, strict=False
            )
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            new = column
        frame = frame.with_columns(new)
    elif deed == "fewer":
        frame = frame.head(chance.randrange(len(frame)))
    elif deed == "twice":
        frame = pl.concat([frame, frame.head(3)])
    elif deed == "shuffle":
        frame = frame.sample(fraction=1, shuffle=True, seed=1)
    elif deed == "none":
        frame = frame.clear()
    elif deed == "rename":
        frame = frame.rename({name: "other"})
    else:
        frame = frame.with_columns(pl.lit(1).alias(chance.choice(["true_label", "q_value", "memorization_se", "text", "p_10", "index2"])))
    frame.write_parquet(path)
    return f"{deed} {name!r}"


@pytest.mark.parametrize("number", range(MUTANTS))
def test_a_mutant(healthy, tmp_path, number, monkeypatch):
    chance = random.Random(number)
    run = tmp_path / "run"
    shutil.copytree(healthy, run)
    if chance.random() < 0.5:
        (run / "origin.json").unlink()
    told = []
    for _ in range(chance.choice([1, 1, 2])):
        path = chance.choice(sorted(path for path in run.iterdir() if path.suffix in (".json", ".parquet")))
        told.append(f"{path.name}: {(mutate_json if path.suffix == '.json' else mutate_table)(path, chance)}")
    for command in chance.sample(COMMANDS, 4):
        try:
            status, said = tell(command, run)
        except BaseException as error:
            raise AssertionError(f"{command} on {told}") from error
        assert status in (0, 2) and (status == 0 or said.startswith("unseen: ")), (command, told, said)
