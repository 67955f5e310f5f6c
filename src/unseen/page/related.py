"""Which other examples a card shows: the nearest, twins, those that helped and hurt it most, where the run's tables say so."""

from typing import TYPE_CHECKING, Any

from unseen.curate import odd_lists
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

NEAREST, EXTREMES = 6, 3
NEAR, HELPS, HURTS, TWIN, LEAK = "nearest", "helped it most", "hurt it most", "the same, or nearly", "in the test split"
SCHEMA = ("index", "kind", "other", "value")


def related(run: Run, index: "pl.Series", near: "pl.DataFrame | None" = None) -> "pl.DataFrame":
    """Columns index, kind, other (index of the other example) and value, a few rows for each example that has any.

    From the tables of duplicates and leaks the twins (value: cosine), from ``neighbours.parquet`` the nearest (value: similarity), from
    ``influence.parquet``, where the example was among the queries, those whose influence is largest and smallest.

    Args:
        run: finished.
        index: of the examples that may be asked for.
        near: the nearest of some of them, which count where there is no ``neighbours.parquet``.
    """
    import polars as pl

    kinds = (pl.Int64, pl.String, pl.Int64, pl.Float64)
    parts = [pl.DataFrame(schema=dict(zip(SCHEMA, kinds, strict=True))), *_twins(run)]
    if (run.path / "neighbours.parquet").exists():
        table = run.table("neighbours").filter(pl.col("rank") <= NEAREST).sort("index", "rank")
        parts.append(table.select(*_columns("index", pl.lit(NEAR), "neighbour_index", "similarity")))
    elif near is not None:
        parts.append(near.select(*_columns("index", pl.lit(NEAR), "other", "value")))
    if (run.path / "influence.parquet").exists():
        examples = run.examples.select("index", "id")
        table = run.table("influence").filter(pl.col("rank") <= EXTREMES)
        table = table.join(examples, left_on=["query_index", "query_id"], right_on=["index", "id"], how="semi", maintain_order="left")
        kind = pl.when(pl.col("side") == "top").then(pl.lit(HELPS)).otherwise(pl.lit(HURTS))
        parts.append(
            table.filter(pl.col("train_index") != pl.col("query_index")).select(*_columns("query_index", kind, "train_index", "influence"))
        )
    return pl.concat(part.filter(pl.col("index").is_in(index.implode())) for part in parts).filter(pl.col("value").is_finite())


def _twins(run: Run) -> "list[pl.DataFrame]":
    """Both of a pair of duplicates are shown with each other, and of a leak the training example with the test example."""
    import polars as pl

    found, parts = odd_lists(run), []
    if (table := found.get("duplicates")) is not None:
        for one, other in (("index", "other_index"), ("other_index", "index")):
            parts.append(table.select(*_columns(one, pl.lit(TWIN), other, "cosine")).unique("index", keep="first", maintain_order=True))
    if (table := found.get("leaks")) is not None:
        parts.append(table.select(*_columns("other_index", pl.lit(LEAK), "index", "cosine")))
    return [pl.concat(parts).unique(["index", "kind", "other"], keep="first", maintain_order=True)] if parts else []


def _columns(index: str, kind: "pl.Expr", other: str, value: str) -> "list[pl.Expr]":
    import polars as pl

    return [
        pl.col(index).cast(pl.Int64).alias("index"),
        kind.alias("kind"),
        pl.col(other).cast(pl.Int64).alias("other"),
        pl.col(value).cast(pl.Float64).alias("value"),
    ]


def related_facts(run: Run, index: "pl.Series", near: "pl.DataFrame | None" = None) -> dict[str, Any]:
    """The same for the page: others (index, id, label of each) and, by position in ``index``, lists of [kind, other, value]."""
    import polars as pl

    table = related(run, index, near)
    if not len(table):
        return {"others": [], "of": {}}
    others = table.select(pl.col("other").unique(maintain_order=True)).with_columns(number=pl.int_range(pl.len()))
    named = others.join(
        run.examples.select("index", "id", "given_label"), left_on="other", right_on="index", how="left", maintain_order="left"
    )
    places = pl.DataFrame({"index": index}).with_columns(place=pl.int_range(pl.len()))
    numbered = table.join(others, on="other", maintain_order="left").join(places, on="index", maintain_order="left")
    of: dict[int, list[list[Any]]] = {}
    for place, kind, number, value in numbered.select("place", "kind", "number", "value").iter_rows():
        of.setdefault(place, []).append([kind, number, round(value, 3)])
    return {"others": [[i, name, label] for i, name, label in named.select("other", "id", "given_label").iter_rows()], "of": of}
