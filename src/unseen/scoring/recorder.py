"""Record any training loop: what the network said of each example, as it trained on it. Three lines: make it, update, save."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unseen.config import Config
from unseen.errors import UnseenError
from unseen.masks import Side
from unseen.runs import Run, start_run
from unseen.scoring.batches import Batch, checked_batch, is_good, refuse_values
from unseen.scoring.free import FreeScores, MeasuredEpochs, free_table
from unseen.scoring.gaps import check_names, say_gaps
from unseen.scoring.recorded import RecordedHeads, with_heads
from unseen.scoring.scores import final_scores, label_issues, summarize
from unseen.training import statistics

if TYPE_CHECKING:
    import polars as pl

KEPT = ("loss", "margin", "correct", "error_norm", "predicted")
FLUSH = 32  # updates between two computations of statistics: one large one costs as much as a small one


class Recorder:
    """The free scores of an ordinary network, and the whole score table where the halves of a ``TurnOverNet`` are measured.

    The statistics are those of the forward that trains, so nothing is computed twice; they stay on the device until the epoch ends.
    An epoch ends where ``end_epoch`` is called; where it never is, an example's k-th visit counts as its epoch k.

    - Shuffled loaders, subsets, augmented views: the index is the example, whatever its place or its looks.
    - An example twice in an epoch (padding of distributed samplers, oversampling): its first visit counts, if epochs are marked.
    - Examples that an epoch leaves out (drop_last): its scores are of the epochs that had it.
    - Several processes: each records its share; ``save`` gathers, and the first process writes.
    - What cannot be recorded is refused at its update. What was recorded is always saved: ``save`` warns, with a number, of examples that
      never came, that came unequally often without marked epochs, or whose halves were not measured.

    Args:
        examples: size of the data set; then an index beyond it is refused, and examples that never came are warned of.
        net: the network that is trained. With ``end_epoch`` after each epoch the table then has head_memorization and head_loss: of a ridge
            head on what goes into the network's linear output layer at the forwards that train (``training/hidden.py``).

    Example:
        >>> import tempfile
        >>> recorder = Recorder(examples=4)
        >>> for epoch in range(3):
        ...     recorder.update(torch.tensor([2, 0, 3, 1]), torch.eye(4), torch.tensor([0, 1, 2, 0]))
        >>> run = recorder.save(tempfile.mkdtemp())
        >>> run.scores["correctness"].to_list()
        [1.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, examples: int | None = None, net: nn.Module | None = None) -> None:
        self.examples, self.epoch = examples, 1
        self.heads = None if net is None else RecordedHeads(net)
        self.marked = False
        self._classes: int | None = None
        self._waiting: list[Batch] = []
        self._blocks: list[dict[str, Tensor]] = []
        self._halves: list[dict[str, Tensor]] = []
        self._head_rows: list[dict[str, Tensor]] = []

    def watch(self, net: nn.Module) -> None:
        """Fit heads to this network from now on, as ``Recorder(net=net)`` does from the start. A second call does nothing."""
        if self.heads is None:
            self.heads = RecordedHeads(net)

    def update(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record a batch. Costs three copies.

        Args:
            index: int64 (n,), positions in the data set.
            logits: (n, classes), of the forward that trains.
            labels: whole numbers (n,), from 0 to below classes. All of them on any device.

        Raises:
            UnseenError: see ``checked_batch``. What was recorded before stays. Values on another device than the CPU are looked at after
                some updates, as each look would make the device wait.
        """
        batch = checked_batch(index, logits, labels, self.examples, self._classes)
        self._classes = batch.logits.shape[1]
        if not len(batch.index):
            return
        self._waiting.append(batch)
        if self.heads is not None:
            self.heads.note(batch.index, logits, batch.labels)
        if len(self._waiting) >= FLUSH:
            self._flush()

    def end_epoch(self, halves: dict[str, Tensor] | None = None) -> None:
        """Mark the end of an epoch.

        Args:
            halves: ``measure_batches`` of a ``TurnOverNet`` at this point.
        """
        self.marked = True
        self._collect()
        if halves is not None:
            self._halves.append({name: value.cpu() for name, value in halves.items()} | {"epoch": torch.tensor(self.epoch)})
        if self.heads is not None and self._classes:
            rows = self.heads.end_epoch(self.epoch, self._classes)
            self._head_rows += [] if rows is None else [rows]
        self.epoch += 1

    def save(self, path: str | Path, name: str = "recorded", ids: list[str] | None = None, classes: list[str] | None = None) -> Run:
        """Write a run folder that ``unseen show`` and, with halves, the report and the lists read.

        Every example that was recorded has a row. Where its halves were not measured with the last epoch, what speaks of them is missing
        (null) in its row; a warning says of how many.

        Args:
            path: a folder that is empty, not there, or holds an earlier save.
            name: of the data.
            ids: names of the examples, by index.
            classes: names of the labels, by number.

        Returns:
            The run.

        Raises:
            UnseenError: nothing recorded; fewer ids or classes than there are; other files in the folder; an index with two labels (then
                it does not follow the example). Nothing is lost by it: the recorder can be saved again.
        """
        table, halves = self.history(), self._gathered_halves()
        gathered = _gather(self._head_rows)
        check_names(table, ids, classes, self._classes)
        if _rank() > 0:
            return Run(Path(path))  # the first process writes it
        run = start_run(Path(path), self._config(name, int(table["epoch"].max())), resume=True)  # type: ignore[arg-type]
        history = _joined_history(table, halves)
        heads = [rows for part in gathered for rows in part]
        scores, probabilities = _score_table(history, halves, ids, heads)
        facts = _facts(scores, classes) | say_gaps(table, halves, self.examples, self.marked)
        facts |= {"no_head": self.heads.why} if self.heads is not None and self.heads.why else {}
        run.write_table("history", history.drop("given_label"))
        run.write_table("examples", scores.select("index", "id", "given_label").with_columns(split=_literal("train")))
        if probabilities is not None:
            run.write_table("unseen_probabilities", probabilities)
        run.write_table("scores", scores)
        run.write_json("summary.json", facts)
        return run

    def history(self) -> "pl.DataFrame":
        """A row per epoch and example: epoch, index, given_label, and the statistics of the forward that trained. Checked."""
        import polars as pl

        self._collect()
        parts = [part for parts in _gather(self._blocks) for part in parts]
        if not parts:
            raise UnseenError("Nothing was recorded. Call recorder.update(index, logits, labels) after each forward of training.")
        columns = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
        table = pl.DataFrame(columns).with_columns(pl.col("epoch").cast(pl.Int32), pl.col("given_label", "predicted").cast(pl.Int64))
        if any(_gather(self.marked)):
            table = table.unique(["epoch", "index"], keep="first", maintain_order=True)
        else:
            table = table.with_columns(epoch=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("index"))
        _check(table)
        return table.sort("epoch", "index")

    def state_dict(self) -> dict[str, Tensor]:
        """All that was recorded, as tensors, for a checkpoint; undone by ``load_state_dict``."""
        self._collect()
        state = {name: torch.cat([block[name] for block in self._blocks]) for name in self._blocks[0]} if self._blocks else {}
        halves = {f"halves.{number}.{name}": value for number, half in enumerate(self._halves) for name, value in half.items()}
        heads = {f"heads.{number}.{name}": value for number, row in enumerate(self._head_rows) for name, value in row.items()}
        return state | halves | heads | {"now": torch.tensor([self.epoch, int(self.marked)])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint: what was recorded since is forgotten, as training repeats it."""
        self.epoch, self.marked = int(state["now"][0]), bool(state["now"][1])
        self._waiting = []
        block = {name: value for name, value in state.items() if name != "now" and not name.startswith(("halves.", "heads."))}
        self._blocks = [block] if block else []
        self._halves, self._head_rows = _numbered(state, "halves."), _numbered(state, "heads.")
        if self.heads is not None:
            self.heads.parts = []

    @torch.no_grad()
    def _flush(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        batch = Batch(*(torch.cat([getattr(one, name) for one in waiting]) for name in ("index", "logits", "labels")))
        if not batch.logits.is_cpu:  # on the CPU each was looked at when it came
            try:
                refuse_values(batch, self.examples)
            except UnseenError:
                self._waiting = [one for one in waiting if is_good(one, self.examples)]
                raise
        index, logits, labels = batch.index, batch.logits, batch.labels
        block = {"index": index, "given_label": labels, "epoch": torch.full_like(index, self.epoch)}
        self._blocks.append(block | statistics(logits, labels))

    def _collect(self) -> None:
        """Bring what was recorded to the CPU: the one point of synchronisation."""
        self._flush()
        self._blocks = [{name: value.cpu() for name, value in block.items()} for block in self._blocks]

    def _gathered_halves(self) -> list[dict[str, Tensor]]:
        """Per measured epoch the halves of all processes, each example once, in the order of the index."""
        shares = [half for part in _gather(self._halves) for half in part]
        merged = []
        for epoch in sorted({int(half["epoch"]) for half in shares}):
            same = [half for half in shares if int(half["epoch"]) == epoch]
            whole = {name: torch.cat([half[name] for half in same]) for name in same[0] if name != "epoch"}
            first = torch.from_numpy(np.unique(whole["index"].numpy(), return_index=True)[1])
            merged.append({name: value[first] for name, value in whole.items()} | {"epoch": torch.tensor(epoch)})
        return merged

    def _config(self, name: str, epochs: int) -> Config:
        # the training was the user's, so `score` refuses to replay it
        return Config.of(data=name, model="recorded", epochs=epochs, estimator="recorder")


def _numbered(state: dict[str, Tensor], prefix: str) -> list[dict[str, Tensor]]:
    """Undo the names of ``state_dict``: ``<prefix><number>.<name>``."""
    found: list[dict[str, Tensor]] = []
    for key, value in state.items():
        if key.startswith(prefix):
            number, name = key.removeprefix(prefix).split(".", 1)
            found += [{} for _ in range(int(number) + 1 - len(found))]
            found[int(number)][name] = value
    return found


def _check(table: "pl.DataFrame") -> None:
    import polars as pl

    labels = table.group_by("index").agg(labels=pl.col("given_label").unique().sort()).sort("index")
    if len(two := labels.filter(pl.col("labels").list.len() > 1)):
        raise UnseenError(
            f"Example {two['index'][0]} came with the labels {two['labels'][0].to_list()[:3]}. The index must follow the example: take it "
            "from the data set (unseen.with_index), never from the place in a batch or a shuffled order."
        )


def _joined_history(table: "pl.DataFrame", halves: list[dict[str, Tensor]]) -> "pl.DataFrame":
    """The history in the names of a run: of the seen half where halves were measured, else of the full network."""
    import polars as pl

    side = "seen" if halves else "full"
    history = table.rename({name: f"{name}_{side}" for name in KEPT}).with_columns(seed=pl.lit(0, pl.Int64))
    if not halves:
        return history
    names = [f"{quantity}_{other}" for quantity in KEPT[:-1] for other in Side if other != side]
    parts = []
    for half in halves:
        columns = {"index": half["index"].numpy()} | {name: half[name].numpy() for name in names}
        parts.append(pl.DataFrame(columns).with_columns(epoch=pl.lit(int(half["epoch"]), pl.Int32)))
    return history.join(pl.concat(parts), on=["epoch", "index"], how="left", maintain_order="left").drop("predicted_seen")


def _score_table(
    history: "pl.DataFrame", halves: list[dict[str, Tensor]], ids: list[str] | None, heads: list[dict[str, Tensor]]
) -> "tuple[pl.DataFrame, pl.DataFrame | None]":
    import polars as pl

    table = history.group_by("index").agg(given_label=pl.col("given_label").first(), visits=pl.len()).sort("index")
    names = [f"example/{index}" if ids is None else ids[index] for index in table["index"]]
    table = table.with_columns(id=pl.Series(names), trained=pl.lit(True))
    if halves:
        final, classes = halves[-1], halves[-1]["probabilities"].shape[1]
        columns = {name: final[name].numpy() for name in final if name.startswith(("index", "loss_", "predicted_"))}
        columns |= {f"p_{c}": final["probabilities"][:, c].numpy() for c in range(classes)}
        table = table.join(final_scores([pl.DataFrame(columns)]), on="index", how="left", maintain_order="left")
    else:
        last = history.group_by("index").agg(pl.col("loss_full", "predicted_full").sort_by("epoch").last())
        table = table.join(last.with_columns(probability_full=(-pl.col("loss_full")).exp()), on="index", maintain_order="left")
    free = _free_scores(with_heads(history, heads), "seen" if halves else "full")
    table = table.drop("visits").join(free, on="index", how="left", maintain_order="left")
    front = ["index", "id", "trained", "given_label"]
    table = table.select(*front, pl.exclude(front))
    return _with_labels(table, halves[-1]) if halves else (table, None)


def _free_scores(history: "pl.DataFrame", side: str) -> "pl.DataFrame":
    """The free scores; of an example that an epoch left out, over the epochs that had it."""
    index, (epochs, parts) = np.unique(history["index"].to_numpy()), _by_epoch(history)
    measured = MeasuredEpochs(epochs)
    free = FreeScores({}, side)
    for epoch, part in zip(epochs, parts, strict=True):
        rows = np.searchsorted(index, part["index"].to_numpy())
        values = {
            name: np.full(len(index), np.nan, np.float32) for name in part.columns if name.endswith(tuple(Side)) or name.startswith("head_")
        }
        for name, column in values.items():
            column[rows] = part[name].to_numpy()
        free.add({name: torch.from_numpy(column) for name, column in values.items()}, measured.is_early(epoch), measured.is_later(epoch))
    return free_table(torch.from_numpy(index), [free.tensors], len(epochs))


def _by_epoch(history: "pl.DataFrame") -> "tuple[tuple[int, ...], list[pl.DataFrame]]":
    parts = history.sort("epoch").partition_by("epoch", maintain_order=True)
    return tuple(int(part["epoch"][0]) for part in parts), parts


def _with_labels(table: "pl.DataFrame", final: dict[str, Tensor]) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """Add cleanlab's columns; and the unseen half's probabilities as a table, of the examples that were measured."""
    import polars as pl

    there = np.isin(final["index"].numpy(), table["index"].to_numpy())
    index, probabilities = final["index"].numpy()[there], final["probabilities"].numpy()[there]
    labels = table.filter(pl.col("index").is_in(pl.Series(index).implode()))["given_label"].to_numpy()
    columns = {"index": index} | {f"p_{c}": probabilities[:, c] for c in range(probabilities.shape[1])}
    judged = {"label_score": probabilities[np.arange(len(labels)), labels], "is_label_issue": label_issues(probabilities, labels)}
    table = table.with_columns(predicted_label=pl.col("predicted_unseen"))
    return table.join(pl.DataFrame({"index": index} | judged), on="index", how="left", maintain_order="left"), pl.DataFrame(columns)


def _facts(scores: "pl.DataFrame", classes: list[str] | None) -> dict[str, Any]:
    import polars as pl

    facts: dict[str, Any] = {"estimator": "recorder", "examples": len(scores), "trained": len(scores), "null_examples": 0}
    facts |= {"discoveries_q10": None, "seed_correlation": None}
    if "memorization" in scores.columns:
        measured = scores.filter(pl.col("memorization").is_not_null())
        facts = (summarize(measured) if len(measured) else {}) | facts
    else:
        facts["accuracy_full"] = float((scores["predicted_full"] == scores["given_label"]).mean())  # type: ignore[arg-type]
    return facts | ({"classes": classes} if classes else {})


def _literal(value: str) -> "pl.Expr":
    import polars as pl

    return pl.lit(value)


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _gather(value: Any) -> list[Any]:
    """What each process has: a list with one entry where there is but one."""
    if not torch.distributed.is_initialized():
        return [value]
    parts = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, value)
    return parts
