"""How well each score follows retraining, against what it costs: one table, one picture.

    python benchmarks/fidelity.py --task T1 --data-dir DATA --work work --out docs/results   # one thread
    python benchmarks/fidelity.py --task digits --members 80                                 # all of it, in CI's time

The truth may be that of a run of the task's examples and recipe, which several processes make sooner (`unseen truth T1 --devices 2`):

    python benchmarks/fidelity.py --task T1 --truth T1

Ours: turn-over dropout (equation 6 at the last epoch, its mean over epochs, the unseen half's loss, the full network's; the last weights
and the mean of the last third's) and members. Theirs: `peers.py`; `--no-peers` leaves them out, a library that is not installed is
skipped by name. Cost: processor seconds of one thread, of a method's whole run with its measurements, in plain runs without measurements
of the same process. The truth is trained by the task's recipe in bf16 (`--members`), which takes long. With `--work` its chunks and
the scores are kept, so that a stopped benchmark goes on, and `--stage` does one part of it (several processes can do one each).
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import run_peers, table
from tasks import TASKS, Task, clock, load_task

from unseen.hashing import key
from unseen.judge.retraining import subset_truth as truth
from unseen.runs.run import Run, open_run
from unseen.scoring.estimators import new_net, running_mean
from unseen.training.loop import train
from unseen.training.measuring import measure
from unseen.training.members import members_losses, membership, new_members, small, train_members
from unseen.training.processes import make_fabric
from unseen.training.samples import LOST, WARM_UP, two_samples

Row = dict[str, Any]


def turnover(task: Task, label: str, seeds: int, **changes: Any) -> Iterator[Row]:
    """Scores of turn-over dropout, of each seed apart. Those over epochs also pay for measuring every epoch."""
    config = task.config.change(estimator="turnover", average=max(1, task.config.training.epochs // 3), **changes)
    for seed in range(seeds):
        start, measuring, mean, gaps, unseen_losses, full_losses = clock(), 0.0, {}, [], [], []
        fabric, net = make_fabric(1, config.training.precision), new_net(config, task.examples, config.network.model, seed)
        for epoch in train(net, task.examples, config, seed, fabric):
            before = clock()
            measured = measure(net, task.examples, fabric)
            measuring += clock() - before if epoch.number < config.training.epochs else 0.0
            mean = running_mean(mean, epoch, config)
            if epoch.number > WARM_UP * config.training.epochs:
                gaps.append((measured["loss_unseen"] - measured["loss_seen"]).numpy())
                unseen_losses.append(measured["loss_unseen"].numpy())
                full_losses.append(measured["loss_full"].numpy())
        net.load_state_dict(mean)
        averaged = measure(net, task.examples, fabric)
        found = {"gap (eq. 6), last epoch": gaps[-1], "gap (eq. 6), mean over epochs": np.mean(gaps, 0)}
        found |= {"gap (eq. 6), mean weights": (averaged["loss_unseen"] - averaged["loss_seen"]).numpy()}
        found |= {"unseen loss, mean over epochs": np.mean(unseen_losses, 0), "full loss, mean over epochs": np.mean(full_losses, 0)}
        seconds = clock() - start
        for name, score in found.items():
            own = seconds if "over epochs" in name else seconds - measuring
            yield {"method": f"{label}: {name}", "seed": seed, "seconds": own, "score": score}


def members(task: Task, count: int, seeds: int = 1) -> Iterator[Row]:
    """Scores of the members estimator, of each seed apart."""
    recipe = small(task.config.change(precision="auto"), len(task.examples))
    for seed in range(seeds):
        start, later = clock(), []
        fabric = make_fabric(1, recipe.training.precision)
        networks = new_members(recipe.network, task.examples, [key(seed, "member", number) % 2**31 for number in range(count)])
        member = membership(task.examples.index, seed, count, recipe.members.fraction)
        for epoch in train_members(networks, task.examples, recipe.training, member, key(seed, "order"), fabric, lost=LOST):
            if epoch.number > WARM_UP * recipe.training.epochs:
                later.append(epoch.losses.double().numpy())
        final = two_samples(members_losses(epoch.members(), task.examples, fabric).double().numpy(), member.numpy())
        mean = two_samples(np.mean(later, 0), member.numpy())
        found = {"gap, last epoch": final.gap, "gap, mean over epochs": mean.gap, "unseen loss, mean over epochs": mean.unseen}
        found["loss of all, mean over epochs"] = np.mean(later, (0, 1))
        seconds = clock() - start
        label = f"{count} members" + (f" of {recipe.network.hidden[0]}" if recipe.network.model == "mlp" else "")
        yield from ({"method": f"{label}: {name}", "seed": seed, "seconds": seconds, "score": score} for name, score in found.items())


def ours(task: Task, seeds: int, counts: list[int]) -> list[Row]:
    """All rows of turn-over dropout and of members, with their cost in plain runs."""
    plain = [task.plain_seconds(), task.plain_seconds()]
    if task.config.network.model == "mlp":
        wide = {
            "hidden": tuple(8 * width for width in task.config.network.hidden),
            "batch_size": 4 * task.config.training.batch_size,
            "groups": 256,
        }
        wide |= {"lr": 2 * task.config.training.lr, "precision": "auto", "schedule": "cosine"}
        rows = [*turnover(task, f"turn-over {task.config.network.hidden[0]}", seeds)]
        rows += turnover(task, f"turn-over {wide['hidden'][0]}, {wide['groups']} groups, cosine", 1, **wide)
    else:
        rows = [*turnover(task, f"turn-over, {task.config.masks.groups} tied groups", seeds)]
        rows += turnover(task, f"turn-over, {task.config.masks.groups} tied groups, cosine", 1, schedule="cosine", precision="auto")
    for count in counts:
        rows += members(task, count)
        plain.append(task.plain_seconds())
    for row in rows:
        row["cost"] = row["seconds"] / statistics.median(plain)
    return rows


def kept(path: Path | None, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows from a file, or made and written there: scores as arrays, the rest as JSON."""
    if path is None or not path.exists():
        rows = make()
        if path is not None:
            about = [{name: value for name, value in row.items() if name != "score"} for row in rows]
            scores = {str(number): row["score"] for number, row in enumerate(rows) if "score" in row}
            np.savez_compressed(path, about=np.array(json.dumps(about)), **scores)
        return rows
    with np.load(path) as stored:
        about = json.loads(str(stored["about"]))
        return [row | ({"score": stored[str(number)]} if str(number) in stored else {}) for number, row in enumerate(about)]


def truth_of_run(task: Task, path: Path) -> tuple[Any, dict[str, Any]]:
    """The same from a run of the task's examples and recipe."""
    run = open_run(path)
    frame, asked, found = run.table("truth"), task.config.flat(), run.config.flat()
    recipe = ("model", "hidden", "width", "epochs", "lr", "momentum", "batch_size", "schedule", "optimizer", "weight_decay")
    same = all(asked[name] == found[name] for name in recipe) and frame["given_label"].to_list() == task.examples.labels.tolist()
    if not same:
        raise SystemExit(f"{path} is not a run of {task.name}'s examples and recipe")
    return frame["memorization"].to_numpy(), run.read_json("truth.json")


def retrained(task: Task, count: int, work: Path | None) -> tuple[Any, dict[str, Any]]:
    """The truth's memorization of each example, and its facts; chunks of members that are in ``work`` are not trained again."""
    config = task.config.change(precision="bf16")
    frame, facts = truth(task.examples, config, count, run=Run(work) if work else None)
    if work:
        frame.write_parquet(work / "truth.parquet")
    return frame["memorization"].to_numpy(), facts


def draw(lines: list[Row], task: str, ceiling: float | None, path: Path) -> None:
    """Cost (logarithmic) against rank correlation with the truth on correct labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    kinds = {"members": "#4477aa", "turn-over": "#cc6677", "": "#999999"}
    judged = sorted((line for line in lines if "spearman_correct" in line), key=lambda line: -line["spearman_correct"])
    named: set[tuple[str, float]] = set()
    for line in judged:  # best first: only the best score of a run is named
        kind = next(kind for kind in kinds if kind in line["score"])
        place = line["cost"], line["spearman_correct"]
        axes.scatter(*place, s=18, color=kinds[kind])
        run = (kind, round(line["cost"], 1))
        if run not in named:
            named.add(run)
            name = line["score"].replace(", mean over epochs", "") + (f" × {line['seeds']}" if line["seeds"] > 1 else "")
            axes.annotate(name, place, (4, -2), textcoords="offset points", fontsize=6.5)
    axes.set_xlim(right=150)
    if ceiling:
        axes.axhline(ceiling**0.5, color="black", linewidth=0.8, linestyle=":", label="most that the truth's reliability allows")
        axes.legend(frameon=False, loc="lower right")
    axes.set(xlabel="cost in plain training runs", ylabel="Spearman with retraining, correct labels", title=task)
    figure.savefig(path, dpi=150)


def markdown(lines: list[Row], facts: dict[str, Any]) -> str:
    """What the truth is, and the table, best first."""
    reliability = f"{facts['reliability']:.3f}, on correct labels {facts['reliability_correct']:.3f}"
    text = [f"Truth: {facts['members']} members on {facts['fraction']:.0%} of the examples each; reliability {reliability}.", ""]
    text += ["| score | runs | cost | AUROC | AP | rho, all | rho, correct labels |", "|---|---|---|---|---|---|---|"]
    for line in sorted(lines, key=lambda line: -line.get("spearman_correct", -1)):
        if "skipped" in line:
            text.append(f"| {line['score']} | {line['skipped']} | | | | | |")
            continue
        numbers = [line[name] for name in ("auroc", "average_precision", "spearman", "spearman_correct")]
        text.append(
            f"| {line['score']} | {line['seeds']} | {line['cost']:.2f} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--data-dir", help="where the data sets lie; else UNSEEN_DATA")
    parser.add_argument("--members", type=int, default=400, help="of the truth")
    parser.add_argument("--truth", type=Path, help="a run of the task with a truth.parquet, in place of retraining here")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16, 32, 64], help="of the members estimator")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--minutes", type=float, default=10, help="of processor time that a library may take before it is skipped")
    parser.add_argument("--work", type=Path, help="folder for the truth's chunks and all scores")
    parser.add_argument("--stage", choices=["truth", "ours", "peers", "all"], default="all", help="do only this part; needs --work")
    parser.add_argument("--redraw", type=Path, help="only draw the picture of this fidelity-TASK.json again, beside it")
    parser.add_argument("--out", type=Path, help="folder for fidelity-TASK.json, .md and .png")
    options = parser.parse_args()
    if options.redraw:
        found = json.loads(options.redraw.read_text())
        return draw(found["rows"], found["task"], found["reliability_correct"], options.redraw.with_suffix(".png"))
    torch.set_num_threads(1)
    task, work = load_task(options.task, options.data_dir), None
    if options.work:
        work = options.work / task.name
        work.mkdir(parents=True, exist_ok=True)
    file = lambda name: work / f"{name}.npz" if work else None
    rows: list[Row] = []
    if options.stage in ("ours", "all"):
        rows += kept(file("ours"), lambda: ours(task, options.seeds, options.counts))
    if options.stage in ("peers", "all") and not options.no_peers:
        rows += kept(file("peers"), lambda: run_peers(task, range(options.seeds), minutes=options.minutes))
    if options.stage in ("truth", "all"):
        target, facts = truth_of_run(task, options.truth) if options.truth else retrained(task, options.members, work)
        print(facts)
    if options.stage == "all":
        lines = table(task, rows, target)
        print(markdown(lines, facts))
        if options.out:
            write(lines, task.name, facts, options.out)


def write(lines: list[Row], task: str, facts: dict[str, Any], out: Path) -> None:
    """The table as JSON and Markdown, and the picture."""
    out.mkdir(parents=True, exist_ok=True)
    about = {"task": task, "torch": torch.__version__, "reliability_correct": facts["reliability_correct"], "truth": facts, "rows": lines}
    (out / f"fidelity-{task}.json").write_text(json.dumps(about, indent=1) + "\n")
    (out / f"fidelity-{task}.md").write_text(markdown(lines, facts))
    draw(lines, task, facts["reliability_correct"], out / f"fidelity-{task}.png")


if __name__ == "__main__":
    main()
