"""A run is a folder: configuration, tables, weights. Files appear whole or not at all, and are never edited."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unseen.config import Config
from unseen.errors import UnseenError
from unseen.runs.columns import describe
from unseen.runs.files import clear_leftovers, clear_leftovers_below, is_leftover, locked, read_regular, regular, whole
from unseen.runs.marks import NAME, new_origin
from unseen.runs.memory import refuse_large
from unseen.runs.schema import json_fault, largest_json, table_fault, tensors_fault, what_writes

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor


MOST_ROWS = 2_000_000
SHARDED = ("examples", "scores", "unseen_probabilities")
FOLDERS = ("parts", "weights", *SHARDED)
"""Folders that a run may have."""
PATIENCE = 2.0  # seconds that a command which writes one file waits for another that does
_HELD: set[Path] = set()
"""The runs whose lock this process has, or the process that it works for: what it writes needs no other."""


@dataclass(frozen=True)
class Run:
    """A run folder, and the ways to read and write it. What it holds is read on use; ``probabilities()`` gives a NumPy array.

    Attributes:
        path: the folder.
        config: the resolved configuration.
        summary: what the run says of itself, such as accuracies.
        scores: a Polars frame, a row per training example.
        history: a Polars frame, a row per seed, epoch and example.
        examples: a Polars frame, a row per example, train and test.
    """

    path: Path
    trusted: bool = False  # whether the user knows where the run comes from, so that paths in it may lead out of its folder
    in_notebooks: ClassVar["Callable[[Run], str] | None"] = None  # what shows it as HTML; whoever can, sets it

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a text is taken too

    @property
    def config(self) -> Config:
        """The resolved configuration. Raises UnseenError where the folder holds no run, or a foreign one."""
        values = self.read_json("config.json")
        read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return Config.of(**read)

    @property
    def scores(self) -> "pl.DataFrame":
        """One row per training example; see ``columns.py``."""
        return self.table("scores")

    @property
    def history(self) -> "pl.DataFrame":
        """One row per seed, epoch and example: loss, margin and correctness of the halves."""
        return self.table("history")

    @property
    def examples(self) -> "pl.DataFrame":
        """One row per example, train and test: index, id, split, given and true label."""
        return self.table("examples")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, …; their numbers where the run keeps no names."""
        names = self.summary.get("classes")
        return tuple(names) if names else tuple(str(label) for label in range(self.probabilities().shape[1]))

    @property
    def summary(self) -> Any:
        """What the run says of itself: accuracies, AUROC, seed correlation, noise floor."""
        return self.read_json("summary.json")

    @property
    def finished(self) -> bool:
        """Whether all tables of the scores are there; the summary is written last."""
        return (self.path / "summary.json").exists()

    def probabilities(self) -> Any:
        """Out-of-sample class probabilities of the training examples: float32 array (examples, classes)."""
        return self.table("unseen_probabilities").drop("index").to_numpy()

    def table(self, name: str) -> "pl.DataFrame":
        """Read NAME.parquet, or all shards of it. Raises UnseenError: missing, no Parquet file, or more than ``MOST_ROWS`` in shards."""
        import polars as pl

        frames: list[pl.DataFrame] = []
        for piece in self.pieces(name):
            frames.append(piece)
            if len(frames) > 1 and sum(map(len, frames)) > MOST_ROWS:
                raise UnseenError(
                    f"{self.path / name} has more than {MOST_ROWS:,} rows in shards, and this needs them in memory at once. `unseen show` "
                    "reads shard by shard; in Python run.scan(name) and run.pieces(name) do. Or score a part of the files."
                )
        return pl.concat(frames)

    def pieces(self, name: str, columns: Sequence[str] | None = None) -> "Iterator[pl.DataFrame]":
        """Read a table shard by shard: NAME/00000.parquet, NAME/00001.parquet, …; a table in one file comes as one. Errors as ``table``."""
        import polars as pl

        for path in self.files(name):
            try:
                with regular(path) as opened:
                    refuse_large(opened, path, columns)
                    frame = pl.read_parquet(opened, columns=None if columns is None else list(columns), glob=False)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise UnseenError(f"{path} cannot be read as Parquet ({error}). Delete it, and run what writes it again.") from error
            if columns is None and (fault := table_fault(name, frame, self._class_count(), is_shard=path.parent != self.path)):
                raise UnseenError(f"{path} is not a table of unseen: {fault}. Delete it and run the command that writes it again.")
            yield frame

    def _class_count(self) -> int | None:
        return len(names) if self.finished and (names := self.summary.get("classes")) else None

    def scan(self, name: str) -> "pl.LazyFrame":
        """The table as a lazy Polars frame, for queries that need not fit in memory: ``run.scan("scores").filter(…).collect()``."""
        import polars as pl

        return pl.scan_parquet(self.files(name), glob=False)

    def columns(self, name: str) -> list[str]:
        """The names of a table's columns."""
        return next(self.pieces(name)).columns

    def files(self, name: str) -> list[Path]:
        """The file of a table, or those of its shards. Raises UnseenError where there is none, or a shard is missing."""
        self._refuse_links(name.partition("/")[0])
        path = self.path / f"{name}.parquet"
        if path.exists() or path.is_symlink():
            return [path]
        found = sorted((self.path / name).glob("[0-9]*.parquet"))
        if not found:
            raise UnseenError(f"{path} is not there. {what_writes(name)}")
        count = self.summary.get("shards", len(found)) if self.finished else len(found)
        wanted = [self.path / f"{shard_name(name, number)}.parquet" for number in range(count)]
        if missing := [file for file in wanted if not file.exists()]:
            raise UnseenError(f"{missing[0]} is not there, one of {count} shards. Restore it, or start the run again with --force.")
        return wanted

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run. Raises UnseenError where it is missing or broken."""
        path = self.path / name
        try:
            value = json.loads(read_regular(path, largest_json(name)).decode("utf-8"))
        except FileNotFoundError as error:
            raise UnseenError(f"{path} is not there. {what_writes(name)}") from error
        except (ValueError, RecursionError, OSError) as error:
            raise UnseenError(f"{path} is not JSON ({error}). Restore it, or start the run again with --force.") from error
        if fault := json_fault(name, value):
            what = "a configuration" if name == "config.json" else "a file"
            raise UnseenError(f"{path} is not {what} of this version of unseen: {fault}. Restore it, or start the run again with --force.")
        return value

    def write_json(self, name: str, value: Any, indent: int | None = 1) -> None:
        """Write a JSON file whole or not at all. indent: None for one line, which large files are written ten times faster in."""
        with self.writing(name) as path:
            path.write_text(json.dumps(value, indent=indent, sort_keys=True) + "\n", encoding="utf-8")

    def write_table(self, name: str, frame: "pl.DataFrame", **notes: str) -> None:
        """Write NAME.parquet with the meaning of each column, and the notes, in its metadata."""
        from unseen import __version__

        with self.writing(f"{name}.parquet") as path:
            frame.write_parquet(path, metadata=describe(frame.columns) | {"unseen_version": __version__} | notes)

    def write_tensors(self, name: str, tensors: "dict[str, Tensor]", **notes: str) -> None:
        """Write a safetensors file under weights/."""
        from safetensors.torch import save

        with self.writing(f"weights/{name}.safetensors") as path:
            path.write_bytes(save({key: value.contiguous() for key, value in tensors.items()}, metadata=notes))

    def read_tensors(self, name: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
        """Tensors and notes of a file under weights/. Raises UnseenError where it is missing or broken."""
        from safetensors import SafetensorError, safe_open

        path = self.path / "weights" / f"{name}.safetensors"
        self._refuse_links("weights")
        if not path.exists():
            raise UnseenError(f"{path} is not there. {what_writes(name)}")
        try:
            with regular(path) as opened, safe_open(opened, framework="pt") as file:
                tensors, notes = {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118, not a dict
        except (SafetensorError, OSError) as error:
            raise UnseenError(f"{path} is not a safetensors file ({error}). Delete it; training starts again.") from error
        if fault := tensors_fault(name, tensors, notes):
            raise UnseenError(f"{path} is not of a run of unseen: {fault}. Delete it; training starts again.")
        return tensors, notes

    def read_like(self, name: str, like: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], dict[str, str]]":
        """``read_tensors``, of a file that must have tensors of these names and shapes, and may have others beside them."""
        tensors, notes = self.read_tensors(name)
        for key, value in like.items():
            if key not in tensors or tensors[key].shape != value.shape:
                found = f"has shape {tuple(tensors[key].shape)}" if key in tensors else "is not there"
                place = self.path / "weights" / f"{name}.safetensors"
                raise UnseenError(f"{place} is of another network: its {key!r} {found}. Delete it; training starts again.")
        return tensors, notes

    def clear(self) -> None:
        """Delete what a run has written here, and nothing else. Raises UnseenError where the configuration is not a run's."""
        _ = self.config
        self._refuse_links("parts", "weights", *SHARDED)
        for folder, pattern in (
            (".", "*.parquet"),
            ("parts", "*.parquet"),
            ("parts", "*.json"),
            *((name, "[0-9]*.parquet") for name in SHARDED),
            ("weights", "*.safetensors"),
            (".", "*.json"),
            (".", "report.html"),
            (".", "keep.txt"),
        ):
            for path in (self.path / folder).glob(pattern):
                path.unlink()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path that becomes ``name`` at the end. A full disk or a read-only folder is an UnseenError."""
        self._refuse_links(*(str(parent) for parent in Path(name).parents))
        is_run = (self.path / "config.json").exists()  # else a folder of the user's, where no lock is left
        alone = self.alone(PATIENCE) if is_run and self.path.resolve() not in _HELD else nullcontext()
        with alone, whole(self.path / name, clear=not is_run) as temporary:
            yield temporary

    @contextmanager
    def alone(self, patience: float = 0.0) -> Iterator[None]:
        """Keep other processes from writing the run; the system lets go of it with the process. Raises UnseenError where one does.

        All that is written into a run is written so: ``writing`` takes the lock where it is not held. What killed writers left is cleared.

        Args:
            patience: seconds to wait for another to be done.
        """
        if os.name == "nt":
            yield
            return
        self._refuse_links("parts", "weights")
        with locked(self.path / ".lock", patience):
            clear_leftovers(self.path)
            for name in FOLDERS:
                clear_leftovers_below(self.path / name)
            with self.held():
                yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Say that another process has the lock for this one, as the first of ``torchrun``'s has it for all."""
        where = self.path.resolve()
        new = where not in _HELD
        _HELD.add(where)
        try:
            yield
        finally:
            if new:
                _HELD.discard(where)

    def __getstate__(self) -> dict[str, Any]:
        """A run that is sent to another process goes with the lock: its sender has it for both."""
        return self.__dict__ | {"held_by": os.getpid() if self.path.resolve() in _HELD else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See ``__getstate__``."""
        if state.pop("held_by") not in (None, os.getpid()):
            _HELD.add(state["path"].resolve())
        self.__dict__.update(state)

    def remove_parts(self) -> None:
        """Delete what the tables were joined from, once they are there; what cannot be deleted stays."""
        self._refuse_links("parts")
        with suppress(OSError):
            for part in (self.path / "parts").iterdir():
                part.unlink(missing_ok=True)
            (self.path / "parts").rmdir()

    def _refuse_links(self, *folders: str) -> None:
        """Nothing is written or deleted through a link inside the folder: a stranger's run must not reach outside."""
        for folder in folders:
            if folder != "." and (self.path / folder).is_symlink():
                raise UnseenError(f"{self.path / folder} is a link, which a run never holds. Put the folder itself there, or take it out.")

    def _repr_html_(self) -> str | None:
        return None if Run.in_notebooks is None else Run.in_notebooks(self)


def shard_name(table: str, number: int) -> str:
    """Name of a shard of a table, for ``write_table``."""
    return f"{table}/{number:05d}"


def open_run(path: str | Path, trust_paths: bool = False) -> Run:
    """Open a run folder for reading.

    Args:
        path: the folder.
        trust_paths: whether paths in a stranger's run may lead out of its folder; see ``origin.source_of``.

    Raises:
        UnseenError: where there is no run.
    """
    run = Run(Path(path), trust_paths)
    if not (run.path / "config.json").exists():
        raise UnseenError(f"{run.path} is not a run: it has no config.json. `unseen runs` lists the runs below ./runs.")
    return run


def start_run(path: Path, config: Config, resume: bool = False, force: bool = False) -> Run:
    """Make the folder of a run, or find it.

    Raises:
        UnseenError: a run of another configuration is there; an unfinished one is there and ``resume`` is not given.
    """
    run = Run(path)
    replaced = force and (path / "config.json").exists()
    if replaced:
        _ = run.config  # a foreign folder is left as it is, without a lock
        with run.alone():
            run.clear()
    if not (path / "config.json").exists():
        if path.is_dir() and not replaced and any(not is_leftover(entry.name) for entry in path.iterdir()):
            raise UnseenError(f"{path} holds other files. Choose an empty folder, or one that is not there yet.")
        with run.alone():
            if not (path / "config.json").exists():  # else another process was faster
                run.write_json("config.json", config.flat())
                if origin := new_origin(run.read_json("config.json")):
                    run.write_json(NAME, origin)
                return run
    difference = _difference(run.config, config)
    if difference:
        raise UnseenError(f"{path} holds a run of another configuration ({difference}). Choose another --out, or --force to replace it.")
    if not run.finished and not resume:
        raise UnseenError(f"{path} holds an unfinished run of this configuration. Add --resume to go on, or --force to start again.")
    return run


def _difference(old: Config, new: Config) -> str:
    before, after = old.flat(), new.flat()
    return ", ".join(f"{name}: {before[name]!r} there, {after[name]!r} asked" for name in before if before[name] != after[name])
