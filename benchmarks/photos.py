"""Wrong labels in photographs, sentences, digits and a table: ours, by hand, and cleanlab; and how many are stated against how many are.

    python benchmarks/photos.py --data-dir DIR [--draws 3] [--sets cifar10 sst2 mnist digits table stamps oddities] [--head] [--limit 5000]

Set ``stamps``: real photographs, 281 cut out of their background in six classes (animals, food, hobbies, household, plants, vehicles), from
the Debian package tuxpaint-stamps-default: ``apt-get download tuxpaint-stamps-default; dpkg -x tuxpaint-stamps-default*.deb FOLDER``, and
``--stamps FOLDER/usr/share/tuxpaint/stamps``. Set ``oddities``: see oddities.py.

Each set loses a share of its labels, at random (uniform) or to the class they are mistaken for (asymmetric); the rest counts as right, so
labels that were wrong before count against every list. Rows: the ridge head on our features, ranked by its loss and in the order of
``trust_in``; HOG and 8 x 8 colours with a logistic regression in 5 folds, as one would do by hand; cleanlab on the same features with
5 folds of a logistic regression, and on our own out-of-sample probabilities. Of the logistic regressions the strength that is best in
hindsight is shown, and its time alone, so they are flattered; of draw 0 only. In the order of trust: by the probability to be wrong that
planted errors bear out, and those hardly wrong by a matrix of confusions. Precision of the first 20, of 50, at n (n: how many labels were
changed), AUROC, processor seconds. Calibration: the stated share of wrong labels in the first 20, 50 and n, and in all, at four rates.

CIFAR-10's pixels here passed through JPEG at quality 75. Writes docs/results/photos.json and photos.md.
"""

import argparse
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import oddities
import torch
from numpy.typing import NDArray

import unseen
from unseen.curate import Trust, right_probability, trust_in
from unseen.data.noise import LOOKALIKES
from unseen.features import Features, extract
from unseen.features.pretrained import has_lite0, has_minilm
from unseen.training import Head, Predictions, fit_head, relabelled

Floats = NDArray[np.float64]
Wrong = NDArray[np.bool_]
RATES = (0.01, 0.05, 0.1, 0.2)
WITHIN = 0.1
STAMPS = ("animals", "food", "hobbies", "household", "plants", "vehicles")
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1)


def sets(options: argparse.Namespace) -> dict[str, tuple[unseen.Examples, list[str], float]]:
    """Name to examples, kinds of features (without weights first) and the share of labels that the table of lists changes."""
    from sklearn.datasets import load_breast_cancer

    found: dict[str, tuple[unseen.Examples, list[str], float]] = {}
    data_dir, limit = Path(options.data_dir), options.limit
    if "cifar10" in options.sets:
        kinds = ["patches+gradients", *(["lite0+patches+gradients"] if has_lite0() else [])]
        found["cifar10"] = (unseen.load("cifar10", data_dir=data_dir, limit=limit).train, kinds, 0.2)
    if "sst2" in options.sets:
        rows = [line.split("\t", 1) for line in (data_dir / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines()]
        table = options.out / ".sst2.csv"
        _write_csv(table, rows)
        examples = unseen.load(table, text="text", test_fraction=1e-9)
        table.unlink()
        found["sst2"] = (examples.train, ["tfidf", *(["minilm+tfidf"] if has_minilm() else [])], 0.1)
    if "mnist" in options.sets:
        found["mnist"] = (unseen.load("mnist", data_dir=data_dir, limit=limit).train, ["patches+gradients"], 0.05)
    if "digits" in options.sets:
        found["digits"] = (unseen.load("digits").train, ["patches+gradients", "pixels"], 0.05)
    if "table" in options.sets:
        data = load_breast_cancer()
        found["table"] = (unseen.load((data.data.astype(np.float32), data.target), test_fraction=1e-9).train, ["pixels"], 0.05)
    if "stamps" in options.sets and options.stamps:
        folder = Path(tempfile.mkdtemp()) / "stamps"
        write_stamps(options.stamps, folder)
        data = unseen.load(folder, image_size=128, test_fraction=1e-9).train
        found["stamps"] = (data, ["patches+gradients", *(["lite0+patches+gradients"] if has_lite0() else [])], 0.055)
    return {name: found[name] for name in options.sets if name in found}


def write_stamps(source: Path, target: Path) -> None:
    """The photographs of the stamps on white, without the drawings, a folder for each class."""
    from PIL import Image

    for kind in STAMPS:
        (target / kind).mkdir(parents=True)
        photographs = [path for path in sorted((source / kind).rglob("*.png")) if "cartoon" not in path.parts]
        for number, path in enumerate(photographs):
            picture = Image.open(path).convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            Image.alpha_composite(white, picture).convert("RGB").resize((128, 128)).save(target / kind / f"{number:03}.png")


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    import polars as pl

    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"text": [row[1] for row in rows], "label": [int(row[0]) for row in rows]}).write_csv(path)


def spoiled(examples: unseen.Examples, rate: float, draw: int, asymmetric: bool) -> tuple[torch.Tensor, Wrong]:
    """Labels of which a share is changed, at random or to the class they are mistaken for, and which were."""
    generator, true = torch.Generator().manual_seed(1000 + draw), examples.labels
    given, count, classes = true.clone(), round(rate * len(true)), len(examples.classes)
    if not asymmetric:
        chosen = torch.randperm(len(true), generator=generator)[:count]
        given[chosen] = (true[chosen] + 1 + torch.randint(0, classes - 1, (count,), generator=generator)) % classes
        return given, (given != true).numpy()
    names = LOOKALIKES[examples.name]
    becomes = torch.arange(classes)
    for source, target in names.items():
        becomes[examples.classes.index(source)] = examples.classes.index(target)
    candidates = (becomes[true] != true).nonzero()[:, 0]
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[: min(count, len(candidates) // 2)]]
    given[chosen] = becomes[true[chosen]]
    return given, (given != true).numpy()


def judged(score: Floats, wrong: Wrong) -> dict[str, float]:
    """Precision of the first 20, 50, at n, and AUROC of a score (high: wrong)."""
    from sklearn.metrics import roc_auc_score

    order = np.argsort(-score, kind="stable")
    heads = {f"first_{count}": float(wrong[order[:count]].mean()) for count in (20, 50)}
    return heads | {"at_n": float(wrong[order[: int(wrong.sum())]].mean()), "auroc": float(roc_auc_score(wrong, score))}


def order_of(trust: Trust, chances: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order of the list of suspects."""
    return trust.order_with(-np.log(right_probability(chances, labels)))


def by_order(order: NDArray[np.int64]) -> Floats:
    """A score that sorts as an order does."""
    score = np.empty(len(order))
    score[order] = -np.arange(len(order), dtype=np.float64)
    return score


def folds_of(features: Floats, labels: NDArray[np.int64], strength: float) -> Floats:
    """Out-of-sample probabilities of a logistic regression in 5 folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: weak penalties overfit, and are not the best
        return np.asarray(cross_val_predict(model, features, labels, cv=5, method="predict_proba"))


def best_folds(features: Floats, labels: NDArray[np.int64], wrong: Wrong) -> tuple[Floats, float]:
    """Cleanlab's score by the strength of penalty that has the best AUROC in hindsight, and the seconds of that one alone."""
    from sklearn.metrics import roc_auc_score

    tried = [Timed(lambda strength=strength: cleanlab_score(folds_of(features, labels, strength), labels)) for strength in STRENGTHS]
    best = max(tried, key=lambda work: roc_auc_score(wrong, work.result))
    return best.result, best.seconds


def cleanlab_score(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    from cleanlab.rank import get_label_quality_scores

    return -np.asarray(get_label_quality_scores(labels, probabilities / probabilities.sum(1, keepdims=True)))


class Timed:
    """Processor seconds of a piece of work."""

    def __init__(self, work: Callable[[], Any]) -> None:
        start = time.process_time()
        self.result = work()
        self.seconds = time.process_time() - start


@dataclass(frozen=True)
class Made:
    """Features of a kind, what the head is given, and its eigenproblem, which labels do not change. seconds: of all of it."""

    features: Features
    head: Head
    coordinates: torch.Tensor
    seconds: float

    @classmethod
    def of(cls, examples: unseen.Examples, kind: str) -> "Made":
        features = Timed(lambda: extract(examples, kind))
        inputs = Timed(lambda: features.result.head_map()(features.result.tensor()))
        head = Timed(lambda: fit_head(inputs.result, examples.labels, len(examples.classes), 1.0, standardise=False)[0])
        seconds = features.seconds + inputs.seconds + head.seconds
        return cls(features.result, head.result, head.result.coordinates(inputs.result), seconds)


def lists(name: str, examples: unseen.Examples, made: dict[str, Made], rate: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table of lists."""
    hand = Timed(lambda: extract(examples, "gradients").tensor().numpy()) if name == "cifar10" else None
    rows: list[dict[str, Any]] = []
    for asymmetric in (False, True) if examples.name in LOOKALIKES else (False,):
        for draw in range(options.draws):
            labels, wrong = spoiled(examples, rate, draw, asymmetric)
            given = labels.numpy()
            where = {"set": name, "noise": "asymmetric" if asymmetric else "uniform", "rate": rate}

            def add(kind: str, way: str, score: Floats, seconds: float, where: Any = where, wrong: Wrong = wrong) -> None:
                rows.append(where | {"features": kind, "way": way, "seconds": seconds} | judged(score, wrong))

            for kind, of in made.items():
                head = Timed(lambda of=of, labels=labels: relabelled(of.head, of.coordinates, labels)[1])
                found: Predictions = head.result
                chances, before = found.probabilities().numpy(), of.seconds + head.seconds
                order = Timed(lambda chances=chances, given=given: order_of(trust_in(chances, given, repeats=0), chances, given))
                add(kind, "head, by its loss", found.loss().numpy(), before)
                add(kind, "head, in the order of trust", by_order(order.result), before + order.seconds)
                add(kind, "cleanlab on the head's probabilities", cleanlab_score(chances, given), before)
                if draw == 0 and not options.quick:
                    score, seconds = best_folds(of.features.tensor().numpy(), given, wrong)
                    add(kind, "cleanlab, 5 folds of logistic regression (without features' time)", score, seconds)
            if hand is not None and draw == 0:
                score, seconds = best_folds(hand.result, given, wrong)
                add("HOG and colours by hand", "cleanlab, 5 folds of logistic regression", score, hand.seconds + seconds)
            print(name, where["noise"], draw, flush=True)
    return rows


def calibration(name: str, examples: unseen.Examples, made: dict[str, Made], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Stated and true shares of wrong labels at four rates."""
    rows = []
    noises = (False, True) if examples.name in LOOKALIKES else (False,)
    for (kind, of), asymmetric, rate, draw in product(made.items(), noises, RATES, range(options.draws)):
        labels, wrong = spoiled(examples, rate, draw, asymmetric)
        chances = relabelled(of.head, of.coordinates, labels)[1].probabilities().numpy()
        trust = trust_in(chances, labels.numpy(), repeats=0)
        order = order_of(trust, chances, labels.numpy())
        row = {"set": name, "features": kind, "noise": "asymmetric" if asymmetric else "uniform", "rate": rate, "draw": draw}
        row |= {"total": int(wrong.sum()), "total_stated": trust.total, "stop": trust.stop(order)}
        for count in sorted({20, 50, max(20, int(wrong.sum()))}):
            stated = trust.in_first(order, count)[0] / count
            rows.append(row | {"first": count, "stated": stated, "true": float(wrong[order[:count]].mean())})
        print(name, kind, asymmetric, rate, draw, flush=True)
    return rows


def head_cost(rows: int = 50_000, dimensions: int = 1280, classes: int = 10) -> dict[str, float]:
    """Processor seconds and memory that the head of so many rows takes, beyond the features themselves."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(rows, dimensions, generator=generator), torch.randint(0, classes, (rows,), generator=generator)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = Timed(lambda: fit_head(features, labels, classes))
    return {
        "rows": rows,
        "dimensions": dimensions,
        "seconds": work.seconds,
        "gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20,
    }


def means(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of the same keys become their mean."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    numbers = lambda group: [key for key, value in group[0].items() if key not in keys and isinstance(value, int | float)]
    return [
        dict(zip(keys, values, strict=True))
        | {"draws": len(group)}
        | {key: float(np.mean([row[key] for row in group])) for key in numbers(group)}
        for values, group in groups.items()
    ]


def markdown(facts: dict[str, Any]) -> str:
    text = ["# Wrong labels in photographs, sentences, digits and a table", "", str(__doc__).split("\n\n", 2)[2].strip(), ""]
    text += ["## Lists", "", *table(means(facts["lists"], ("set", "noise", "rate", "features", "way")))]
    near = [row | {"within": float(abs(row["stated"] - row["true"]) <= WITHIN)} for row in facts["calibration"]]
    if near:
        share = float(np.mean([row["within"] for row in near]))
        text += ["", "## Stated against true", "", f"Within {WITHIN:.0%} points in {share:.0%} of {len(near)} heads of lists.", ""]
        text += table(means([row | {"off": abs(row["stated"] - row["true"])} for row in near], ("set", "features", "noise", "rate")))
    if "oddities" in facts:
        text += ["", "## Copies and odd pictures", "", *oddities.__doc__.split("\n\n")[1].strip().splitlines(), ""]
        text += table([dict.fromkeys(facts["oddities"][0], "") | row for row in facts["oddities"]])
    if "head" in facts:
        text += ["", "## Cost of the head", "", *table([facts["head"]])]
    return "\n".join(text) + "\n"


def table(rows: list[dict[str, Any]]) -> list[str]:
    names = [name for name in rows[0] if name not in ("first", "draw")]
    shown = lambda value: (
        f"{value:.3f}" if isinstance(value, float) and abs(value) < 10 else f"{value:.0f}" if isinstance(value, float) else str(value)
    )
    return [
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(shown(row[name]) for name in names) + " |" for row in rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--sets", nargs="+", default=["table", "digits", "sst2", "mnist", "cifar10", "stamps", "oddities"])
    parser.add_argument("--stamps", type=Path, help="the folder stamps of tuxpaint-stamps-default; without it that set is left out")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--limit", type=int, default=5000)
    parser.add_argument("--head", action="store_true", help="measure the cost of a head of 50,000 x 1,280")
    parser.add_argument("--quick", action="store_true", help="leave out 5 folds of logistic regression on our features")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = options.out / "photos.json"
    facts: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"lists": [], "calibration": []}
    for part in ("lists", "calibration"):
        facts[part] = [row for row in facts[part] if row["set"] not in options.sets]
    facts["limit"] = options.limit
    if options.head:
        facts["head"] = head_cost()
    if "oddities" in options.sets:
        facts["oddities"] = oddities.oddity_rows(
            Path(options.data_dir), ["patches+gradients", *(["lite0+patches+gradients"] if has_lite0() else [])]
        )
    for name, (examples, kinds, rate) in sets(options).items():
        made = {kind: Made.of(examples, kind) for kind in kinds}
        facts["lists"] += lists(name, examples, made, rate, options)
        facts["calibration"] += calibration(name, examples, made, options)
        place.write_text(json.dumps(facts, indent=1) + "\n")
    place.write_text(json.dumps(facts, indent=1) + "\n")
    (options.out / "photos.md").write_text(markdown(facts))


if __name__ == "__main__":
    main()
