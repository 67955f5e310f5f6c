"""The tables of a run in shards: what depends on the whole by passes over the parts, then one shard of each table after the other."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from unseen.config import Config
from unseen.data import Sharded
from unseen.hashing import uniform
from unseen.runs import Run, shard_name
from unseen.scoring.estimators import cost_name, final_shard_name, sums_name
from unseen.scoring.inputs import shared_parameters
from unseen.scoring.running import EXACT, Detection, Measured, free_of_sums
from unseen.scoring.scores import (
    Floats,
    NoiseFloor,
    accuracies,
    floor_facts,
    in_order,
    joined_scores,
    mean_probabilities,
    null_rows,
    plain_facts,
    rank_correlation,
    self_confidence,
    tally,
    with_judgement,
    without_halves,
)
from unseen.training import cost_facts

if TYPE_CHECKING:
    import polars as pl


@dataclass
class Sample:
    """Values of up to ``EXACT`` examples: of more, those with the smallest uniform(index, "sample")."""

    draws: Floats = field(default_factory=lambda: np.zeros(0))
    values: Floats | None = None

    def add(self, index: "pl.Series", values: Floats) -> None:
        """Args: values (..., n)."""
        draws = uniform(torch.from_numpy(index.to_numpy().copy()), "sample").numpy()
        self.draws = np.concatenate([self.draws, draws])
        self.values = values if self.values is None else np.concatenate([self.values, values], -1)
        if len(self.draws) > EXACT:
            kept = np.argpartition(self.draws, EXACT)[:EXACT]
            self.draws, self.values = self.draws[kept], self.values[..., kept]


@dataclass
class Whole:
    """What one pass over the parts finds of the whole."""

    counts: Counter[str] = field(default_factory=Counter)
    confidence: Any = 0
    nulls: Sample = field(default_factory=Sample)
    null_count: int = 0
    gaps: Sample = field(default_factory=Sample)
    detection: Detection = field(default_factory=Detection)


def write_tables(run: Run, config: Config, data: Sharded, model: str | nn.Module) -> None:
    """Write the tables; ``summary.json`` last, which marks the run as finished. Three passes over the parts, a shard in memory."""
    import polars as pl

    seeds = range(config.seed, config.seed + config.seeds)
    whole = _whole(run, config, data)
    null_gaps = np.zeros(0) if whole.nulls.values is None else whole.nulls.values
    floor = NoiseFloor.of(null_gaps) if len(null_gaps) > 1 else None
    q_values: Floats = np.ones(1)
    if floor is not None:
        above = np.zeros(len(null_gaps) + 1, np.int64)
        for finals in _finals(run, config, data, ["index", "loss_seen", "loss_unseen"]):
            above += np.bincount(floor.above(_gaps(finals).mean(0)), minlength=len(above))
        q_values = floor.q_values(above)
    discoveries = 0
    for number, (table, probabilities) in enumerate(_joined(run, config, data)):
        table = with_judgement(table, probabilities, floor, q_values, whole.confidence)
        rows = in_order(table.filter(pl.col("split") != "test").drop("split"), config)
        discoveries += floor_facts(table, null_gaps, config)["discoveries_q10"] or 0
        if config.estimator == "plain":
            rows = without_halves(rows)
        else:
            chances = {f"p_{c}": column for c, column in enumerate(probabilities[(table["split"] != "test").to_numpy()].T)}
            run.write_table(shard_name("unseen_probabilities", number), pl.DataFrame({"index": rows["index"]} | chances))
        run.write_table(shard_name("scores", number), rows, seed=str(config.seed))
    facts = {"estimator": config.estimator} | accuracies(dict(whole.counts)) | whole.detection.facts()
    facts |= floor_facts(table, null_gaps, config) | {"null_examples": whole.null_count}
    facts |= {"discoveries_q10": discoveries if floor is not None else None, "seed_correlation": None}
    if config.seeds > 1 and config.estimator != "plain" and whole.gaps.values is not None:
        facts["seed_correlation"] = rank_correlation(whole.gaps.values)
    _write_history(run, config)
    facts = plain_facts(facts) if config.estimator == "plain" else facts
    facts |= cost_facts([run.read_json(cost_name(seed)) for seed in seeds]) | {"classes": list(data.classes), "shards": len(data.counts)}
    run.write_json("summary.json", facts | shared_parameters(config, data[data.order(config.seed, 1)[0]], model))
    for file in (run.path / "weights").glob("sums-*.safetensors"):
        file.unlink()
    run.remove_parts()


def _whole(run: Run, config: Config, data: Sharded) -> Whole:
    import polars as pl

    whole = Whole()
    for (table, probabilities), finals in zip(
        _joined(run, config, data), _finals(run, config, data, ["index", "loss_seen", "loss_unseen"]), strict=True
    ):
        whole.counts.update(tally(table))
        kept = table["trained"].to_numpy()
        whole.confidence = whole.confidence + self_confidence(probabilities[kept], table["given_label"].to_numpy()[kept])
        null = null_rows(table, config)
        whole.null_count += len(null)
        whole.nulls.add(null["index"], null["memorization"].to_numpy())
        trained = table.filter("trained")
        if config.seeds > 1:
            rows = table.select(place=pl.col("trained"))["place"].to_numpy()
            whole.gaps.add(trained["index"], _gaps(finals)[:, rows])
        if "true_label" in table.columns:
            whole.detection.add((trained["true_label"] != trained["given_label"]).to_numpy(), trained["memorization"].to_numpy())
    return whole


def _joined(run: Run, config: Config, data: Sharded) -> "Iterator[tuple[pl.DataFrame, Floats]]":
    """Of each shard the table of examples, measurements and free scores, and the unseen half's probabilities."""
    seeds, epochs = range(config.seed, config.seed + config.seeds), Measured.of(config)
    for number, (examples, finals) in enumerate(zip(run.pieces("examples"), _finals(run, config, data), strict=True)):
        sums = [run.read_tensors(sums_name(seed, number))[0] for seed in seeds]
        free = free_of_sums(finals[0]["index"], sums, epochs)
        yield joined_scores(examples, free, finals, config), mean_probabilities(finals)


def _finals(run: Run, config: Config, data: Sharded, columns: list[str] | None = None) -> "Iterator[list[pl.DataFrame]]":
    """Of each shard the last measurements of all seeds."""
    import polars as pl

    for number in range(len(data.counts)):
        files = [run.path / final_shard_name(seed, number) for seed in range(config.seed, config.seed + config.seeds)]
        yield [pl.read_parquet(file, columns=columns) for file in files]


def _gaps(finals: "list[pl.DataFrame]") -> Floats:
    return np.stack([final["loss_unseen"].to_numpy() - final["loss_seen"].to_numpy() for final in finals])


def _write_history(run: Run, config: Config) -> None:
    import polars as pl

    parts = sorted((run.path / "parts").glob("history-*.parquet"))
    history = pl.concat(pl.read_parquet(part) for part in parts).sort("seed", "epoch", "index")
    run.write_table("history", without_halves(history) if config.estimator == "plain" else history)
