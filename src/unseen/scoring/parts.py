"""The files that the training of a seed leaves in a run's folder until the tables are made of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unseen.runs import Run
from unseen.scoring.estimators import Visit

if TYPE_CHECKING:
    import polars as pl
    from lightning_fabric import Fabric

Notes = dict[str, str]


@dataclass(frozen=True)
class SeedParts:
    """The parts of one seed.

    Attributes:
        run: where they are.
        seed: whose they are.
    """

    run: Run
    seed: int

    def write_history(self, epoch: int, number: int, table: "pl.DataFrame") -> None:
        """What an epoch measured of a shard."""
        self.run.write_table(f"parts/history-{self.seed}-{epoch:06d}-{number:05d}", table)

    def write_gradients(self, epoch: int, table: "pl.DataFrame") -> None:
        """Gradient statistics of an epoch."""
        self.run.write_table(f"parts/gradients-{self.seed}-{epoch:06d}", table)

    def write_final(self, number: int, table: "pl.DataFrame") -> None:
        """The last measurement of a shard."""
        self.run.write_table(self._final(number), table)

    def final(self, number: int) -> "pl.DataFrame":
        """The last measurement of a shard."""
        return self.run.table(self._final(number))

    def has_final(self, number: int) -> bool:
        """Whether a shard's last measurement is there."""
        return (self.run.path / f"{self._final(number)}.parquet").exists()

    def _final(self, number: int) -> str:
        return f"parts/final-{self.seed}-{number:05d}"

    def write_sums(self, number: int, sums: dict[str, Tensor], epoch: int) -> None:
        """The running sums of a shard after an epoch."""
        self.run.write_tensors(f"sums-{self.seed}-{number:05d}", sums, epoch=str(epoch))

    def sums(self, number: int) -> tuple[dict[str, Tensor], int]:
        """The running sums of a shard, and the epoch that they are of; 0 where there are none."""
        name = f"sums-{self.seed}-{number:05d}"
        if not (self.run.path / f"weights/{name}.safetensors").exists():
            return {}, 0
        sums, notes = self.run.read_tensors(name)
        return sums, int(notes["epoch"])

    def write_cost(self, seconds: dict[str, float]) -> None:
        """Seconds of the seed."""
        self.run.write_json(self._cost, seconds)

    def cost(self) -> dict[str, float]:
        """Seconds of the seed."""
        found: dict[str, float] = self.run.read_json(self._cost)
        return found

    def has_cost(self) -> bool:
        """Whether the seed is done: its seconds are written last."""
        return (self.run.path / self._cost).exists()

    @property
    def _cost(self) -> str:
        return f"parts/cost-{self.seed}.json"

    def forget(self, epoch: int) -> None:
        """Delete what was measured after an epoch."""
        for path in [*(self.run.path / "parts").glob(f"*-{self.seed}-*.parquet"), *(self.run.path / "weights").glob(f"sums-{self.seed}-*")]:
            kind, _, number, *_ = path.stem.split("-")
            if epoch == 0 or (kind != "sums" and kind != "final" and int(number) > epoch):
                path.unlink()


@dataclass(frozen=True)
class States:
    """The states that a seed's training can go on from.

    Where all processes hold the same, the first one keeps it in ``weights/seed-<seed>``. Where each has its own, each keeps two: the last
    that all of them have written, and the one after it, since a process can be killed while the others write.
    """

    parts: SeedParts
    fabric: "Fabric"
    shared: bool

    def save(self, visit: Visit, seconds: dict[str, float]) -> None:
        """Keep a visit's state; every process calls it."""
        notes = {"epoch": str(visit.epoch), "windows": str(visit.done), "seconds": json.dumps(seconds)}
        run, writer = self.parts.run, self.fabric.global_rank == 0
        if self.shared and writer:
            run.write_tensors(self._name, visit.state(), **notes)
        elif not self.shared:
            run.write_tensors(f"{self._name}-{visit.epoch:06d}", visit.state(), **notes)
        self.fabric.barrier()  # so that there is an epoch of which all processes have theirs
        if not self.shared:
            (run.path / f"weights/{self._name}-{visit.epoch - 1:06d}.safetensors").unlink(missing_ok=True)

    def last(self) -> tuple[dict[str, Tensor] | None, tuple[int, int], dict[str, float]]:
        """The last state that all processes have, its epoch and window, and the seconds until then; nothing where there is none."""
        name = self._name if self.shared else self._last_of_all()
        if not name or not (self.parts.run.path / f"weights/{name}.safetensors").exists():
            return None, (0, 0), {}
        state, notes = self.parts.run.read_tensors(name)
        return state, (int(notes["epoch"]), int(notes.get("windows", "0"))), json.loads(notes.get("seconds", "{}"))

    def _last_of_all(self) -> str:
        last = max((int(path.stem.rpartition("-")[2]) for path in self._own()), default=0)
        done: Any = self.fabric.all_gather(torch.tensor([last], device=self.fabric.device))
        return f"{self._name}-{int(done.min()):06d}" if int(done.min()) else ""

    def _own(self) -> Iterator[Any]:
        return (self.parts.run.path / "weights").glob(f"{self._name}-*.safetensors")

    @property
    def _name(self) -> str:
        if self.shared:
            return f"seed-{self.parts.seed}"
        return f"members-{self.parts.seed}-{self.fabric.global_rank}-of-{self.fabric.world_size}"
