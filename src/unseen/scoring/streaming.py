"""Score data that do not fit in memory: training, measuring and tables, shard by shard.

Memory holds one or two shards, the network, and of the whole: up to a million gaps of the noise floor, bins of ranks, a history of
``HISTORY_ROWS`` rows. What is kept of each example between two epochs, its running sums, lies on the disk.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples, Sharded, Shards, UpTo, count_of, find_shards, is_stream, scan, trained
from unseen.errors import UnseenError
from unseen.hashing import uniform
from unseen.masks import TurnOverNet
from unseen.runs import Run, shard_name, start_run
from unseen.scoring.estimators import (
    cost_name,
    final_shard_name,
    final_table,
    history_table,
    measure_size,
    new_net,
    sums_name,
    write_cost,
)
from unseen.scoring.inputs import add_noise, example_table, first_look, label_amount, settings_of
from unseen.scoring.loggers import log_history, make_loggers
from unseen.scoring.running import Measured, add_epoch, kth_smallest
from unseen.scoring.tables import write_tables
from unseen.torchrun import is_first
from unseen.training import Bar, Laps, checked_losses, first, get_state, holding, launch, load_state, make_optimizer, measure, take_steps

if TYPE_CHECKING:
    from lightning_fabric import Fabric

HISTORY_ROWS = 2_000_000
WHOLE = ("limit", "test_limit", "average", "save_every", "train_on", "watch", "gradients_every", "text")
"""Options that need all examples at once, or a pass of their own."""


@dataclass(frozen=True)
class Visit:
    """What ``visits`` yields: the epoch, how many of its ``of`` shards are done, and a state to resume from."""

    epoch: int
    done: int
    of: int
    state: dict[str, Tensor]


def is_sharded(data: Any, config: dict[str, Any]) -> bool:
    """Whether to score shard by shard: ``shards`` is set, or the data come in no other way."""
    return bool(config.get("shards")) or isinstance(data, Shards) or is_stream(data)


def score_shards(
    data: Any,
    model: str | nn.Module,
    out: str | Path | None,
    data_dir: str | Path | None,
    devices: int,
    resume: bool,
    force: bool,
    progress: bool,
    config: dict[str, Any],
    loggers: Sequence[Any] = (),
) -> Run:
    """As ``score``, for data in shards. Raises UnseenError as ``scan``, and for an option that needs the data whole."""
    settings = replace(settings_of(data, model, config | {"shards": True}), shards=True)
    _check(settings)
    if isinstance(data, str) and not force:  # nothing need be read to see that the run is there
        there = Run(Path(out) if out else settings.folder())
        if (there.path / "config.json").exists() and there.finished and there.config == settings:
            return there
    settings, sharded = prepare_shards(data, model, data_dir, settings)
    folder = Path(out) if out else settings.folder()
    logged = make_loggers(loggers, folder)
    run = first(partial(start_run, folder, settings, resume, force))
    if run.finished:
        return run
    with holding(run):
        first(partial(_write_examples, run, sharded))
        job = partial(train_all, run=run, config=settings, data=sharded, model=model, progress=progress)
        launch(job, devices, settings.precision)
        first(partial(write_tables, run, settings, sharded, model))
        if is_first():
            log_history(run, logged)
    return run


def _write_examples(run: Run, data: Sharded) -> None:
    for number in range(len(data.counts)):
        run.write_table(shard_name("examples", number), example_table(data[number]))


def prepare_shards(data: Any, model: str | nn.Module, data_dir: str | Path | None, config: Config) -> tuple[Config, Sharded]:
    """The configuration and the shards with their noise, after one pass over the data."""
    sharded = scan(find_shards(data, data_dir), config)
    if not isinstance(data, str):
        config = replace(config, data=f"{sharded.shards.name}-{zlib.crc32(repr((sharded.counts, sharded.prints)).encode()):08x}")
    amount = None
    if config.random_labels:
        count = count_of(label_amount(config), sum(len(index) for index in sharded.index(train_only=True)))
        amount = UpTo(kth_smallest(partial(_draws, sharded, config.seed, "pick", train_only=True), count) if count else -1.0)
    sharded = replace(sharded, change=partial(_changed, config, amount))
    sharded.last.clear()
    first_look(config, sharded[len(sharded.counts) - 1], model)  # fail before the folder is made
    return config, sharded


def _changed(config: Config, amount: UpTo | None, examples: Examples) -> Examples:
    examples = add_noise(examples, config, amount)
    return examples.joined() if config.join_test else examples


def _draws(data: Sharded, *purpose: int | str, train_only: bool = False) -> Iterator[Tensor]:
    return (uniform(index, *purpose) for index in data.index(train_only))


def _check(config: Config) -> None:
    standard = asdict(Config())
    wrong = [name for name in WHOLE if getattr(config, name) != standard[name]]
    if wrong:
        flag = wrong[0].replace("_", "-")
        raise UnseenError(f"--{flag} is {getattr(config, wrong[0])!r}, which needs the data whole in memory. With shards leave it out.")
    if config.estimator == "members":
        raise UnseenError("--estimator is 'members', which needs the data whole in memory. With shards use turnover or plain.")
    if config.label_noise == "asymmetric" and config.random_labels:
        raise UnseenError("--label-noise is 'asymmetric', which needs all labels at once. With shards use uniform or other.")


def train_all(fabric: "Fabric", run: Run, config: Config, data: Sharded, model: str | nn.Module, progress: bool) -> None:
    """Train and measure every seed; what is done already is passed over."""
    rows = HISTORY_ROWS // (len(Measured.of(config).epochs) * config.seeds)
    chosen = kth_smallest(partial(_draws, data, "history"), max(1000, rows))
    for seed in range(config.seed, config.seed + config.seeds):
        _train_seed(fabric, run, config, data, model, seed, chosen, progress)


def _train_seed(
    fabric: "Fabric", run: Run, config: Config, data: Sharded, model: str | nn.Module, seed: int, chosen: float, progress: bool
) -> None:
    net, measured = new_net(config, data[len(data.counts) - 1], model, seed), Measured.of(config)
    state, notes = _last_state(run, config, data, seed)
    writer, laps = fabric.global_rank == 0, Laps(fabric.device, json.loads(notes["seconds"]))
    epoch, done = int(notes["epoch"]), int(notes["shards"])
    for stale in (run.path / "weights").glob(f"sums-{seed}-*.safetensors") if state is None and writer else ():
        stale.unlink()
    fabric.barrier()
    if state is not None and epoch in measured.epochs and done == len(data.order(seed, epoch)):
        net.load_state_dict({name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")})
        _measure(fabric, run, config, data, net.to(fabric.device), seed, epoch, chosen)
    with Bar(config, sum(data.trains), seed, epoch, progress and writer) as bar:
        for visit in visits(net, data, config, seed, fabric, state, (epoch, done), bar.step):
            laps.lap("training")
            if writer:
                notes = {"epoch": str(visit.epoch), "shards": str(visit.done), "seconds": json.dumps(laps.seconds)}
                run.write_tensors(f"seed-{seed}", visit.state, **notes)
            fabric.barrier()
            if visit.done == visit.of and visit.epoch in measured.epochs:
                _measure(fabric, run, config, data, net, seed, visit.epoch, chosen)
            laps.lap("measuring")
    if not (run.path / cost_name(seed)).exists():
        first = data.order(seed, 1)[0]
        kept = trained(data[first].to(fabric.device), config)
        write_cost(fabric, run, config, kept, model, seed, laps, data.trains[first] / sum(data.trains))


def _last_state(run: Run, config: Config, data: Sharded, seed: int) -> tuple[dict[str, Tensor] | None, dict[str, str]]:
    """What training left, where the running sums of every shard are of that time too; else nothing, and the seed begins again."""
    nothing = {"epoch": "0", "shards": "0", "seconds": "{}"}
    if not (run.path / f"weights/seed-{seed}.safetensors").exists():
        return None, nothing
    state, notes = run.read_tensors(f"seed-{seed}")
    epoch, measured = int(notes["epoch"]), Measured.of(config).epochs
    allowed = {max((other for other in measured if other < epoch), default=0)}
    allowed |= {epoch} if epoch in measured and int(notes["shards"]) == len(data.order(seed, epoch)) else set()
    for number in range(len(data.counts)):
        summed = int(_sums(run, seed, number)[1]["epoch"])
        if summed not in allowed or (summed == config.epochs and not (run.path / final_shard_name(seed, number)).exists()):
            return None, nothing
    return state, notes


def visits(
    net: TurnOverNet,
    data: Sharded,
    config: Config,
    seed: int,
    fabric: "Fabric",
    state: dict[str, Tensor] | None = None,
    done: tuple[int, int] = (0, 0),
    progress: Any = None,
) -> Iterator[Visit]:
    """Train, and yield after every shard. Each epoch has its own order of the shards, and each shard its own of its examples.

    Args: as ``train``; done: the epoch and the number of its shards that ``state`` is of. With one shard the same as ``train``, to the bit.
    """
    optimizer: Any = make_optimizer(net, config)
    if state is not None:
        load_state(net, optimizer, state)
    model, optimizer = fabric.setup(net, optimizer)
    steps = [-(-count // config.batch_size) for count in data.trains]
    for epoch in range(max(done[0], 1), config.epochs + 1):
        order = data.order(seed, epoch)
        before = 0
        for place, number in enumerate(order, 1):
            if (epoch, place) > done:
                kept = trained(data[number].to(fabric.device), config)
                losses = take_steps(model, optimizer, kept, config, seed, epoch, (before, sum(steps)), fabric, progress)
                checked_losses(losses, fabric, f"epoch {epoch}, {data.shards.label(number)}", config)
                yield Visit(epoch, place, len(order), get_state(net, optimizer))
            before += steps[number]


def _measure(fabric: "Fabric", run: Run, config: Config, data: Sharded, net: TurnOverNet, seed: int, epoch: int, chosen: float) -> None:
    """Measure every shard that is not: add to its running sums and to the history; at the last epoch keep the measurement too."""
    for number in range(len(data.counts)):
        sums, notes = _sums(run, seed, number)
        if int(notes["epoch"]) == epoch:
            continue
        examples, last = data[number].to(fabric.device), epoch == config.epochs
        found = measure(net, examples, fabric, measure_size(config), probabilities=last)
        if fabric.global_rank > 0:
            continue
        table = history_table(examples.index, found, seed, epoch)
        some = (uniform(examples.index.cpu(), "history") <= chosen).numpy()
        if some.any():
            run.write_table(f"parts/history-{seed}-{epoch:06d}-{number:05d}", table.filter(some))
        if last:
            run.write_table(final_shard_name(seed, number).removesuffix(".parquet"), final_table(examples.index, found))
        sums = add_epoch(sums if epoch > Measured.of(config).epochs[0] else {}, found, epoch, Measured.of(config))
        run.write_tensors(sums_name(seed, number), sums, epoch=str(epoch))
    fabric.barrier()


def _sums(run: Run, seed: int, number: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not (run.path / f"weights/{sums_name(seed, number)}.safetensors").exists():
        return {}, {"epoch": "0"}
    return run.read_tensors(sums_name(seed, number))
