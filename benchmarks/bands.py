"""How often the bands of an attack's rates hold the true rates, in simulated repetitions: they are of 90%.

    python benchmarks/bands.py --repetitions 400

Each scene draws members and others anew, with what records and targets have in common; the true rates are those of two million pairs.
"""

import argparse
from typing import Any

import numpy as np

from unseen.privacy import attack_rates

SCENES: dict[str, tuple[int, int, dict[str, float]]] = {
    "records differ": (600, 8, {"by_record": 1.0, "noise": 0.3}),
    "targets differ": (600, 8, {"by_target": 0.3}),
    "just enough records": (280, 8, {"by_record": 0.7, "by_target": 0.1}),
    "one target": (2500, 1, {}),
    "many targets": (300, 32, {"by_record": 0.7, "by_target": 0.2}),
    "nothing learned": (600, 8, {"separation": 0.0}),
}


def scene(
    random: np.random.Generator,
    records: int,
    targets: int,
    separation: float = 1.0,
    by_record: float = 0.5,
    by_target: float = 0.0,
    noise: float = 1.0,
) -> tuple[Any, Any]:
    """Scores (targets, records) whose members are higher, some records far, and who is a member."""
    inside = random.random((targets, records)) < 0.5
    scores = separation * inside * random.exponential(1, records) + by_record * random.normal(size=records)
    return scores + by_target * random.normal(size=(targets, 1)) + noise * random.normal(size=inside.shape), inside


def true_rates(random: np.random.Generator, options: dict[str, float]) -> dict[str, float]:
    many = [scene(random, 20_000, 50, **options) for _ in range(2)]
    outside, inside = (np.sort(np.concatenate([scores[member == side] for scores, member in many])) for side in (False, True))
    return {"auc": np.searchsorted(outside, inside).mean() / len(outside), "tpr_at_0.01": (inside > np.quantile(outside, 0.99)).mean()}


def held(name: str, repetitions: int) -> dict[str, float]:
    """Share of the repetitions in which each band holds its true rate."""
    records, targets, options = SCENES[name]
    random = np.random.default_rng(0)
    true, counts = true_rates(random, options), dict.fromkeys(("auc", "tpr_at_0.01"), 0)
    for repetition in range(repetitions):
        found = attack_rates(*scene(random, records, targets, **options), (0.01,), seed=repetition)
        for rate, value in true.items():
            counts[rate] += bool(found[rate].low <= value <= found[rate].high)  # type: ignore[operator]
    return {rate: count / repetitions for rate, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=400)
    options = parser.parse_args()
    print(f"{'scene':24}{'AUC':>8}{'TPR at 1%':>12}")
    shares = []
    for name in SCENES:
        share = held(name, options.repetitions)
        shares += share.values()
        print(f"{name:24}{share['auc']:8.3f}{share['tpr_at_0.01']:12.3f}", flush=True)
    print(f"{'mean':24}{np.mean(shares):8.3f}")


if __name__ == "__main__":
    main()
