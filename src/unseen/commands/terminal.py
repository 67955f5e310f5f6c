"""What the commands print: short tables, or JSON."""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unseen.commands.table import print_rows, say, visible
from unseen.errors import UnseenError
from unseen.runs import Run, full_is_readable, has_halves, has_many_networks, not_fitted

if TYPE_CHECKING:
    import polars as pl

    from unseen.masks import Leak
    from unseen.recipes import Claim

OWN_WORDS = ("shared_masks", "no_head")  # facts that are sentences
SHOWN = [
    "id",
    "given_label",
    "predicted_unseen",
    "true_label",
    "memorization",
    "label_score",
    "loss_unseen",
    "loss_seen",
    "predicted_seen",
]
"""Columns of the score table on the screen, the most important first."""
LABELS = ("given_label", "true_label", "predicted_seen", "predicted_unseen", "predicted_full", "predicted_label")


def print_summary(run: Run, top: int = 10) -> None:
    """What a run found: accuracies, the long tail, the most memorized examples, detection of known wrong labels, the path."""
    facts = run.summary
    for line in facts.get("reading", ()):
        say(line)
    print()
    print_rows(_accuracies(facts), title="Accuracy on the training examples")
    if not has_halves(facts):
        say("This is an ordinary network. It has the scores that cost nothing extra, but no halves: --estimator turnover has them.")
        print_own_words(facts)
        print(run.path)
        return
    print_rows(_tail(run), title="Memorization (nats): the long tail")
    by, title = "memorization", "The most memorized examples"
    if has_many_networks(facts):
        by, title = "unseen_loss_mean", "The examples that are hardest for members that never saw them"
    if "memorization_rank" in run.columns("scores"):
        by, title = "memorization_rank", "The most memorized examples, by all that the members say of them"
    print_rows(_shown(run, _top(run, by, top, trained=True), also=by), title=title)
    for line in _sentences(facts):
        say(line)
    print(run.path)


def print_top(run: Run, sort: str, top: int, as_json: bool) -> None:
    """The first rows of the scores by a column, highest first. Raises UnseenError for an unknown column."""
    columns = run.columns("scores")
    sort = sort.replace(" ", "_").replace("-", "_")
    if sort == "memorization" and sort not in columns:  # recorded of an ordinary network: it has no unseen half
        sort = "cumulative_loss"
    if sort not in columns:
        near = difflib.get_close_matches(sort, columns, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise UnseenError(f"There is no column {sort!r}.{meant} The columns are {', '.join(columns)}.")
    rows = _top(run, sort, top)
    if as_json:
        print(json.dumps(rows.to_dicts(), indent=1))
    else:
        print_rows(_shown(run, rows, also=sort))


def print_audit(leaks: "Sequence[Leak]", advice: str, as_json: bool) -> None:
    """A row per parameter and a sentence."""
    if as_json:
        print(json.dumps({"leaks": [asdict(leak) for leak in leaks], "advice": advice}, indent=1))
        return
    print_rows([{"parameter": leak.parameter, "share": f"{leak.share:.1%}", "inner product": leak.inner_product} for leak in leaks])
    say(advice)


def print_runs(runs: Sequence[Run], as_json: bool) -> None:
    """A row per run."""
    rows = [_run_row(run) for run in runs]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif rows:
        print_rows(rows)
    else:
        print("There are no runs here yet.")


def print_truth(run: Run, table: "pl.DataFrame", facts: dict[str, Any], as_json: bool) -> None:
    """How far the truth can be trusted, and where it is."""
    from unseen.judge import ceiling

    if as_json:
        print(json.dumps(facts, indent=1))
        return
    most = table.sort("memorization", descending=True).head(10).join(run.examples.select("index", "id"), on="index", how="left")
    print_rows(_shown(run, most, also="memorization_se"), title="The most memorized examples")
    say(
        ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in facts.items() if value is not None and name != "losses")
        + "."
    )
    if (highest := ceiling(facts["reliability"])) is not None:
        say(f"No score can be expected to correlate with this truth above {highest:.3f}, which is the root of its reliability.")
    elif "members" in facts:
        say(f"How reliable this truth is cannot be known with {facts['members']} members: train more (--members).")
    print(run.path / "truth.parquet")


def print_influence(run: Run, table: "pl.DataFrame", as_json: bool, queries: int = 3) -> None:
    """The extremes of the first queries, and where the rest is."""
    if as_json:
        print(json.dumps(table.to_dicts(), indent=1))
        return
    first = table["query_index"].unique(maintain_order=True).head(queries)
    shown = table.filter(table["query_index"].is_in(first.implode()), table["rank"] <= 3)
    front = ["query_id", "train_id", "influence", "side", "rank"]
    print_rows(shown.select(*front, *(name for name in shown.columns if name not in front)).to_dicts())
    print(run.path / "influence.parquet")


def print_dynamics(curves: "pl.DataFrame", times: "pl.DataFrame", side: str, as_json: bool, shown: int = 12) -> None:
    """Accuracy and loss of each subset at some epochs, mean over seeds; and when examples are learned. Raises UnseenError for a side."""
    import polars as pl

    sides = curves["side"].unique().to_list()
    side = "full" if sides == ["full"] else side
    if side not in sides:
        raise UnseenError(f"--side is {side!r}; it must be seen, unseen or full.")
    if as_json:
        print(json.dumps(curves.to_dicts(), indent=1))
        return
    mean = curves.filter(pl.col("side") == side).group_by("epoch", "subset", maintain_order=True).agg(pl.col("accuracy", "loss").mean())
    epochs = mean["epoch"].unique().sort()
    chosen = epochs.gather_every(max(1, -(-len(epochs) // shown))).append(epochs.tail(1)).unique(maintain_order=True)
    for quantity in ("accuracy", "loss"):
        wide = mean.filter(pl.col("epoch").is_in(chosen.implode())).pivot("subset", index="epoch", values=quantity)
        print_rows(wide.to_dicts(), title=f"{quantity.capitalize()} of the {side} half" if side != "full" else f"{quantity.capitalize()}")
    times = times.filter(pl.col("split") == "train")
    learned, seeds = times["learned_epoch"].drop_nulls().to_list(), times["seed"].n_unique()
    half = f", half of them for good by epoch {sorted(learned)[len(learned) // 2]}" if learned else ""
    count, forgotten = (
        len(times) // seeds,
        int(times.filter(pl.col("first_learned_epoch").is_not_null())["forgetting_events"].sum()) / seeds,
    )
    say(f"{len(learned) / len(times):.1%} of {count:,} training examples end learned{half}. {forgotten:,.0f} were forgotten on the way.")


def print_gradients(run: Run, table: "pl.DataFrame", as_json: bool) -> None:
    """A row per epoch and subset, mean over seeds, a column per quantity."""
    import polars as pl

    if as_json:
        print(json.dumps(table.to_dicts(), indent=1))
        return
    named = table.with_columns(
        subset=pl.when(pl.col("other").is_null()).then("subset").otherwise(pl.col("subset") + " × " + pl.col("other"))
    )
    mean = named.group_by("epoch", "subset", "quantity", maintain_order=True).agg(pl.col("value").mean())
    wide = mean.pivot("quantity", index=["epoch", "subset"], values="value")
    front = [name for name in ("epoch", "subset", "cosine_similarity", "contribution", "cosine_between") if name in wide.columns]
    print_rows(wide.select(*front, *(name for name in wide.columns if name not in front)).to_dicts())
    print(run.path / "gradients.parquet")


def print_claims(claims: "Sequence[Claim]", as_json: bool) -> None:
    """A row per claim of a figure."""
    if as_json:
        print(json.dumps([asdict(claim) for claim in claims], indent=1))
        return
    rows = [
        {
            "claim": claim.claim,
            "verdict": claim.verdict or ("holds" if claim.holds else "fails"),
            "measured": f"{claim.number:.4g}",
            "needed": f"{'≥' if claim.at_least else '≤'} {claim.threshold:g}",
        }
        for claim in claims
    ]
    print_rows(rows, title=claims[0].figure)


def print_own_words(facts: dict[str, Any]) -> None:
    """What a run says of its masks and its head, where it does."""
    for name in OWN_WORDS:
        if name in facts:
            say(facts[name])


def print_table(rows: list[dict[str, Any]], as_json: bool, first: Sequence[str] = ()) -> None:
    """Rows as a table, without the columns that are empty and those of ``first`` at the front; or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        names = [*(name for name in first if name in rows[0]), *(name for name in rows[0] if name not in first)]
        filled = [name for name in names if any(row[name] is not None for row in rows)]
        print_rows([{name: row[name] for name in filled} for row in rows])


def _accuracies(facts: dict[str, Any]) -> list[dict[str, Any]]:
    names = {"seen": "seen half (trained on them)", "unseen": "unseen half (never saw them)", "full": "full network"}
    names |= facts.get("sides", {})
    rows = []
    for side, name in names.items():
        if f"accuracy_{side}" not in facts:
            continue
        row = {"": name, "given label": f"{facts[f'accuracy_{side}']:.1%}"}
        if f"accuracy_{side}_true" in facts:
            row["true label"] = f"{facts[f'accuracy_{side}_true']:.1%}"
        test = {"full": "test_accuracy_full", "seen": "test_accuracy_half"}.get(side)
        row["test set"] = f"{facts[test]:.1%}" if test in facts else ""
        rows.append(row)
    return rows


def _top(run: Run, by: str, count: int, trained: bool = False) -> "pl.DataFrame":
    """The rows with the highest scores, from one shard after the other. trained: among those that were trained on."""
    import polars as pl

    best = None
    for piece in run.pieces("scores"):
        piece = piece.filter("trained") if trained else piece
        both = piece if best is None else pl.concat([best, piece])
        best = both.sort(by, descending=True, nulls_last=True, maintain_order=True).head(count)
    assert best is not None
    return best


def _tail(run: Run, buckets: int = 10) -> list[dict[str, Any]]:
    import numpy as np

    def gaps() -> Iterator[Any]:
        return (piece.filter("trained")["memorization"].to_numpy() for piece in run.pieces("scores", ["trained", "memorization"]))

    ends = [(part.min(), part.max()) for part in gaps() if len(part)]
    span = (min(low for low, _ in ends), max(high for _, high in ends))
    histograms = [np.histogram(part, buckets, span) for part in gaps()]
    counts, edges = np.sum([counts for counts, _ in histograms], axis=0), histograms[0][1]
    widths = np.log1p(counts) / np.log1p(counts.max())
    return [
        {"from": float(low), "to": float(high), "examples": int(count), "": "█" * round(30 * width)}
        for low, high, count, width in zip(edges, edges[1:], counts, widths, strict=False)
    ]


def _sentences(facts: dict[str, Any]) -> list[str]:
    from unseen.scoring import floor_lines

    lines = [facts[name] for name in ("how", *OWN_WORDS) if name in facts] + [warning for warning in (not_fitted(facts),) if warning]
    if "auroc" in facts:
        lines.append(
            f"Wrong labels ({facts['wrong_labels']:,}): AUROC {facts['auroc']:.4f}, average precision {facts['average_precision']:.4f}."
        )
    lines += [" ".join(floor)] if (floor := floor_lines(facts)) else []
    if facts["null_examples"] >= 100 and not full_is_readable(facts):
        lines.append(
            "The full network is worse than its halves on the test set: do not read loss_full and predicted_full here "
            "(--mask-scale 1.414 and tied --groups help deep networks)."
        )
    if facts["seed_correlation"] is not None:
        lines.append(f"Rank correlation of memorization between seeds: {facts['seed_correlation']:.3f}.")
    return lines


def _shown(run: Run, rows: "pl.DataFrame", also: str | None = None) -> list[dict[str, Any]]:
    """Rows of the score table for the screen: labels by name, the column that they are sorted by right behind them."""
    front = [*SHOWN[:3], *(["memorization"] if also == "memorization_se" else []), *([also] if also else [])]
    front = list(dict.fromkeys(front))
    columns = [name for name in [*front, *(name for name in SHOWN if name not in front)] if name in rows.columns]
    return [_with_names(row, run.summary.get("classes")) for row in rows.select(columns).to_dicts()]


def _with_names(row: dict[str, Any], classes: Sequence[str] | None) -> dict[str, Any]:
    named = {name: visible(classes[row[name]]) for name in LABELS if classes and row.get(name) is not None}
    return row | named


def _run_row(run: Run) -> dict[str, Any]:
    config = run.config
    facts = run.summary if run.finished else {}
    row = {
        "run": str(run.path),
        "data": config.data.data,
        "finished": run.finished,
        "estimator": config.estimator,
        "auroc": facts.get("auroc"),
        "unseen": facts.get("accuracy_unseen"),
        "seen": facts.get("accuracy_seen"),
    }
    return row | {"model": config.network.model, "epochs": config.training.epochs}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_selfcheck(run: Run, as_json: bool) -> None:
    """The finding of a self-check in a sentence, or as JSON."""
    facts = run.read_json("selfcheck.json")
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        figure = run.path / "selfcheck.png"
        say(facts["sentence"])
        if figure.exists():
            print(figure)


def print_curve(run: Run, table: "pl.DataFrame") -> None:
    """Mean test accuracy by share kept and order."""
    means = table.group_by("order", "fraction", maintain_order=True).mean()
    print_rows(means.select("order", "fraction", "examples", "accuracy").to_dicts(), title="Test accuracy by share kept")
    print(run.path / "prune.png")
