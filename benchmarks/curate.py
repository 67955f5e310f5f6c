"""How right the lists are, and cleanlab on our out-of-sample probabilities against its own cross-validation.

`--runs RUN …` (scored with --random-labels): precision at n of *probably wrong* (n: how many labels were changed), by each score and by
the lists' own probability, and what *rare but right* holds of the changed labels. `--cleanlab`: MNIST's first 5,000 images, 250 labels
changed, MLP 784-512-10, 30 epochs: 5 folds of that network against one run of it with turn-over dropout, and against members; processor
seconds. Both write into docs/results/curate.json, and curate.md from it.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import unseen
from unseen.config import Config
from unseen.curate.lists import difficulty, judged, rare, right_probability, suspects
from unseen.curate.neighbours import find_neighbours
from unseen.data.noise import random_labels
from unseen.judge.evaluation import precision_at_n
from unseen.models.paper import build
from unseen.scoring.scores import detection
from unseen.training.loop import train

Floats = NDArray[np.floating[Any]]
SETTING: dict[str, Any] = {
    "hidden": (512,),
    "epochs": 30,
    "lr": 0.05,
    "momentum": 0.9,
    "batch_size": 64,
    "precision": "32",
    "schedule": "constant",
}
BY = ("memorization", "label_score", "unseen_loss_mean", "full_loss_mean", "cumulative_loss")


def lists_of(path: Path) -> dict[str, Any]:
    run = unseen.open_run(path)
    start = time.process_time()
    problem = find_neighbours(run)
    seconds = time.process_time() - start
    table = judged(run)
    wrong = (table["true_label"] != table["given_label"]).to_numpy()
    config = run.config
    row: dict[str, Any] = {
        "data": config.data.data,
        "estimator": config.estimator,
        "epochs": config.training.epochs,
        "noise": config.noise.label_noise,
    }
    row |= {"wrong": int(wrong.sum()), "examples": len(table), "neighbours": problem is None, "neighbour_seconds": round(seconds, 1)}
    row |= {f"at_n_{name}": precision_at_n(wrong, (-1 if name == "label_score" else 1) * table[name].to_numpy()) for name in BY}
    row["at_n_wrong_probability"] = precision_at_n(wrong, table["doubt"].to_numpy())
    changed = table.filter(table["true_label"] != table["given_label"]).select("index")
    for name, found in (("suspects", suspects(run)), ("rare", rare(run))):
        hits = len(found.join(changed, on="index", how="semi"))
        row |= {f"{name}": len(found), f"{name}_changed": hits}
    return row | {"difficulty": difficulty(run)}


class Plain(nn.Module):
    """A plain network for ``unseen.train.train``, which hands on the index."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return self.net(x)


def cross_validated(examples: unseen.Examples, config: Config, folds: int = 5) -> Floats:
    fold = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)) % folds
    chances = torch.zeros(len(examples), len(examples.classes))
    for held_out in range(folds):
        torch.manual_seed(held_out)
        net = Plain(build(config.network.model, examples.shape, len(examples.classes), config.network.hidden))
        for _ in train(net, examples.select(fold != held_out), config, held_out):
            pass
        with torch.no_grad():
            chances[fold == held_out] = net.net(
                examples.select(fold == held_out).batch(torch.arange(int((fold == held_out).sum())))[0]
            ).softmax(1)
    return chances.double().numpy()


def cleanlab_rows() -> list[dict[str, Any]]:
    examples = random_labels(unseen.load("mnist", limit=5000), 250, avoid_true=True)
    kept, config = examples.train, Config.of(data="mnist", **SETTING).resolved()
    labels, wrong = kept.labels.numpy(), (kept.labels != kept.true_labels).numpy()
    rows = []
    start = time.process_time()
    rows.append(_row("5 folds of the network", cross_validated(kept, config), labels, wrong, time.process_time() - start))
    ours: dict[str, dict[str, Any]] = {
        "one run with turn-over dropout": {"history_every": 30},
        "the same, mean weights of 10 epochs": {"history_every": 30, "average": 10},
        "16 members of 128 units": {"estimator": "members", "members": 16, "precision": "bf16"},
    }
    for name, options in ours.items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            run = unseen.score(examples, out=Path(folder) / "run", **(SETTING | {"seed": 0} | options))
            rows.append(_row(name, run.probabilities().astype(np.float64), labels, wrong, time.process_time() - start))
            find_neighbours(run, data=examples)
            doubt = judged(run)["doubt"].to_numpy()
            rows.append({"probabilities": name, "by": "unseen suspects"} | _judge(doubt, wrong) | {"seconds": time.process_time() - start})
    for row in rows:
        row["cost"] = row["seconds"] / rows[0]["seconds"]
    return rows


def _row(name: str, chances: Floats, labels: Floats, wrong: NDArray[np.bool_], seconds: float) -> dict[str, Any]:
    """Cleanlab on these probabilities: its quality scores, and its issues."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    chances = chances / chances.sum(1, keepdims=True)
    quality = get_label_quality_scores(labels, chances)
    issues = find_label_issues(labels, chances, n_jobs=1)
    found = {"issues": int(issues.sum()), "issues_precision": float(wrong[issues].mean()), "issues_recall": float(issues[wrong].mean())}
    em = precision_at_n(wrong, -np.log(right_probability(chances, labels)))
    return {"probabilities": name, "by": "cleanlab"} | _judge(-quality, wrong) | found | {"at_n_confusions": em, "seconds": seconds}


def _judge(score: Floats, wrong: NDArray[np.bool_]) -> dict[str, float]:
    return {"at_n": precision_at_n(wrong, score)} | detection(wrong, score)


def markdown(facts: dict[str, Any]) -> str:
    lines = ["# Lists: how right they are", "", __doc__.split("\n\n", 1)[1].strip(), ""]
    for title in ("lists", "cleanlab"):
        rows = facts.get(title)
        if rows:
            names = list(dict.fromkeys(name for row in rows for name in row))
            lines += [f"## {title}", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
            lines += ["| " + " | ".join(_text(row.get(name)) for name in names) + " |" for row in rows] + [""]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=Path, default=[])
    parser.add_argument("--cleanlab", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    place = options.out / "curate.json"
    facts: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    if options.runs:
        facts["lists"] = [lists_of(path) for path in options.runs]
    if options.cleanlab:
        facts["cleanlab"] = cleanlab_rows()
    place.write_text(json.dumps(facts, indent=1) + "\n")
    (options.out / "curate.md").write_text(markdown(facts))
    print(markdown(facts))


if __name__ == "__main__":
    main()
