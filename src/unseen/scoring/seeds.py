"""Train the seeds of a run, by any estimator and over any number of shards, and leave their parts; resume where a process was stopped."""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples, Sharded
from unseen.gradients import coming_steps, gradient_rows, gradient_table
from unseen.hashing import uniform
from unseen.masks import Side
from unseen.runs import Run
from unseen.scoring.estimators import Job, Observed, Visit, estimator_of
from unseen.scoring.free import SUMS, FreeScores, MeasuredEpochs
from unseen.scoring.parts import SeedParts, States
from unseen.scoring.ranks import kth_smallest
from unseen.training import HEAD_SCORES, Bar, Laps, new_network, plain_seconds

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric

HISTORY_ROWS = 2_000_000  # of data in shards; those in memory have all of theirs
HISTORY = [f"{quantity}_{side}" for quantity in ("loss", "margin", "correct", "error_norm", "probability") for side in Side]
FINAL = [f"{quantity}_{side}" for quantity in ("loss", "probability", "predicted") for side in Side]
FINAL += ["memorization_se", "half_width", "memorization_rank"]


def train_seeds(fabric: "Fabric", run: Run, config: Config, data: Sharded, model: str | nn.Module, progress: bool) -> None:
    """Train and measure every seed that is not done; in each process."""
    data = data.to(fabric.device)
    chosen = 1.0 if data.is_whole else _history_draw(config, data)
    for seed in range(config.seed, config.seed + config.seeds):
        if not SeedParts(run, seed).has_cost():
            _Seed(Job(fabric, config, data, model, seed), run, chosen).train(progress)


def train_seed(fabric: "Fabric", run: Run, config: Config, data: Sharded, model: str | nn.Module, seed: int) -> None:
    """Train and measure one seed, of data in memory."""
    _Seed(Job(fabric, config, data.to(fabric.device), model, seed), run, 1.0).train(False)


def _history_draw(config: Config, data: Sharded) -> float:
    """Examples with uniform(index, "history") up to this have a history."""
    rows = HISTORY_ROWS // (len(MeasuredEpochs.of(config).epochs) * config.seeds)
    return kth_smallest(partial(data.draws, "history"), max(1000, rows))


class _Seed:
    """One seed's training."""

    def __init__(self, job: Job, run: Run, chosen: float) -> None:
        self.job, self.run, self.chosen = job, run, chosen
        self.parts, self.estimator = SeedParts(run, job.seed), estimator_of(job.config)(job)
        self.measured = MeasuredEpochs.of(job.config)
        self.states = States(self.parts, job.fabric, self.estimator.shares_state)
        self.is_writer = job.fabric.global_rank == 0

    def train(self, progress: bool) -> None:
        """All epochs that are missing, and what is left to measure of the last one."""
        job, fabric = self.job, self.job.fabric
        state, done, seconds = self._where_to_go_on()
        laps, name = Laps(fabric.device, seconds), f"seed {job.seed}" if job.config.seeds > 1 else "training"
        total = sum(job.data.trains)
        with Bar(name, total * job.config.training.epochs, total * max(0, done[0] - 1), progress and self.is_writer) as bar:
            for visit in self.estimator.train(state, done, bar.step):
                laps.lap("training")
                if (visit.epoch, visit.done) != done:
                    self.states.save(visit, laps.seconds)
                if visit.ends_epoch:
                    self._after_epoch(visit, bar)
                laps.lap("measuring")
        self._keep_weights()
        laps.lap("measuring")
        self._write_cost(laps)
        fabric.barrier()

    def _where_to_go_on(self) -> tuple[dict[str, Tensor] | None, tuple[int, int], dict[str, float]]:
        """The last state, where the running sums of every shard are of that time too; otherwise nothing, and the seed begins again."""
        found = self.states.last()
        if found[0] is None or not self._sums_fit(found[1]):
            found = (None, (0, 0), {})
        self.job.fabric.barrier()  # all have looked before anything is deleted
        if self.is_writer:
            self.parts.forget(found[1][0])
        self.job.fabric.barrier()
        return found

    def _sums_fit(self, done: tuple[int, int]) -> bool:
        """Whether each shard's sums are of the measurement before this epoch, or of this one."""
        epoch, last = done[0], self.job.config.training.epochs
        allowed = {max((other for other in self.measured.epochs if other < epoch), default=0), epoch}
        for number in range(len(self.job.data)):
            sums, summed = self.parts.sums(number)
            if summed not in allowed or (summed and not sums.keys() >= set(SUMS)) or (summed == last and not self.parts.has_final(number)):
                return False
        return True

    def _after_epoch(self, visit: Visit, bar: Bar) -> None:
        config, epoch = self.job.config, visit.epoch
        if epoch in self.measured.epochs:
            numbers = [number for number in self._measured_here() if self.parts.sums(number)[1] != epoch]
            for number, examples in zip(numbers, self.job.data.walk(numbers), strict=True):
                self._measure(number, examples.to(self.job.fabric.device), epoch, bar)
        self.job.fabric.barrier()
        if not self.is_writer:
            return
        if config.measuring.gradients_every and epoch % config.measuring.gradients_every == 0:
            self._write_gradients(epoch)
        if config.training.save_every and epoch % config.training.save_every == 0:
            weights = {name: value for name, value in visit.state().items() if name.startswith("net.")}
            self.run.write_tensors(f"seed-{self.job.seed}-epoch-{epoch:06d}", weights, epoch=str(epoch))

    def _measured_here(self) -> range:
        """The shards that this process measures, alone or with the others."""
        everyone, fabric = range(len(self.job.data)), self.job.fabric
        return everyone[fabric.global_rank :: fabric.world_size] if self.estimator.measures_apart else everyone

    def _measure(self, number: int, examples: Examples, epoch: int, bar: Bar) -> None:
        """A shard's history and, at the end, its last measurement; its running sums last, which mark it as measured."""
        last = epoch == self.job.config.training.epochs
        observed = self.estimator.observe(examples, last)
        bar.accuracies(observed.values)
        final = self.estimator.finish(examples, observed) if last else {}
        if not (self.is_writer or self.estimator.measures_apart):
            return
        table = history_table(observed, self.job.seed, epoch)
        some = (uniform(observed.index.cpu(), "history") <= self.chosen).numpy()
        if some.any():
            self.parts.write_history(epoch, number, table.filter(some))
        if last:
            self.parts.write_final(number, final_table(examples.index, final))
        before, _ = self.parts.sums(number)
        sums = FreeScores(before, "seen" if self.estimator.has_halves else "full")
        sums.add(observed.values, self.measured.is_early(epoch), self.measured.is_later(epoch))
        self.parts.write_sums(number, sums.tensors | {"index": observed.index.cpu()}, epoch)

    def _write_gradients(self, epoch: int) -> None:
        job, config = self.job, self.job.config
        examples, null = job.data[0], (config.noise.null_fraction, config.seed)
        watched = self.run.table("subsets").group_by("subset", maintain_order=True)
        subsets = {str(name): rows["index"].to_list() for (name,), rows in watched}
        steps = coming_steps(examples.train, config.training.batch_size, job.seed, epoch, null)
        rows = gradient_rows(self.estimator.gradient_network(), examples, subsets, steps, config.measuring.gradient_examples, job.seed)
        self.parts.write_gradients(epoch, gradient_table([{"seed": job.seed, "epoch": epoch} | row for row in rows]))

    def _keep_weights(self) -> None:
        weights = self.estimator.weights()
        if weights is not None and self.is_writer:
            self.run.write_tensors(f"seed-{self.job.seed}", weights, epoch=str(self.job.config.training.epochs))

    def _write_cost(self, laps: Laps) -> None:
        """Seconds of this seed, of the first process, and those of a plain run, timed now on a network without masks."""
        job, config = self.job, self.job.config
        number = job.data.windows(job.seed, 1, config.data.shuffle_buffer)[0][0]
        kept = job.trained(job.data[number].to(job.fabric.device))
        bare = new_network(config.network, kept, job.seed, job.own_model)
        plain = plain_seconds(bare, kept, config.training, config.seed, job.fabric) * sum(job.data.trains) / job.data.trains[number]
        if self.is_writer:
            self.parts.write_cost({f"{name}_seconds": value for name, value in laps.seconds.items()} | {"plain_seconds": plain})


def history_table(observed: Observed, seed: int, epoch: int) -> "pl.DataFrame":
    """seed, epoch, index, and what an epoch measured of each side."""
    import polars as pl

    count = len(observed.index)
    columns = {"seed": pl.Series([seed] * count, dtype=pl.Int64), "epoch": pl.Series([epoch] * count, dtype=pl.Int32)}
    table = pl.DataFrame(columns | {"index": observed.index.cpu().numpy()} | _chosen(observed.values, HISTORY))
    return table.with_columns(pl.col([name for name in HEAD_SCORES if name in table.columns]).fill_nan(None))


def final_table(index: Tensor, measured: dict[str, Tensor]) -> "pl.DataFrame":
    """index, losses, predictions and, where there are any, the unseen half's probabilities, of a last measurement."""
    import polars as pl

    final: dict[str, Any] = {"index": index.cpu().numpy()} | _chosen(measured, FINAL)
    columns = measured["probabilities"].unbind(1) if "probabilities" in measured else ()
    return pl.DataFrame(final | {f"p_{c}": column.numpy() for c, column in enumerate(columns)})


def _chosen(measured: dict[str, Tensor], names: list[str]) -> dict[str, Any]:
    return {name: measured[name].numpy() for name in names if name in measured}
