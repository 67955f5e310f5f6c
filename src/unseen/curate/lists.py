"""Lists of a run to act on: probably wrong, rare but right, easy. Tables in, tables out; a run is read by its methods alone.

Two witnesses speak of each example: the network that never saw it (of pictures and texts a head on features that never saw a label, where
``find_witness`` has asked it), and its nearest examples (``neighbours.parquet``, where it is there).
Where they name another class than the given label, the label is probably wrong; where they support a label that is hard to predict, the
example is rare but right.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unseen.curate.abstain import Judgeable, judgeable
from unseen.curate.confusions import right_probability
from unseen.curate.trust import FEWEST, REPEATS, Trust, stop_of, trust_in
from unseen.data import NAMES
from unseen.errors import UnseenError
from unseen.runs import full_is_readable, has_many_networks, require_halves, source_of

if TYPE_CHECKING:
    import polars as pl

    from unseen.runs import Run

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

WITNESSED = "feature_probabilities"
WITNESS = 0.9  # neighbours count where they agree with the labels at least so often, in shares of how often the unseen half does


def suspects(run: "Run", least: float = 0.5) -> "pl.DataFrame":
    """Examples whose label is probably wrong, the surest first: ``wrong_probability`` is above ``least``, and another class leads.

    No example of a class that nobody can judge is listed, and none at all where nobody can judge the labels (``trustworthy``).

    Columns: index, id, path (where the data is a folder of files), given_label and given_class, suggested_label and suggested_class, score
    (here wrong_probability), wrong_probability, support (share of the nearest examples with the same label; missing without neighbours),
    memorization, text (where the inputs are texts).

    Raises:
        UnseenError: where the run has no scores yet.
    """
    import polars as pl

    table, known = judged(run), trustworthy(run)
    found = table.filter(pl.col("suggested_label") != pl.col("given_label"), pl.col("wrong_probability") > least)
    has_judge = pl.lit(False) if known.warning else pl.col("given_class").is_in([*known.few, *known.unknown]).not_()
    listed = found.filter(has_judge).sort(["doubt", "index"], descending=[True, False])
    if not listed["stated_wrong"].null_count():
        listed = listed.head(stop_of(listed["stated_wrong"].to_numpy()))  # beyond, fewer than half are wrong
    return _listed(listed, "doubt", "wrong_probability")


def trustworthy(run: "Run") -> Judgeable:
    """Whether the labels of a run can be judged, and those of which classes; ``Judgeable.lines`` says it."""
    table = judged(run)
    found = judgeable(table)
    if found.warning is None and len(table) >= FEWEST and table["stated_wrong"].null_count():
        return replace(found, warning=trust_of(run, repeats=0).sentence([]))
    return found


def trust_of(run: "Run", repeats: int = REPEATS) -> Trust:
    """How many labels are wrong, and how right the list of suspects is, by errors planted in closed form; of the rows of ``judged``.

    Args:
        run: with 100 trained examples or more.
        repeats: resampled data sets for the intervals.
    """
    scores = measured(run)
    trained = scores["trained"].to_numpy()
    return trust_in(_evidence(run, scores, len(run.classes))[trained], scores["given_label"].to_numpy()[trained], repeats)


def trust_sentence(run: "Run", count: int = 50) -> str:
    """How many labels are wrong, how many of the first of the list, and where to stop; empty where nobody can say."""
    table = judged(run)
    if len(table) < FEWEST or trustworthy(run).warning:
        return ""
    return trust_of(run).sentence((-table["doubt"].to_numpy()).argsort(kind="stable"), count)


def rare(run: "Run", share: float = 0.1) -> "pl.DataFrame":
    """Examples that are hard to predict without having seen them, though their nearest examples have the same label; hardest first.

    Their label is probably right (wrong_probability at most 0.5), half of their nearest examples or more have it, and they stand out from
    the noise floor where there is one (q_value < 0.1); of those whose label is probably right, they are among the hardest ``share`` by
    ``difficulty``. Columns as ``suspects``; score is the difficulty. No example is in both lists.
    """
    import polars as pl

    agreed = judged(run).filter(pl.col("wrong_probability") <= 0.5)
    hard = pl.col("difficulty") >= pl.col("difficulty").quantile(1 - share)
    stands_out = pl.col("q_value") < 0.1 if "q_value" in agreed.columns else pl.lit(True)
    supported = pl.col("support").fill_null((pl.col("suggested_label") == pl.col("given_label")).cast(pl.Float64)) >= 0.5
    return _listed(agreed.filter(hard & stands_out & supported), "difficulty", "difficulty")


def easy(run: "Run", share: float = 0.1) -> "pl.DataFrame":
    """The ``share`` of the examples that are easiest to predict without having seen them, easiest first; none of another list.

    Columns as ``suspects``; score is the difficulty (``difficulty``).
    """
    import polars as pl

    table = judged(run)
    agreed = table.filter((pl.col("suggested_label") == pl.col("given_label")) & (pl.col("difficulty") <= pl.col("difficulty").median()))
    return _listed(agreed, "difficulty", "difficulty", descending=False).head(max(1, round(share * len(table))))


LISTS = {"suspects": suspects, "rare": rare, "easy": easy}


def difficulty(run: "Run") -> str:
    """The column that follows retraining best among those at hand (see LOG.md); high = hard to predict without having seen it.

    Members: unseen_loss_mean. Turn-over dropout: full_loss_mean; unseen_loss_mean where the full network is worse than its halves.
    """
    facts = run.summary
    return "full_loss_mean" if full_is_readable(facts) and not has_many_networks(facts) else "unseen_loss_mean"


def judged(run: "Run") -> "pl.DataFrame":
    """What the lists are cut from: a row per trained example, with suggested_label, wrong_probability, support and difficulty.

    Of a recorded run, the examples whose halves were measured.
    """
    require_halves(run)
    files = (run.path / f"{name}.parquet" for name in ("scores", "unseen_probabilities", "neighbours", WITNESSED))
    return _judged(run, tuple(_version(path) for path in files))


def _version(path: Path) -> tuple[int, ...]:
    """What changes with every write of the file, whatever the clock says: a new file takes the place of the old one."""
    facts = path.stat() if path.exists() else None
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns) if facts else ()


@lru_cache(maxsize=1)
def _judged(run: "Run", written: tuple[tuple[int, ...], ...]) -> "pl.DataFrame":
    """As ``judged``, once for files as they are: several lists of a run ask for it in a row."""
    import polars as pl

    require_halves(run)
    scores, classes = measured(run), run.classes
    labels = scores["given_label"].to_numpy()
    votes = neighbour_votes(run, scores["index"].to_numpy(), labels, len(classes))
    evidence = _evidence(run, scores, len(classes))
    support = None
    if votes is not None:
        if (votes.argmax(1) == labels).mean() >= WITNESS * (evidence.argmax(1) == labels).mean():  # pixels of photographs are no witness
            evidence *= votes + 0.5  # as many neighbours of each class as Jeffreys' prior has: no vote is no veto
        support = votes[np.arange(len(labels)), labels] / np.maximum(votes.sum(1), 1)
    right = right_probability(evidence, labels)
    suggested = evidence.argmax(1)
    names = np.array(classes)
    table = scores.with_columns(
        given_class=pl.Series(names[labels]),
        suggested_label=pl.Series(suggested),
        suggested_class=pl.Series(names[suggested]),
        wrong_probability=pl.Series(1 - right),
        doubt=pl.Series(-np.log(right)),
        support=pl.Series(np.full(len(labels), None) if support is None else support, dtype=pl.Float64),
        difficulty=pl.col(difficulty(run)),
    )
    return _stated(run, with_paths(run, table).filter("trained"))


def _stated(run: "Run", table: "pl.DataFrame") -> "pl.DataFrame":
    """Add ``stated_wrong``, the probability to be wrong that planted errors bear out; missing where they say nothing.

    Of features that never saw a label it also ranks: no order was measured to be better (docs/results/photos.md).
    """
    import polars as pl

    known = trust_of(run, repeats=0) if len(table) >= FEWEST else None
    if known is None or not known.says:
        return table.with_columns(stated_wrong=pl.lit(None, pl.Float64))
    table = table.with_columns(stated_wrong=pl.Series(known.wrong))
    if run.config.data.features is None and not has_witness(run):
        return table
    place = np.empty(len(table))
    place[known.order_with(table["doubt"].to_numpy())] = np.arange(len(table), 0, -1)
    return table.with_columns(doubt=pl.Series(place), wrong_probability=pl.Series(known.wrong))


def _evidence(run: "Run", scores: "pl.DataFrame", classes: int) -> Floats:
    """Out-of-sample probabilities (examples, classes) of the examples of the scores: of the witness, or else the unseen half's.

    Raises:
        UnseenError: for those of other examples.
    """
    name = WITNESSED if has_witness(run) else "unseen_probabilities"
    table = run.table(name)
    if not table["index"].equals(scores["index"].alias("index")) or table.width != classes + 1:
        raise UnseenError(f"{run.path} holds {name}.parquet of other examples or classes than its scores. Restore it, or delete it.")
    return table.drop("index").to_numpy().astype(np.float64)


def has_witness(run: "Run") -> bool:
    """Whether a head on features that never saw a label has judged the labels of a run that scored something else; see ``find_witness``."""
    return (run.path / f"{WITNESSED}.parquet").exists()


def ranked_by(run: "Run") -> str:
    """One sentence on whose word the list of suspects follows."""
    features = run.read_json("witness.json").get("features") if has_witness(run) else run.config.data.features
    if features is None:
        return "Wrong labels are ranked by what the run's own networks say of examples that they have not seen."
    return f"Wrong labels are ranked by a ridge head on features ({features}) that never saw a label."


def measured(run: "Run") -> "pl.DataFrame":
    """The scores of the examples that have unseen probabilities, in their order: all, but where a recorder's halves had gaps."""
    import polars as pl

    scores = run.scores
    if not scores["memorization"].null_count():
        return scores
    index = run.table("unseen_probabilities")["index"]
    return scores.filter(pl.col("index").is_in(index.implode()))


def neighbour_votes(run: "Run", index: Integers, labels: Integers, classes: int) -> Floats | None:
    """How many of each example's nearest have each label: (examples, classes); None without ``neighbours.parquet``."""
    if not (run.path / "neighbours.parquet").exists():
        return None
    table = run.table("neighbours")
    order = np.argsort(index)
    wanted = [table[name].to_numpy() for name in ("index", "neighbour_index")]
    places = [order[np.searchsorted(index, values, sorter=order).clip(max=len(order) - 1)] for values in wanted]
    if any((index[found] != values).any() for found, values in zip(places, wanted, strict=True)):
        raise UnseenError(f"{run.path / 'neighbours.parquet'} is of other examples than the scores. Delete it; it is written again.")
    votes = np.bincount(places[0] * classes + labels[places[1]], minlength=len(index) * classes)
    return votes.reshape(len(index), classes).astype(np.float64)


def _listed(rows: "pl.DataFrame", by: str, score: str, descending: bool = True) -> "pl.DataFrame":
    import polars as pl

    shown = ["given_label", "given_class", "suggested_label", "suggested_class", "score", "wrong_probability", "support", "memorization"]
    front = [name for name in ("index", "id", "path") if name in rows.columns]
    ordered = rows.sort([by, "index"], descending=[descending, False]).with_columns(score=pl.col(score))
    return ordered.select(*front, *shown, *(name for name in ("text",) if name in rows.columns))


def with_paths(run: "Run", table: "pl.DataFrame") -> "pl.DataFrame":
    """Add ``path`` where the data is a folder and ids are files in it."""
    import polars as pl

    try:
        folder = Path(source_of(run, NAMES))
    except UnseenError:  # a stranger's: which files are there is not told
        return table
    if not len(table) or not (folder / table["id"][0]).is_file():
        return table
    return table.with_columns(path=pl.lit(f"{folder}/") + pl.col("id"))
