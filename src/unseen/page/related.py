"""Which other examples a card shows: the nearest, or those that helped and hurt it most, where the run's tables say so."""

from typing import TYPE_CHECKING, Any

from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

NEAREST, EXTREMES = 6, 3
NEAR, HELPS, HURTS = "nearest", "helped it most", "hurt it most"


def related(run: Run, index: "pl.Series") -> "pl.DataFrame":
    """Columns index, kind, other (index of the other example) and value, a few rows for each example that has any.

    From ``neighbours.parquet`` the nearest (value: similarity), from ``influence.parquet``, where the example was among the queries, those
    whose influence is largest and smallest.

    Args:
        run: finished.
        index: of the examples that may be asked for.
    """
    import polars as pl

    parts = [pl.DataFrame(schema={"index": pl.Int64, "kind": pl.String, "other": pl.Int64, "value": pl.Float64})]
    if (run.path / "neighbours.parquet").exists():
        near = run.table("neighbours").filter(pl.col("rank") <= NEAREST, pl.col("index").is_in(index.implode())).sort("index", "rank")
        parts.append(near.select(*_columns("index", pl.lit(NEAR), "neighbour_index", "similarity")))
    if (run.path / "influence.parquet").exists():
        examples = run.examples.select("index", "id")
        table = run.table("influence").filter(pl.col("rank") <= EXTREMES, pl.col("query_index").is_in(index.implode()))
        table = table.join(examples, left_on=["query_index", "query_id"], right_on=["index", "id"], how="semi", maintain_order="left")
        kind = pl.when(pl.col("side") == "top").then(pl.lit(HELPS)).otherwise(pl.lit(HURTS))
        parts.append(
            table.filter(pl.col("train_index") != pl.col("query_index")).select(*_columns("query_index", kind, "train_index", "influence"))
        )
    return pl.concat(parts).filter(pl.col("value").is_finite())


def _columns(index: str, kind: "pl.Expr", other: str, value: str) -> "list[pl.Expr]":
    import polars as pl

    return [
        pl.col(index).cast(pl.Int64).alias("index"),
        kind.alias("kind"),
        pl.col(other).cast(pl.Int64).alias("other"),
        pl.col(value).cast(pl.Float64).alias("value"),
    ]


def related_facts(run: Run, index: "pl.Series") -> dict[str, Any]:
    """The same for the page: others (index, id, label of each) and, by position in ``index``, lists of [kind, other, value]."""
    import polars as pl

    table = related(run, index)
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
