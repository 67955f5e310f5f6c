"""The tables of a run: what depends on all examples by passes over the parts, then one shard of each table after the other."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from unseen.config import Config
from unseen.data import Sharded
from unseen.runs import Run, shard_name
from unseen.scoring.estimators import estimator_of
from unseen.scoring.floor import Floats, NoiseFloor, floor_facts, null_rows
from unseen.scoring.free import MeasuredEpochs, free_table
from unseen.scoring.parts import SeedParts
from unseen.scoring.ranks import Detection, Sample
from unseen.scoring.scores import (
    accuracies,
    in_order,
    is_trained,
    joined_scores,
    mean_probabilities,
    rank_correlation,
    self_confidence,
    tally,
    with_judgement,
)
from unseen.training import HEAD_SCORES, cost_facts, machine

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Totals:
    """What one pass over the parts finds of all examples."""

    counts: Counter[str] = field(default_factory=Counter)
    confidence: Any = 0
    nulls: Sample = field(default_factory=Sample)
    null_count: int = 0
    gaps: Sample = field(default_factory=Sample)
    detection: Detection = field(default_factory=Detection)

    @property
    def null_gaps(self) -> Floats:
        """Memorization of the examples that were never trained."""
        return np.zeros(0) if self.nulls.values is None else self.nulls.values


def write_tables(run: Run, config: Config, data: Sharded, model: str | nn.Module) -> None:
    """Write the tables; ``summary.json`` last, which marks the run as finished. Three passes over the parts, a shard in memory."""
    seeds = [SeedParts(run, seed) for seed in range(config.seed, config.seed + config.seeds)]
    estimator, numbers = estimator_of(config), range(len(data))
    write = _halves if estimator.has_halves else _one_side
    facts = {"estimator": config.estimator} | write(run, config, data, seeds)
    _join_parts(run, "history", ("seed", "epoch", "index"))
    _join_parts(run, "gradients", ("seed", "epoch"))
    facts |= machine() | cost_facts([parts.cost() for parts in seeds]) | {"classes": list(data.classes)}
    facts |= {"reading": list(data[0].reading.lines())} if data.is_whole else {"shards": len(numbers)}
    some = data[data.windows(config.seed, 1, config.data.shuffle_buffer)[0][0]]
    run.write_json("summary.json", facts | estimator.facts(config, some, model))
    remove_leftovers(run)


def remove_leftovers(run: Run) -> None:
    """Delete what a finished run needs no more: of one that was killed between its last table and this, too."""
    for file in [*(run.path / "weights").glob("sums-*.safetensors"), *(run.path / "weights").glob("members-*.safetensors")]:
        file.unlink(missing_ok=True)
    run.remove_parts()


def _one_side(run: Run, config: Config, data: Sharded, seeds: list[SeedParts]) -> dict[str, Any]:
    """The scores of one ordinary network, and its facts."""
    import polars as pl

    counts: Counter[str] = Counter()
    for number, (table, _) in enumerate(_joined(run, config, data, seeds)):
        counts.update(tally(table))
        rows = table.filter(pl.col("split") != "test").drop("split")
        run.write_table(table_name("scores", number, data), in_order(rows), seed=str(config.seed))
    return accuracies(dict(counts))


def _halves(run: Run, config: Config, data: Sharded, seeds: list[SeedParts]) -> dict[str, Any]:
    """The scores of two halves and the unseen one's probabilities, and their facts."""
    import polars as pl

    totals = _totals(run, config, data, seeds)
    floor = NoiseFloor.of(totals.null_gaps) if len(totals.null_gaps) > 1 else None
    q_values = np.ones(1) if floor is None else _q_values(run, config, floor, data, seeds)
    discoveries, leading = 0, estimator_of(config).leading
    for number, (table, finals) in enumerate(_joined(run, config, data, seeds)):
        probabilities = mean_probabilities(finals)
        table = with_judgement(table, probabilities, floor, q_values, totals.confidence)
        is_train = (table["split"] != "test").to_numpy()
        rows = in_order(table.filter(is_train).drop("split"), leading)
        chances = {f"p_{c}": column for c, column in enumerate(probabilities[is_train].T)}
        run.write_table(table_name("unseen_probabilities", number, data), pl.DataFrame({"index": rows["index"]} | chances))
        run.write_table(table_name("scores", number, data), rows, seed=str(config.seed))
        discoveries += floor_facts(table, totals.null_gaps, config)["discoveries_q10"] or 0
    facts = accuracies(dict(totals.counts)) | totals.detection.facts() | floor_facts(table, totals.null_gaps, config)
    facts |= {"null_examples": totals.null_count, "discoveries_q10": None if floor is None else discoveries}
    several = config.seeds > 1 and totals.gaps.values is not None
    return facts | {"seed_correlation": rank_correlation(totals.gaps.values) if several else None}  # type: ignore[arg-type]


def _q_values(run: Run, config: Config, floor: NoiseFloor, data: Sharded, seeds: list[SeedParts]) -> Floats:
    """Of the trained examples: the others are no hypotheses."""
    above = np.zeros(len(floor.gaps) + 1, np.int64)
    for number in range(len(data)):
        gaps = _gaps(_finals(seeds, number)).mean(0)
        kept = is_trained(run.table(table_name("examples", number, data)), config)
        above += np.bincount(floor.above(gaps[kept]), minlength=len(above))
    return floor.q_values(above)


def _totals(run: Run, config: Config, data: Sharded, seeds: list[SeedParts]) -> Totals:
    totals = Totals()
    for table, finals in _joined(run, config, data, seeds):
        totals.counts.update(tally(table))
        kept = table["trained"].to_numpy()
        totals.confidence = totals.confidence + self_confidence(mean_probabilities(finals)[kept], table["given_label"].to_numpy()[kept])
        null = null_rows(table, config)
        totals.null_count += len(null)
        totals.nulls.add(null["index"], null["memorization"].to_numpy())
        trained = table.filter("trained")
        if config.seeds > 1:
            totals.gaps.add(trained["index"], _gaps(finals)[:, table["trained"].to_numpy()])
        if "true_label" in table.columns:
            totals.detection.add((trained["true_label"] != trained["given_label"]).to_numpy(), trained["memorization"].to_numpy())
    return totals


def _joined(run: Run, config: Config, data: Sharded, seeds: list[SeedParts]) -> "Iterator[tuple[pl.DataFrame, list[pl.DataFrame]]]":
    """Of each shard the table of examples, measurements and free scores, and the last measurements of all seeds."""
    epochs = len(MeasuredEpochs.of(config).epochs)
    has_heads = not data.is_whole and any(bool(seeds[0].sums(number)[0]["heads"].any()) for number in range(len(data)))
    for number in range(len(data)):
        examples, finals = run.table(table_name("examples", number, data)), _finals(seeds, number)
        sums = [parts.sums(number)[0] for parts in seeds]
        free = free_table(sums[0]["index"], sums, epochs, HEAD_SCORES if has_heads else ())  # in all shards or in none
        yield joined_scores(examples, free, finals, config), finals


def _finals(seeds: list[SeedParts], number: int) -> "list[pl.DataFrame]":
    """Of one shard the last measurements of all seeds."""
    return [parts.final(number) for parts in seeds]


def _gaps(finals: "list[pl.DataFrame]") -> Floats:
    return np.stack([final["loss_unseen"].to_numpy() - final["loss_seen"].to_numpy() for final in finals])


def _join_parts(run: Run, name: str, order: tuple[str, ...]) -> None:
    """One table of all the parts of that name, where there are any."""
    import polars as pl

    if parts := sorted((run.path / "parts").glob(f"{name}-*.parquet")):
        run.write_table(name, pl.concat(run.table(f"parts/{part.stem}") for part in parts).sort(order, maintain_order=True))


def table_name(table: str, number: int, data: Sharded) -> str:
    """Name of a shard of a table; of data in memory that of the table."""
    return table if data.is_whole else shard_name(table, number)
