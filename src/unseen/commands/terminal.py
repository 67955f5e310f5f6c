"""What the commands print: short tables, or JSON."""

import json
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unseen.errors import UnseenError
from unseen.runs import Run, full_is_readable, has_halves, has_many_networks, not_fitted

if TYPE_CHECKING:
    import polars as pl

    from unseen.masks import Leak
    from unseen.recipes import Claim

LISTED = {"suspects": "Probably wrong", "rare": "Rare but right", "easy": "Easy"}
OWN_WORDS = ("shared_masks", "no_head")  # facts that are sentences
BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
SHOWN = ["id", "given_label", "true_label", "memorization", "loss_seen", "loss_unseen", "predicted_seen", "predicted_unseen", "label_score"]


def print_summary(run: Run, top: int = 10) -> None:
    """What a run found: accuracies, the long tail, the most memorized examples, detection of known wrong labels, the path."""
    facts = run.summary
    for line in facts.get("reading", ()):
        print(printable(line))
    if not has_halves(facts):
        print_rows(_accuracies(facts), title="Accuracy on the training examples")
        print("An ordinary network: scores that cost nothing extra, but no halves (--estimator turnover has them).")
        print_own_words(facts)
        print(run.path)
        return
    print_rows(_accuracies(facts), title="Accuracy on the training examples")
    print_rows(_tail(run), title="Memorization (nats): the long tail")
    by, title = "memorization", "The most memorized examples"
    if has_many_networks(facts):
        by, title = "unseen_loss_mean", "The examples that are hardest for members that never saw them"
    print_rows(_shown(_top(run, by, top, trained=True), also=by), title=title)
    for line in _sentences(facts):
        print(line)
    print(run.path)


def print_top(run: Run, sort: str, top: int, as_json: bool) -> None:
    """The first rows of the scores by a column, highest first. Raises UnseenError for an unknown column."""
    columns = run.columns("scores")
    if sort == "memorization" and sort not in columns:  # recorded of an ordinary network: it has no unseen half
        sort = "cumulative_loss"
    if sort not in columns:
        raise UnseenError(f"There is no column {sort!r}. The columns are {', '.join(columns)}.")
    rows = _top(run, sort, top)
    if as_json:
        print(json.dumps(rows.to_dicts(), indent=1))
    else:
        print_rows(_shown(rows, also=sort))


def print_audit(leaks: "Sequence[Leak]", advice: str, as_json: bool) -> None:
    """A row per parameter and a sentence."""
    if as_json:
        print(json.dumps({"leaks": [asdict(leak) for leak in leaks], "advice": advice}, indent=1))
        return
    print_rows([{"parameter": leak.parameter, "inner product": leak.inner_product, "share": f"{leak.share:.1%}"} for leak in leaks])
    print(advice)


def print_runs(runs: Sequence[Run], as_json: bool) -> None:
    """A row per run."""
    rows = [_run_row(run) for run in runs]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif rows:
        print_rows(rows)
    else:
        print("No runs here yet. `unseen score digits` makes one.")


def print_truth(run: Run, table: "pl.DataFrame", facts: dict[str, Any], as_json: bool) -> None:
    """How far the truth can be trusted, and where it is."""
    from unseen.judge import ceiling

    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print_rows(_shown(table.sort("memorization", descending=True).head(10), also="memorization_se"), title="The most memorized examples")
    print(", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in facts.items() if value is not None))
    if (most := ceiling(facts["reliability"])) is not None:
        print(f"No score can be expected to correlate with this truth above {most:.3f}, the root of its reliability.")
    print(run.path / "truth.parquet")


def print_influence(run: Run, table: "pl.DataFrame", as_json: bool, queries: int = 3) -> None:
    """The extremes of the first queries, and where the rest is."""
    if as_json:
        print(json.dumps(table.to_dicts(), indent=1))
        return
    first = table["query_index"].unique(maintain_order=True).head(queries)
    print_rows(table.filter(table["query_index"].is_in(first.implode()), table["rank"] <= 3).to_dicts())
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
    half = f", half of these for good by epoch {sorted(learned)[len(learned) // 2]}" if learned else ""
    count, forgotten = (
        len(times) // seeds,
        int(times.filter(pl.col("first_learned_epoch").is_not_null())["forgetting_events"].sum()) / seeds,
    )
    print(f"{len(learned) / len(times):.1%} of {count:,} training examples end learned{half}; {forgotten:,.0f} forgotten on the way.")


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
    print_rows(mean.pivot("quantity", index=["epoch", "subset"], values="value").to_dicts())
    print(run.path / "gradients.parquet")


def print_claims(claims: "Sequence[Claim]", as_json: bool) -> None:
    """A row per claim of a figure."""
    if as_json:
        print(json.dumps([asdict(claim) for claim in claims], indent=1))
        return
    rows = [
        {
            "claim": claim.claim,
            "measured": claim.number,
            "": "≥" if claim.at_least else "≤",
            "needed": claim.threshold,
            "verdict": claim.verdict or ("holds" if claim.holds else "fails"),
        }
        for claim in claims
    ]
    print_rows(rows, title=claims[0].figure)


def print_own_words(facts: dict[str, Any]) -> None:
    """What a run says of its masks and its head, where it does."""
    print(*(facts[name] for name in OWN_WORDS if name in facts), sep="\n", end="\n" if facts.keys() & set(OWN_WORDS) else "")


def print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table, without the columns that are empty, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        filled = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        print_rows([{name: row[name] for name in filled} for row in rows])


def print_rows(rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Print dictionaries as a table, numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(_text(value))) for value in row.values()))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(table)


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


def _shown(rows: "pl.DataFrame", also: str | None = None) -> list[dict[str, Any]]:
    columns = [name for name in SHOWN if name in rows.columns]
    return rows.select(*columns, *([also] if also and also not in columns else [])).to_dicts()


def _run_row(run: Run) -> dict[str, Any]:
    config = run.config
    facts = run.summary if run.finished else {}
    row = {
        "run": str(run.path),
        "data": config.data.data,
        "model": config.network.model,
        "epochs": config.training.epochs,
        "finished": run.finished,
    }
    return row | {"auroc": facts.get("auroc"), "seen": facts.get("accuracy_seen"), "unseen": facts.get("accuracy_unseen")}


def printable(text: str, kept: str = "") -> str:
    r"""Text that commands the terminal nothing and reads in its own order: control and bidirectional characters as escapes, but ``kept``.

    >>> printable("\x1b[31mred")
    '\\x1b[31mred'
    """
    return "".join(letter if letter in kept or not _commands(letter) else ascii(letter)[1:-1] for letter in text)


def _commands(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(letter) in BIDIRECTIONAL


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_list(run: Run, name: str, top: int, form: str, missing: str | None) -> None:
    """A list of ``curate`` (form: table, json or csv), with its estimated error rate. missing: why there are no neighbours.

    What nobody can judge is said before the list; beside CSV on the error stream.
    """
    from unseen.curate import LISTS, error_rate, neutral_frame, ranked_by, trust_sentence, trustworthy

    found, known = LISTS[name](run), trustworthy(run)
    rate, lines = error_rate(run, name, found), known.lines if name == "suspects" or known.warning else []
    shown = found.head(top) if top else found
    if form == "csv":
        print(*(printable(line) for line in lines), sep="\n", end="\n" if lines else "", file=sys.stderr)
        print(neutral_frame(shown).write_csv(), end="")
    elif form == "json":
        facts = {"list": name, "examples": len(found), "error_rate": rate.rate, "error_rate_from": rate.method}
        facts |= {"warning": known.warning, "left_out": known.left_out if name == "suspects" else 0}
        print(json.dumps(facts | {"neighbours": missing is None, "rows": shown.to_dicts()}, indent=1))
    else:
        for line in lines:
            print(printable(line))
        if len(shown):
            columns = [column for column in shown.columns if column not in ("index", "given_label", "suggested_label", "score")]
            short = [{key: shortened(value) for key, value in row.items()} for row in shown.select(columns).to_dicts()]
            print_rows(short, title=LISTED[name])
        print(f"{LISTED[name]}: {len(found):,} examples. Estimated error rate of the list: {rate}.")
        if name == "suspects":
            print(*filter(None, (trust_sentence(run), printable(ranked_by(run)))), sep="\n")
        if missing:
            print(f"Without nearest examples, which would make it better: {missing}")


def shortened(value: Any, most: int = 60) -> Any:
    """A text that fits a table."""
    return value[: most - 2] + " …" if isinstance(value, str) and len(value) > most else value


def print_selfcheck(run: Run, as_json: bool) -> None:
    """The finding of a self-check in a sentence, or as JSON."""
    facts = run.read_json("selfcheck.json")
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        figure = run.path / "selfcheck.png"
        print(facts["sentence"], figure if figure.exists() else "", sep="\n")


def print_curve(run: Run, table: "pl.DataFrame") -> None:
    """Mean test accuracy by share kept and order."""
    means = table.group_by("order", "fraction", maintain_order=True).mean()
    print_rows(means.select("order", "fraction", "examples", "accuracy").to_dicts(), title="Test accuracy by share kept")
    print(run.path / "prune.png")
