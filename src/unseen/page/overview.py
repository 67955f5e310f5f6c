"""The first paragraphs of a page, in sentences for somebody who has never heard of memorization."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.config import Config
from unseen.curate import FEWEST, judged, trust_of, trustworthy
from unseen.judge import ceiling
from unseen.masks import LEAST
from unseen.page.tabs import Listed
from unseen.runs import Run, full_is_readable, has_many_networks, not_fitted
from unseen.scoring import floor_lines

if TYPE_CHECKING:
    import polars as pl

GOOD, FAIR, POOR, NONE = "good", "fair", "poor", "unknown"
Verdict = tuple[str, str, str]
"""How it stands (good, fair, poor, unknown), the question, the answer."""


def what_was_run(config: Config, facts: dict[str, Any]) -> list[str]:
    """What was trained on what, in one sentence; then how the two sides of each example came about, what was changed, and what it cost."""
    count = len(facts.get("classes", [])) or "several"
    data = f"{facts['trained']:,} examples of {Path(config.data.data).name} in {count} classes"
    epochs = f"{config.training.epochs} epochs" if config.training.epochs > 1 else "one epoch"
    if has_many_networks(facts):
        part = f"each on a random {config.members.fraction:.0%} of them"
        first = f"{config.members.members} small networks were trained on {data}, {part}, for {epochs}."
        how = "Every example has some networks that trained on it (seen) and some that never did (unseen)."
    elif config.estimator == "head":
        first = f"A linear head was fitted to features of {data}."
        how = (
            f"The features ({config.data.features or 'the inputs'}) never saw a label. What the head says of an example without it "
            "(unseen) is computed exactly, beside what it says with it (seen)."
        )
    else:
        times = f"{config.seeds} times" if config.seeds > 1 else "once"
        first = f"A network ({config.network.model}) was trained {times} on {data}, for {epochs}, with turn-over dropout."
        how = "Each example trains only one half of the network's units (its seen half) and never touches the other (its unseen half)."
    noise = []
    if facts.get("wrong_labels"):
        share = facts["wrong_labels"] / facts["trained"]
        said = f"{facts['wrong_labels']:,} labels ({share:.1%}) were changed on purpose"
        noise = [f"Before training, {said}, so the true labels are known."]
    cost = [f"All of it cost as much as {facts['cost']:.1f} plain trainings of such a network."] if "cost" in facts else []
    return [first, " ".join([how, *noise, *cost])]


def headline(run: Run) -> dict[str, str]:
    """How many labels are wrong, by errors planted in closed form: the number with its 90% interval, or why nobody can say.

    Returns:
        value, and note: what it means.
    """
    known = trustworthy(run)
    if known.warning:
        return {"value": "Nobody can say how many labels are wrong.", "note": known.warning}
    if len(judged(run)) < FEWEST:
        return {"value": "Nobody can say how many labels are wrong.", "note": f"That needs at least {FEWEST} trained examples."}
    found = trust_of(run)
    if not found.says:
        return {"value": "Nobody can say how many labels are wrong.", "note": found.sentence([])}
    of = f"of {len(found.wrong):,} labels"
    between = f"{found.total_low:,.0f} to {found.total_high:,.0f}"
    return {"value": f"About {found.total:,.0f} {of} are wrong ({between}).", "note": "90% interval, from errors planted in the same data."}


def tiles(facts: dict[str, Any], suspects: int) -> list[dict[str, str]]:
    """The few numbers that come first: name, value, what it says."""
    members = has_many_networks(facts)
    seen, unseen = (
        ("networks that saw it", "networks that never did") if members else ("the half that trained on it", "the half that never saw it")
    )
    shown = [
        {"name": "Seen accuracy", "value": f"{facts['accuracy_seen']:.1%}", "note": f"on each example's label, by {seen}"},
        {"name": "Unseen accuracy", "value": f"{facts['accuracy_unseen']:.1%}", "note": f"the same, by {unseen}"},
    ]
    if "test_accuracy_full" in facts:
        shown.append({"name": "Test accuracy", "value": f"{facts['test_accuracy_full']:.1%}", "note": "whole network, examples held out"})
    shown.append({"name": "Probably wrong", "value": f"{suspects:,}", "note": "labels where another class is likelier"})
    return shown


def trust(run: Run, facts: dict[str, Any], scores: "pl.DataFrame", suspects: Listed) -> list[Verdict]:
    """How far the scores can be trusted, point by point."""
    checks = (
        _not_measured(facts),
        _known_errors(facts),
        _suspects(suspects),
        _retraining(run),
        _noise_floor(facts),
        _spread(facts, scores),
        _leak(facts),
        _fit(facts),
        _masks(facts),
        _full(facts),
    )
    return [check for check in checks if check is not None]


def _not_measured(facts: dict[str, Any]) -> Verdict | None:
    missing = facts.get("not_measured")
    if not missing:
        return None
    return (
        POOR, "Is every example here?",
        f"No. The halves of {missing:,} of {facts['examples']:,} recorded examples were not measured, so they are not on this page. "
        "Measure with a loader that gives every example once.",
    )  # fmt: skip


def _known_errors(facts: dict[str, Any]) -> Verdict:
    question = "Does it find wrong labels?"
    if "auroc" not in facts:
        return (
            NONE, question,
            "Not measured here: no label is known to be wrong. Score the data again with --random-labels 0.05 to see how many "
            "planted errors the scores find.",
        )  # fmt: skip
    area = facts["auroc"]
    verdict = GOOD if area >= 0.95 else FAIR if area >= 0.8 else POOR
    return (
        verdict, question,
        f"Of a changed and an unchanged label, memorization ranks the changed one higher {area:.1%} of the time (AUROC {area:.3f}; a coin "
        f"has 0.5). Average precision over the {facts['wrong_labels']:,} changed labels: {facts['average_precision']:.3f}.",
    )  # fmt: skip


def _suspects(listed: Listed) -> Verdict | None:
    if not len(listed.index):
        return (NONE, "Which labels are probably wrong?", listed.quality) if listed.rate is None else None
    verdict = POOR if listed.rate is None or listed.rate > 0.4 else GOOD if listed.rate <= 0.1 else FAIR
    return (verdict, f"How right is the list of {len(listed.index):,} probably wrong labels?", listed.quality)


def _retraining(run: Run) -> Verdict | None:
    if not (run.path / "truth.parquet").exists() or not (run.path / "metrics.json").exists():
        return None
    row: dict[str, Any] = next((row for row in run.read_json("metrics.json") if row["score"] == "memorization"), {})
    value = row.get("spearman")
    if value is None:
        return None
    itself = ""
    if (known := row.get("reliability")) and (most := ceiling(known)):
        itself = f" (retraining agrees with itself to {known:.2f}, so {most:.2f} is the most that can be expected)"
    return (
        GOOD if value >= 0.8 else FAIR if value >= 0.5 else POOR, "Does it agree with retraining?",
        f"Rank correlation {value:.2f} with what networks retrained without each example say{itself}.",
    )  # fmt: skip


def _noise_floor(facts: dict[str, Any]) -> Verdict | None:
    question = "Is it more than noise?"
    if facts.get("discoveries_q10") is None:
        return (NONE, question, "Not measured: there are no examples that were never trained. --null-fraction 0.05 holds some out.")
    first, *more = floor_lines(facts)
    spread = f"Gaps of the never trained spread by {facts['null_gap_std']:.2f} nats; smaller scores mean little."
    return (GOOD if facts["discoveries_q10"] else POOR, question, " ".join((first, spread, *more)))


def _spread(facts: dict[str, Any], scores: "pl.DataFrame") -> Verdict:
    question = "Would another run say the same?"
    if facts.get("seed_correlation") is not None:
        value = facts["seed_correlation"]
        verdict = GOOD if value >= 0.8 else FAIR if value >= 0.5 else POOR
        return (verdict, question, f"Two seeds rank the examples with a correlation of {value:.2f}; their mean, shown here, is steadier.")
    if "memorization_se" in scores.columns:
        noise, spread = float((scores["memorization_se"] ** 2).mean()), float(scores["memorization"].var())  # type: ignore[arg-type]
        value = max(0.0, 1 - noise / spread) if spread > 0 else 0.0
        verdict = GOOD if value >= 0.8 else FAIR if value >= 0.5 else POOR
        median = float(scores["memorization_se"].median())  # type: ignore[arg-type]
        return (
            verdict, question,
            f"By the spread over members, {value:.0%} of the differences between scores are real, the rest is chance. The standard error "
            f"of a score is {median:.2g} nats (median).",
        )  # fmt: skip
    return (NONE, question, "Not measured: one seed was run. --seeds 3 averages three, and says how far they agree.")


def _leak(facts: dict[str, Any]) -> Verdict | None:
    question = "Are the halves really apart?"
    if has_many_networks(facts):
        return (GOOD, question, "Yes: seen and unseen are different networks.")
    if "shared_parameters" not in facts:
        return None
    shared, whole = facts["shared_parameters"], facts["parameters"]
    if not shared:
        return (GOOD, question, "Yes: a training step on an example changes no parameter of its unseen half.")
    leak, count = facts.get("leak_of_step", 0.0), sum(shared.values())
    names = ", ".join(list(shared)[:4]) + (" …" if len(shared) > 4 else "")
    return (
        GOOD if leak <= 0.05 else FAIR if leak <= 0.1 else POOR, question,
        f"Of what a training step on an example changes in its seen half, {leak:.1%} reaches its unseen half (before training), through "
        f"{count:,} of {whole:,} parameters: {names}.",
    )  # fmt: skip


def _fit(facts: dict[str, Any]) -> Verdict | None:
    warning = not_fitted(facts)
    return None if warning is None else (POOR, "Was it trained long enough?", warning)


def _masks(facts: dict[str, Any]) -> Verdict | None:
    if "shared_masks" not in facts:
        return None
    return (FAIR if facts["examples_per_mask"] >= LEAST else POOR, "Who shares a mask?", facts["shared_masks"])


def _full(facts: dict[str, Any]) -> Verdict | None:
    if full_is_readable(facts) or facts["null_examples"] < 100:
        return None
    return (
        POOR, "Can the whole network be read?",
        "No: it is worse than its halves on the test set, so loss_full and predicted_full say little here. --mask-scale 1.414 and tied "
        "--groups help deep networks.",
    )  # fmt: skip
