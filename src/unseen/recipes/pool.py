"""Pieces side by side: processes that train seeds of many runs on one device at once, until the minutes are over.

While one process reads data or writes tables, another has the graphics card. More than a few of them gain nothing there: their kernels
take turns (measured on an H200: 12 side by side, each about as slow as all of them one after the other). What an unfinished seed has is
kept after every epoch, and the next call goes on from there.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.pool import AsyncResult
from multiprocessing.pool import Pool as Processes
from pathlib import Path
from typing import Any

import torch

from unseen.errors import UnseenError
from unseen.recipes.pieces import Piece, in_order
from unseen.runs import Run
from unseen.scoring import begin, score, train_one

PAUSE = 0.05  # seconds between two looks at what is done


def train_pieces(
    pieces: Iterable[Piece], runs: Path, data_dir: Path | None, seconds: float, jobs: int, say: Callable[[str], None] = print
) -> list[Piece]:
    """Train the pieces that are missing, the first ones first.

    Args:
        pieces: in the order of their value.
        runs: folder of the runs of this scale.
        data_dir: see ``load``.
        seconds: after which everything is stopped.
        jobs: processes at once.
        say: told of each piece that is done or failed, in a line.

    Returns:
        The pieces that are finished.
    """
    started = time.monotonic()
    tracks = {track.folder: track for track in (_Track(piece, runs, data_dir) for piece in in_order(pieces))}
    if seconds <= 0 or all(track.is_over for track in tracks.values()):
        return [track.piece for track in tracks.values() if track.is_done]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as locks, context.Pool(jobs, torch.set_num_threads, (max(1, torch.get_num_threads() // jobs),)) as processes:
        while time.monotonic() < started + seconds and not all(track.is_over for track in tracks.values()):
            free = jobs - sum(len(track.running) for track in tracks.values())
            for track in tracks.values():
                track.look(locks)
                for task in track.tasks(tracks) if free > 0 else ():
                    track.start(processes, task)
                    free -= 1
                    if free <= 0:
                        break
                if track.news:
                    say(f"{time.monotonic() - started:6.1f} s  {track.news}")
                    track.news = ""
            time.sleep(PAUSE)
    return [track.piece for track in tracks.values() if track.is_done]


@dataclass
class _Track:
    """How far a piece is: nothing, begun, its seeds trained, its tables written; or failed."""

    piece: Piece
    runs: Path
    data_dir: Path | None
    running: dict[Any, "AsyncResult[Any]"] = field(default_factory=dict)
    seeds: list[int] | None = None
    stage: str = ""
    news: str = ""
    lock: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.folder = self.piece.folder(self.runs)
        self.stage = "done" if Run(self.folder).finished else "new"

    @property
    def is_done(self) -> bool:
        return self.stage == "done"

    @property
    def is_over(self) -> bool:
        return self.stage in ("done", "failed")

    def tasks(self, others: "dict[Path, _Track]") -> Iterator[Any]:
        """What can be started now."""
        before = others[self.piece.scores.folder(self.runs)] if self.piece.scores else None
        if not self.is_over and before is not None and before.stage == "failed":
            self.stage, self.news = "failed", f"{self.piece.name}: the scores it needs are not there"
        if self.is_over or (before is not None and not before.is_done):
            return
        if self.stage == "new" and not self.running:
            yield "begin"
        elif self.stage == "begun" and self.seeds:
            while self.seeds:
                yield self.seeds.pop(0)
        elif self.stage == "trained" and not self.running:
            yield "finish"

    def start(self, processes: Processes, task: Any) -> None:
        """Give a task to a process."""
        self.running[task] = processes.apply_async(_work, (self.piece, self.runs, self.data_dir, task))

    def look(self, locks: ExitStack) -> None:
        """Take what is done."""
        for task in [task for task, result in self.running.items() if result.ready()]:
            try:
                found = self.running.pop(task).get()
            except Exception as error:  # one piece that fails leaves the others
                what = str(error) if isinstance(error, UnseenError) else f"{type(error).__name__}: {error}"
                self.stage, self.news = "failed", f"{self.piece.name}: {what}"
                self.lock.close()
                continue
            if task == "begin":
                self.seeds, self.stage = found, "begun"
                self.lock.enter_context(Run(self.folder).alone())
                locks.push(self.lock)
            elif task == "finish":
                self.stage, self.news = "done", f"{self.piece.name}: done"
        if self.stage == "begun" and not self.seeds and not self.running:
            self.lock.close()
            self.stage = "trained"


def _work(piece: Piece, runs: Path, data_dir: Path | None, task: Any) -> Any:
    """In a process: begin a run, train one seed of it, or write its tables."""
    options, folder = piece.options(runs), piece.folder(runs)
    if task == "begin":
        return begin(piece.data, piece.model, folder, data_dir, options)
    if task == "finish":
        score(piece.data, piece.model, out=folder, data_dir=data_dir, resume=True, **options)
        return None
    return train_one(piece.data, piece.model, folder, data_dir, options, task)
