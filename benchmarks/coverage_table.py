"""The table and the figure of ``coverage.py``: every score of every configuration against the truth, seeds alone and averaged."""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Row = dict[str, Any]
Floats = NDArray[np.float64]
SIGN = {"aum": -1, "confidence": -1, "correctness": -1}
LEFT_OUT = ("losses", "member", "variability", "loss_seen", "correctness")
OF_THE_LAST = ("memorization", "loss_full", "loss_unseen")
JOINT = {
    "CSL + head_memorization": ("cumulative_loss", "head_memorization_full_later"),
    "unseen loss + head_memorization": ("unseen_loss_mean", "head_memorization_full_later"),
}
"""Sums of ranks of scores of one run."""


def judge(options: argparse.Namespace) -> None:
    """Write deep.json, deep.md and deep.png to ``options.to``, and print the table."""
    truth, wrong, facts = load_truth(options.truth)
    runs = list(load_runs(options.out))
    rows = [
        row for group in grouped(runs) for row in rows_of(group, truth, wrong, plain_seconds(runs, group[0]), facts["reliability_correct"])
    ]
    rows.sort(key=lambda row: -row["spearman_correct"])
    text = (
        markdown(rows, facts, runs)
        + "".join(of_task(name, options.truth.parent.parent) for name in OTHERS)
        + outside(runs, truth, wrong, facts["reliability_correct"])
    )
    print(text)
    if options.to:
        options.to.mkdir(parents=True, exist_ok=True)
        about = {
            "truth": options.truth.name,
            "reliability_correct": facts["reliability_correct"],
            "device": runs[0]["device"],
            "rows": rows,
        }
        (options.to / "deep.json").write_text(json.dumps(about, indent=1) + "\n")
        (options.to / "deep.md").write_text(text)
        draw(rows, facts["reliability_correct"] ** 0.5, options.to / "deep.png")


def load_truth(path: Path) -> tuple[Floats, NDArray[np.bool_], Row]:
    """Memorization of each training example, whether its label is wrong, and the truth's facts."""
    import polars as pl

    table = pl.read_parquet(path.with_suffix(".parquet"))
    facts = json.loads(path.with_suffix(".json").read_text())
    wrong = (table["given_label"] != table["true_label"]).to_numpy()
    return table["memorization"].to_numpy(), wrong, facts


def load_runs(folder: Path) -> Iterator[Row]:
    """Facts and scores of each run that is finished."""
    for path in sorted(folder.rglob("*.json")):
        facts = json.loads(path.read_text())
        yield facts | {"scores": {name: value.astype(float) for name, value in load_file(path.with_suffix(".safetensors")).items()}}


def plain_seconds(runs: list[Row], one: Row) -> float:
    """Seconds of a plain run of the truth's recipe without measurements, median: of the same model on the same device as ``one``."""
    model = one["setup"]["model"]
    same = {"kind": "plain", "model": model, "epochs": 20, "width": 0.25, "lr": 0.01 if model == "vgg11" else 0.02}
    found = [run["seconds"]["training"] for run in runs if same.items() <= run["setup"].items() and run["device"] == one["device"]]
    return float(np.median(found)) if found else math.nan


def grouped(runs: list[Row], model: str = "vgg11") -> list[list[Row]]:
    """Runs on one device that differ in their seed alone, together."""
    groups: dict[str, list[Row]] = {}
    for run in runs:
        if run["setup"]["model"] == model and run["setup"]["kind"] != "retrain":
            groups.setdefault(json.dumps(run["setup"] | {"seed": 0, "device": run["device"]}), []).append(run)
    return list(groups.values())


def rows_of(group: list[Row], truth: Floats, wrong: NDArray[np.bool_], plain: float, reliability: float) -> list[Row]:
    """A row per score: of one seed (mean over the seeds), and of the seeds averaged where there are several."""
    rows = []
    for name in scores_of(group[0]):
        columns = np.stack([column(run, name) for run in group])
        alone = [numbers(one, truth, wrong) for one in columns]
        cost = float(np.mean([seconds_of(run, name) for run in group])) / plain
        about = {"setup": group[0]["setup"], "estimator": described(group[0]), "score": name}
        about |= {f"accuracy_{side}": group[0].get(f"accuracy_{side}") for side in ("seen", "unseen", "full")}
        rows.append(about | {"seeds": 1, "cost": cost} | {key: float(np.mean([one[key] for one in alone])) for key in alone[0]})
        if len(group) > 1:
            rows.append(about | {"seeds": len(group), "cost": cost * len(group)} | numbers(columns.mean(0), truth, wrong))
    return [row | {"share": row["spearman_correct"] / reliability**0.5} for row in rows]


def scores_of(run: Row) -> list[str]:
    """Names of what is judged of a run."""
    names = [name for name in run["scores"] if name not in LEFT_OUT and not (name == "loss_unseen" and run["setup"]["kind"] != "turnover")]
    return names + [name for name, parts in JOINT.items() if set(parts) <= set(run["scores"])]


def column(run: Row, name: str) -> Floats:
    """A score, high = memorized; a joint one as a sum of ranks."""
    if name in JOINT:
        return np.sum([rank(run["scores"][part] * SIGN.get(part, 1)) for part in JOINT[name]], axis=0)
    return run["scores"][name] * SIGN.get(name, 1)


def rank(values: Floats) -> Floats:
    """Mid-ranks over the number of values."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values)) / len(values)


def numbers(score: Floats, truth: Floats, wrong: NDArray[np.bool_]) -> dict[str, float]:
    """Spearman with the truth on right labels and on all, AUROC of the wrong labels."""
    correlation = lambda chosen: float(np.corrcoef(rank(score[chosen]), rank(truth[chosen]))[0, 1])
    ranks, count = rank(score) * len(score), int(wrong.sum())
    area = (ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(score) - count))
    return {"spearman_correct": correlation(~wrong), "spearman": correlation(np.ones_like(wrong)), "auroc": float(area)}


def seconds_of(run: Row, name: str) -> float:
    """What a score takes: training, the measurements that it needs, and the heads where it is one of theirs."""
    seconds, epochs = run["seconds"], run["setup"]["epochs"]
    found = seconds["training"]
    if name in OF_THE_LAST:
        return found + seconds.get("measuring", 0.0) / epochs
    heads = name.startswith("head") or "head" in name
    return found + seconds.get("measuring", 0.0) + (seconds.get("heads", 0.0) / (3 if run["setup"]["kind"] == "turnover" else 1)) * heads


def described(run: Row) -> str:
    """A configuration in words: what differs from the truth's recipe, and the device where it is a GPU."""
    setup = run["setup"]
    words = [setup["kind"] if setup["kind"] != "members" else f"{setup['members']} members"]
    if setup["kind"] == "turnover":
        words.append(("tied, " if setup["tied"] else "untied, ") + (f"{setup['groups']} groups" if setup["groups"] else "independent"))
        words += ["masked: " + "+".join(setup["only"])] if setup["only"] else []
        words += [f"scale {setup['scale']:g}"] if abs(setup["scale"] - 2**0.5) > 1e-6 else []
    standard = {"epochs": 20, "lr": 0.01, "schedule": "cosine", "width": 0.25, "fraction": 0.7, "model": "vgg11"}
    changed = [f"{name} {setup[name]}" for name, value in standard.items() if setup[name] != value]
    return ", ".join(words + changed + ([] if run["device"].startswith("CPU") else ["GPU"]))


def masks_of(setup: Row) -> float:
    """How many different masks a layer's units have among the examples; independent ones are one for each of them."""
    groups = setup["groups"]
    return float(math.comb(groups, groups // 2)) if groups else math.inf


LIMITS = (1.5, 2.0, 3.0)
EQUATION_6 = ("memorization", "memorization_mean")


def best_within(rows: list[Row]) -> list[str]:
    """What follows retraining best within so many plain runs: of all scores, and of equation 6."""
    lines = ["", "| at most so many plain runs | best | rho | best equation 6 | rho |", "|---|---|---|---|---|"]
    for limit in LIMITS:
        cells = [f"{limit:g}"]
        for chosen in (rows, [row for row in rows if row["score"] in EQUATION_6]):
            best = max((row for row in chosen if row["cost"] <= limit), key=lambda row: row["spearman_correct"], default=None)
            name = "" if best is None else f"{best['estimator']}: {best['score']}" + (f" × {best['seeds']}" if best["seeds"] > 1 else "")
            cells += [name, "" if best is None else f"{best['spearman_correct']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


OTHERS = {
    "cifar-resnet": "ResNet-10 with group norms at a quarter of its widths, on the same images",
    "T1": "MLP, on 5,000 images of MNIST",
}
"""Tasks of the fidelity benchmark with a network of another kind."""


def of_task(name: str, folder: Path) -> str:
    """What is best for the network of a task, by the fidelity benchmark; nothing where it was not run."""
    path = folder / f"fidelity-{name}.json"
    if not path.exists():
        return ""
    about = json.loads(path.read_text())
    found = [row for row in about["rows"] if "spearman_correct" in row and row["method"] != "head on features"]  # not of the network
    rows = [row | {"estimator": row["method"], "score": row["score"] or "its score", "seeds": 1} for row in found]
    reliability = about["truth"]["reliability_correct"]
    head = [
        "",
        f"## {OTHERS[name]}",
        "",
        f"From {path.name}, by `python benchmarks/fidelity.py --task {name}`.",
        f"The truth has {about['truth']['members']} members: no score can pass {reliability**0.5:.3f}.",
    ]
    return "\n".join([*head, *best_within(rows)]) + "\n"


def outside(runs: list[Row], truth: Floats, wrong: NDArray[np.bool_], reliability: float) -> str:
    """CCT-2's scores against the truth of VGG-11: an outside measure of difficulty, which no score of another network reaches."""
    rows = [row for group in grouped(runs, "cct2") for row in rows_of(group, truth, wrong, plain_seconds(runs, group[0]), reliability)]
    if not rows:
        return ""
    rows.sort(key=lambda row: -row["spearman_correct"])
    head = [
        "",
        "## CCT-2, against VGG-11's truth",
        "",
        "There is no truth of CCT-2 yet. What VGG-11 memorizes is an outside measure of difficulty.",
        "It ranks estimators; its level says nothing.",
    ]
    return "\n".join([*head, *table_lines(rows)]) + "\n"


def markdown(rows: list[Row], facts: Row, runs: list[Row]) -> str:
    """How the table was made, what is best, and the table."""
    reliability, devices = facts["reliability_correct"], " and ".join(sorted({run["device"] for run in runs}))
    most = reliability**0.5
    lines = [
        "# Which estimator for which deep network",
        "",
        "Made by `python benchmarks/coverage.py table`, of runs made by `python benchmarks/coverage.py run`.",
        "VGG-11 at a quarter of its widths, 5,000 images of CIFAR-10, 500 wrong labels, against retraining with and without each example.",
        f"The truth has {facts['members']} members. Its reliability on right labels is {reliability:.3f}: no score can pass {most:.3f}.",
        f"{len(runs)} runs, on {devices}. On a GPU {max(run['workers'] for run in runs)} ran side by side.",
        "",
        "rho is the Spearman correlation with the truth on right labels. Cost is in plain runs without measurements on the same device.",
        "A row of several seeds judges the mean of their scores, at the cost of all. A row of one seed is the mean over seeds.",
    ]
    return "\n".join([*lines, *best_within(rows), *table_lines(rows)]) + "\n"


def table_lines(rows: list[Row]) -> list[str]:
    """The three best scores of each configuration, and beside them equation 6 and CSL."""
    lines = [
        "",
        "| estimator | score | seeds | cost | rho | of the ceiling | AUROC of wrong labels | seen / unseen / full right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    counts: dict[tuple[str, int], int] = {}
    for row in rows:
        key = row["estimator"], row["seeds"]
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > 3 and row["score"] not in (*EQUATION_6, "cumulative_loss", "head_memorization_full_later"):
            continue
        right = " / ".join(
            "" if row[f"accuracy_{side}"] is None else f"{row[f'accuracy_{side}']:.2f}" for side in ("seen", "unseen", "full")
        )
        lines.append(
            f"| {row['estimator']} | {row['score']} | {row['seeds']} | {row['cost']:.2f} | {row['spearman_correct']:.3f} | "
            f"{row['share']:.2f} | {row['auroc']:.3f} | {right} |"
        )
    return lines


def draw(rows: list[Row], ceiling: float, path: Path) -> None:
    """Coverage, examples per mask, against rank correlation: one mask tied over all layers, 20 epochs, one seed."""
    from matplotlib.figure import Figure

    same = {"kind": "turnover", "epochs": 20, "width": 0.25, "lr": 0.02, "scale": 2**0.5, "only": [], "schedule": "cosine"}
    chosen = [row for row in rows if row["seeds"] == 1 and same.items() <= row["setup"].items()]
    chosen = [row for row in chosen if row["setup"]["tied"] or not row["setup"]["groups"]]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    shown = {"memorization": "equation 6", "memorization_mean": "equation 6, mean over epochs", "unseen_loss_mean": "unseen loss, mean"}
    shown |= {"head_memorization_full_later": "head_memorization", "cumulative_loss": "cumulative loss of the seen half"}
    for name, label in shown.items():
        points = sorted((max(1.0, 5000 / masks_of(row["setup"])), row["spearman_correct"]) for row in chosen if row["score"] == name)
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set_xscale("log")
    axes.axhline(ceiling, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="examples that share a mask", ylabel="Spearman with retraining, right labels")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
