"""How training got there: loss and accuracy of named subsets per epoch, when each example is learned and forgotten, their gradients.

Tables in, tables out: a run's ``history.parquet`` has every example's loss in both halves at every epoch measured; nothing is trained here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from unseen.data import find_subsets
from unseen.errors import UnseenError
from unseen.gradients import coming_steps, gradient_rows, gradient_table
from unseen.masks import Side
from unseen.runs import Run, open_run
from unseen.scoring import refuse_other_scores, run_examples, saved_epochs, saved_network
from unseen.training import Members

if TYPE_CHECKING:
    import polars as pl


def subset_curves(history: "pl.DataFrame", subsets: Mapping[str, Sequence[int]]) -> "pl.DataFrame":
    """Mean loss and accuracy of each subset at each epoch, in both halves and the full network.

    Args:
        history: columns seed, epoch, index, loss_<side>, correct_<side>.
        subsets: index of the members, by name.

    Returns:
        A row per seed, epoch, subset and side (seen, unseen, full): loss (nats), accuracy (0..1) and examples, how many.
    """
    import polars as pl

    names = pl.concat(pl.DataFrame({"subset": [name] * len(index), "index": list(index)}) for name, index in subsets.items())
    rows = history.join(names.with_columns(pl.col("index").cast(history["index"].dtype)), on="index")
    grouped = rows.group_by("seed", "epoch", "subset")
    sides = [
        grouped.agg(loss=pl.col(f"loss_{side}").mean(), accuracy=pl.col(f"correct_{side}").mean(), examples=pl.len()).with_columns(
            side=pl.lit(side)
        )
        for side in Side
        if f"loss_{side}" in history.columns  # an ordinary network has no halves
    ]
    order = pl.DataFrame({"subset": list(subsets), "place": range(len(subsets))})
    table = pl.concat(sides).join(order, on="subset").sort("seed", "epoch", "place", "side")
    return table.select("seed", "epoch", "subset", "side", "loss", "accuracy", "examples")


def learning_times(history: "pl.DataFrame", side: str = "seen") -> "pl.DataFrame":
    """When each example is learned and forgotten, by the predictions of one side at the epochs measured.

    Returns:
        A row per seed and index: first_learned_epoch, the first at which the prediction is the given label; learned_epoch, from which on it
        always is; both null where there is none; forgetting_events, how often right turned wrong, and of an example that was never right
        one more than there are epochs (Toneva et al. 2019: infinite); and last_forgotten_epoch, the last at which it did, null where it
        never did. Of members all of it is of what most of those that train on the example predict; ``scores.parquet`` counts events in each
        of them.
    """
    import polars as pl

    right = pl.col(f"correct_{side}") > 0.5
    epochs = history["epoch"].n_unique()
    forgotten = right.not_() & right.shift(1, fill_value=False)
    return (
        history.sort("epoch")
        .group_by("seed", "index", maintain_order=True)
        .agg(
            first_learned_epoch=pl.col("epoch").filter(right).min(),
            # the first epoch of the last unbroken row of right predictions
            learned_epoch=pl.when(right.last()).then(pl.col("epoch").filter(right & (right.not_().cum_sum() == right.not_().sum())).min()),
            forgetting_events=pl.when(right.any()).then(forgotten.sum()).otherwise(epochs + 1).cast(pl.UInt32),
            last_forgotten_epoch=pl.col("epoch").filter(forgotten).max(),
        )
        .sort("seed", "index")
    )


def run_subsets(run: Run, texts: Sequence[str] = (), scores: str | Path | None = None) -> dict[str, list[int]]:
    """Subsets of a finished run, by name: those written in ``texts``, else those that were watched, else easy, difficult and all.

    Args:
        run: a finished run.
        texts: see ``subsets.py``.
        scores: the run whose scores rank the examples; default: this one.

    Raises:
        UnseenError: as ``find_subsets``, and for scores of other data.
    """
    if not texts and (run.path / "subsets.parquet").exists():
        watched = run.table("subsets")
        return {
            name: watched.filter(watched["subset"] == name)["index"].to_list() for name in watched["subset"].unique(maintain_order=True)
        }
    ranking = run if scores is None else open_run(scores)
    refuse_other_scores(run, ranking)
    return find_subsets(texts or ("easy:0.2", "difficult:0.2", "all"), run.examples, ranking.scores, class_names(run))


def class_names(run: Run) -> list[str]:
    """Names of the labels 0, 1, … as the run kept them; their numbers where it did not."""
    kept = run.summary.get("classes") if run.finished else None
    return list(kept) if kept else [str(label) for label in range(int(run.examples["given_label"].max()) + 1)]  # type: ignore[arg-type]


def dynamics(run: Run, texts: Sequence[str] = (), scores: str | Path | None = None) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Write a run's ``dynamics.parquet`` (``subset_curves``) and ``learned.parquet`` (``learning_times``), and return both.

    Args as ``run_subsets``. The test examples, where the run has some, are a subset of their own, ``test``.
    """
    import polars as pl

    subsets = run_subsets(run, texts, scores)
    test = run.examples.filter(pl.col("split") == "test")["index"].to_list()
    subsets |= {"test": test} if test and "test" not in subsets else {}
    history = run.history
    curves = subset_curves(history, subsets)
    side = "seen" if "correct_seen" in history.columns else "full"
    times = learning_times(history, side).join(run.examples.select("index", "split"), on="index", maintain_order="left")
    with run.alone():
        run.write_table("dynamics", curves)
        run.write_table("learned", times)
    return curves, times


def run_gradients(
    run: Run,
    texts: Sequence[str] = (),
    scores: str | Path | None = None,
    *,
    most: int = 1000,
    data: Any = None,
    model: nn.Module | None = None,
    data_dir: str | Path | None = None,
) -> "pl.DataFrame":
    """Write ``gradients.parquet`` of a run that kept its weights (``--save-every``): ``watch.gradient_rows`` of each saved epoch.

    Where only the last weights were kept, only these are measured.

    Args:
        run: that kept its weights.
        texts: the subsets, see ``subsets.py``; by default those that were watched, else easy, difficult and all.
        scores: the run whose scores rank the examples; default: this one.
        most: members of each subset to measure.
        data: what the run was made of, where that was not a name.
        model: the network that the run was made with, where that was not a name.
        data_dir: where mnist/, cifar10/ … lie.

    Raises:
        UnseenError: no weights, another data set or model than the run's, and as ``find_subsets``.
    """
    config, examples = run_examples(run, data, model, data_dir)
    subsets = run_subsets(run, texts, scores)
    train, null = examples.train, (config.noise.null_fraction, config.seed)
    rows = []
    for seed in range(config.seed, config.seed + config.seeds):
        net = saved_network(run, config, examples, seed, model)
        if isinstance(net, Members):
            raise UnseenError(
                f"{run.path} has many networks (--estimator members). Gradients are those of one: score with --estimator turnover."
            )
        for epoch, weights, _ in saved_epochs(run, seed, net):
            net.load_state_dict(weights)
            found = gradient_rows(net, examples, subsets, coming_steps(train, config.training.batch_size, seed, epoch, null), most, seed)
            rows += [{"seed": seed, "epoch": epoch} | row for row in found]
    table = gradient_table(rows)
    run.write_table("gradients", table)
    return table
