"""Can the scores be trusted here? Errors planted in the user's own data, and how many of them the scores find."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from unseen.curate import find_neighbours, find_witness, judged
from unseen.errors import UnseenError
from unseen.figures import new_figure, save_figure
from unseen.judge.evaluation import precision_at_n
from unseen.runs import Run
from unseen.scoring import detection, prepare_whole, score, settings_of
from unseen.training import first

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = 0.05
FEWEST = 10
POINTS = 200


def selfcheck(
    data: Any = "digits", model: str | nn.Module = "mlp", *, share: float = SHARE, data_dir: str | Path | None = None, **options: Any
) -> Run:
    """Change a share of the labels to other classes, score, and write what share of the changed ones the scores find.

    Args:
        data: what ``load`` takes.
        model: a name, or a network of your own.
        share: of the training labels to change, above 0 and below 0.5.
        data_dir: where mnist/, cifar10/ … lie.
        **options: as ``score`` takes them, but for random_labels and label_noise.

    Returns:
        A run as any other; beside its tables stand ``selfcheck.json`` and ``selfcheck.png``, the precision-recall curve. Runs of the same
        recipe in the same folder take the error rates of their lists from it.

    Labels that were wrong before count against the scores, so precision is a lower bound.

    Raises:
        UnseenError: where fewer than 10 labels would be changed.
    """
    if not 0 < share < 0.5:
        raise UnseenError(f"--share is {share:g}; it must be above 0 and below 0.5, the share of labels to change.")
    settings = {name: value for name, value in options.items() if name not in ("out", "devices", "resume", "force", "progress", "loggers")}
    for planted in ("random_labels", "label_noise"):
        if planted in options:
            raise UnseenError(f"--{planted.replace('_', '-')} is what selfcheck sets itself. Use --share, or `unseen score`.")
    _, examples = prepare_whole(data, model, data_dir, settings_of(data, model, settings))
    if (count := round(share * len(examples.train))) < FEWEST:
        raise UnseenError(
            f"{examples.name} has {len(examples.train)} training examples: {share:.0%} of them are {count} labels to change. At least "
            f"{FEWEST} are needed to say anything: give more data, or a larger --share."
        )
    run = score(data, model, data_dir=data_dir, random_labels=share, label_noise="other", **options)
    first(partial(_judge, run, data_dir, data))
    return run


def _judge(run: Run, data_dir: str | Path | None, data: Any) -> None:
    find_neighbours(run, data_dir, data)
    find_witness(run, data_dir, data)
    facts, curve = findings(run)
    run.write_json("selfcheck.json", facts | {"sentence": sentence(facts), "curve": curve})
    if find_spec("matplotlib"):
        save_figure(draw(facts, curve), run.path / "selfcheck.png", bbox_inches="tight")


def findings(run: Run) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """How well ``wrong_probability`` ranks the planted errors: precision at n, AUROC, average precision; and the curve."""
    from sklearn.metrics import precision_recall_curve

    table = judged(run)
    wrong, doubt = (table["true_label"] != table["given_label"]).to_numpy(), table["doubt"].to_numpy()
    suggested = table.filter(table["true_label"] != table["given_label"])
    facts: dict[str, Any] = {"planted": int(wrong.sum()), "examples": len(table), "precision_at_n": precision_at_n(wrong, doubt)}
    facts |= detection(wrong, doubt)
    facts["suggestion_right"] = float((suggested["suggested_label"] == suggested["true_label"]).mean())  # type: ignore[arg-type]
    precision, recall, _ = precision_recall_curve(wrong, doubt)
    places = np.unique(np.linspace(0, len(recall) - 1, POINTS).round().astype(int))
    by_recall = np.unique(np.searchsorted(-recall, -np.linspace(0, 1, POINTS)).clip(0, len(recall) - 1))
    curve = [{"recall": float(recall[i]), "precision": float(precision[i])} for i in np.union1d(places, by_recall)]
    return facts, curve


def sentence(facts: dict[str, Any]) -> str:
    """The finding in plain words."""
    found, planted, count = facts["precision_at_n"], facts["planted"], facts["examples"]
    base = planted / count
    said = f"Of {planted:,} labels changed on purpose, the {planted:,} most suspect examples hold {found:.0%} (guessing: {base:.0%}). "
    if found >= 0.9:
        return said + "The scores can be trusted here: read the list of suspects from the top."
    if found >= 0.6:
        return said + "The scores help here, but look before you act: each suspect needs a second look."
    if found >= 3 * base:
        return said + "The scores are weak here: use them to decide what to look at first, never to drop or relabel unseen."
    return said + "The scores cannot be trusted here. Train longer, with another model, or on more data."


def draw(facts: dict[str, Any], curve: list[dict[str, float]]) -> "Figure":
    """Precision against recall of the planted errors, the point at n, and what guessing gives."""
    figure = new_figure(4.6, 3.6)
    axes = figure.subplots()
    axes.plot([point["recall"] for point in curve], [point["precision"] for point in curve], color="#4477aa")
    at_n = facts["precision_at_n"]
    axes.plot(at_n, at_n, "o", color="#cc6677", label=f"the top {facts['planted']:,}: {at_n:.0%}")
    axes.axhline(facts["planted"] / facts["examples"], color="#888888", linestyle=":", label="guessing")
    axes.set(xlabel="share of the planted errors found", ylabel="share of the list that is planted", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.12))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
