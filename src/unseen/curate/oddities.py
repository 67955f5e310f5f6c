"""Lists that need no label to be wrong: examples that stand in the data twice, in both splits, or outside of every class.

They come from the data and its features (those of the run, where it scored features), not from the run's scores. What was found with
the usual nearness is kept beside the run's tables: ``duplicates.parquet``, ``leaks.parquet``, ``outliers.parquet``.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unseen.curate.doubles import Pairs, exact_pairs, groups, near_pairs, strangeness
from unseen.curate.hashes import can_hash, changed_copies, picture_hashes
from unseen.curate.lists import with_paths
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.features import Features, extract
from unseen.runs import Run
from unseen.scoring import cache_folder, run_examples

if TYPE_CHECKING:
    import polars as pl

NEAR = 0.9  # cosine, with features of a network that others trained
NEAR_WITHOUT = 0.95  # without: .9 finds pairs of any label (LOG.md)
WITHOUT_NETWORK = ("pixels", "patches", "gradients", "tfidf")
FEWEST = 20  # examples, for a quartile to mean something
FAR = 1.5  # interquartile ranges above the third quartile (Tukey)
Described = Callable[[], tuple[Examples, Features]]
"""Gives the examples as they were read, and their features: read once, when they are needed."""


def find_oddities(run: Run, data_dir: str | Path | None = None, data: Any = None) -> str | None:
    """Make sure that the tables of duplicates, of outliers and, where there is a test split, of leaks are there.

    Args:
        run: finished, of data in memory.
        data_dir: where mnist/, cifar10/ … lie.
        data: what the run was made of, where that was not a name.

    Returns:
        Why one is not there: the run's data cannot be read, or are too few; else None.
    """
    described = cache(partial(_described, run, data, data_dir))
    names = [name for name in LISTS if name != "leaks" or "test" in run.examples["split"]]
    try:
        for name in names:
            _kept(run, name, described)
    except UnseenError as error:
        return str(error)
    return None


def odd_lists(run: Run) -> "dict[str, pl.DataFrame]":
    """The lists of oddities whose tables are there: duplicates, leaks, outliers; an empty one says that none was found.

    Reads tables only.
    """
    return {name: with_paths(run, run.table(name)) for name in LISTS if (run.path / f"{name}.parquet").exists()}


def duplicates(run: Run, near: float | None = None, data: Any = None, data_dir: str | Path | None = None) -> "pl.DataFrame":
    """Training examples that stand in the data twice, or nearly so; those with different labels first, then the nearest.

    To drop all of them leaves one of each group, the first.

    Args:
        run: finished, of data in memory.
        near: least cosine of features. 1: only what is equal. Default: .9, or .95 where no trained network made them; and of pictures in
            colour those too whose perceptual hashes agree (``picture_hashes``), however far their features.
        data: what the run was made of, where that was not a name.
        data_dir: where mnist/, cifar10/ … lie.

    Returns:
        Columns index, id, path (where the data is a folder of files), given_class, other_index, other_id, other_class (the nearest before
        it), cosine, exact (the inputs are equal), labels_differ (within its group), group.

    Raises:
        UnseenError: where the data cannot be read, or are not those of the run.
    """
    described = partial(_described, run, data, data_dir)
    return with_paths(run, _kept(run, "duplicates", described) if near is None else _duplicates(*described(), near))


def leaks(run: Run, near: float | None = None, data: Any = None, data_dir: str | Path | None = None) -> "pl.DataFrame":
    """Test examples that stand in the training set too, or nearly so, the nearest first: they say nothing about unseen data.

    Args:
        run: as ``duplicates``.
        near: as ``duplicates``.
        data: as ``duplicates``.
        data_dir: as ``duplicates``.

    Returns:
        As ``duplicates``, index and id of the test example, the others of the training example; without group.

    Raises:
        UnseenError: as ``duplicates``, and where the run has no test split.
    """
    described = partial(_described, run, data, data_dir)
    return with_paths(run, _kept(run, "leaks", described) if near is None else _leaks(*described(), near))


def outliers(run: Run, data: Any = None, data_dir: str | Path | None = None) -> "pl.DataFrame":
    """Training examples far from everything else, the farthest first: pictures of no class, garbage, or what is there once.

    Listed are those whose ``strangeness`` is more than 1.5 (Tukey's rule).

    Args:
        run: as ``duplicates``.
        data: as ``duplicates``.
        data_dir: as ``duplicates``.

    Returns:
        Columns index, id, path, given_class, strangeness: distance from its nearest or from the mean, in interquartile ranges above the
        third quartile.

    Raises:
        UnseenError: as ``duplicates``, and for fewer than 20 training examples.
    """
    return with_paths(run, _kept(run, "outliers", partial(_described, run, data, data_dir)))


def _kept(run: Run, name: str, described: Described) -> "pl.DataFrame":
    """The table of a list with the usual nearness: read, or found and written."""
    if not (run.path / f"{name}.parquet").exists():
        run.write_table(name, LISTS[name](*described()))
    return run.table(name)


def _duplicates(examples: Examples, features: Features, near: float | None = None) -> "pl.DataFrame":
    import polars as pl

    train = ~_of_test(examples)
    rows, kept = features.tensor()[train], examples.select(train)
    pairs = near_pairs(rows, _near(near, features))
    if near is None and can_hash(kept):
        pairs |= changed_copies(rows, picture_hashes(kept))
    found = _table(pairs, kept, kept, turned=True)
    group, labels = groups(pairs, len(kept)), kept.labels.cpu().numpy()
    number = dict(zip(kept.index.tolist(), group.tolist(), strict=True))
    mixed = pl.DataFrame({"group": group, "label": labels}).group_by("group").agg(labels_differ=pl.col("label").n_unique() > 1)
    found = found.with_columns(group=pl.col("index").replace_strict(number, return_dtype=pl.Int64)).join(mixed, on="group", how="left")
    return found.sort(["labels_differ", "cosine", "index"], descending=[True, True, False])


def _leaks(examples: Examples, features: Features, near: float | None = None) -> "pl.DataFrame":
    import polars as pl

    test = _of_test(examples)
    train = ~test
    if not test.any():
        raise UnseenError("This run has no test split, so nothing can leak into it. Score data with one, or with --test-fraction.")
    rows = features.tensor()
    held, kept = examples.select(test), examples.select(train)
    pairs = near_pairs(rows[test], _near(near, features), rows[train])
    if near is None and can_hash(kept):
        pairs |= changed_copies(rows[test], picture_hashes(held), rows[train], picture_hashes(kept))
    found = _table(pairs, held, kept)
    return found.with_columns(labels_differ=pl.col("given_class") != pl.col("other_class")).sort(
        ["cosine", "index"], descending=[True, False]
    )


def _outliers(examples: Examples, features: Features) -> "pl.DataFrame":
    import polars as pl

    train = ~_of_test(examples)
    if (count := int(train.sum())) < FEWEST:
        raise UnseenError(f"There are {count} training examples; at least {FEWEST} are needed to tell what is far from the others.")
    kept, far = examples.select(train), strangeness(features.tensor()[train])
    found = (far > FAR).nonzero()[:, 0]
    some = kept.select(found)
    columns = {"index": some.index.tolist(), "id": list(some.ids), "given_class": _classes(some), "strangeness": far[found].tolist()}
    schema = {"index": pl.Int64, "id": pl.String, "given_class": pl.String, "strangeness": pl.Float64}
    return pl.DataFrame(columns, schema=schema).sort(["strangeness", "index"], descending=[True, False])


LISTS: dict[str, Callable[..., "pl.DataFrame"]] = {"duplicates": _duplicates, "leaks": _leaks, "outliers": _outliers}


def _described(run: Run, data: Any, data_dir: str | Path | None) -> tuple[Examples, Features]:
    """The examples as they were read, and their features: those that the run scored, else what ``auto`` takes for such data."""
    config, examples = run_examples(run, data, data_dir=data_dir, as_scored=False)
    return examples, extract(examples, config.data.features or "auto", cache=cache_folder())


def _near(near: float | None, features: Features) -> float:
    if near is not None:
        return near
    return NEAR_WITHOUT if all(part in WITHOUT_NETWORK for part in features.kind.split("+")) else NEAR


def _of_test(examples: Examples) -> Tensor:
    return torch.tensor([part == "test" for part in examples.split], dtype=torch.bool)


def _classes(examples: Examples) -> list[str]:
    return [examples.classes[int(label)] for label in examples.labels]


def _table(pairs: Pairs, firsts: Examples, seconds: Examples, turned: bool = False) -> "pl.DataFrame":
    """A row for each example with its nearest partner: for the first of each pair, or, turned, for the second."""
    import polars as pl

    pairs = pairs.keep(_first_of_each(pairs.second if turned else pairs.first))
    exact = exact_pairs(pairs, firsts, seconds)
    some, partners = firsts.select(pairs.first), seconds.select(pairs.second)
    some, partners = (partners, some) if turned else (some, partners)
    columns = {
        "index": some.index.tolist(),
        "id": list(some.ids),
        "given_class": _classes(some),
        "other_index": partners.index.tolist(),
        "other_id": list(partners.ids),
        "other_class": _classes(partners),
        "cosine": pairs.cosine.tolist(),
        "exact": exact.tolist(),
    }
    whole, text = pl.Int64, pl.String
    schema = dict(zip(columns, (whole, text, text, whole, text, text, pl.Float64, pl.Boolean), strict=True))
    return pl.DataFrame(columns, schema=schema)


def _first_of_each(values: Tensor) -> Tensor:
    """The place of the first of each value: pairs stand nearest first."""
    places: dict[int, int] = {}
    for place, value in enumerate(values.tolist()):
        places.setdefault(value, place)
    return torch.tensor(list(places.values()), dtype=torch.int64)
