"""How much memory a table would take, from its metadata, and how much there is: known before any is taken."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

GIB = 2**30
VIEW = 16
"""Bytes that Polars needs for a text (that of a category too, once it is looked up), and for where a list begins."""
WIDTHS = {"Int64": 8, "UInt64": 8, "Float64": 8, "Datetime": 8, "Duration": 8, "Time": 8, "Int32": 4, "UInt32": 4, "Float32": 4, "Date": 4}
WIDTHS |= {"Int16": 2, "UInt16": 2, "Int8": 1, "UInt8": 1, "Boolean": 1, "Null": 1}


def refuse_large(path: Path, shown: Path, columns: Sequence[str] | None = None, copies: int = 1) -> None:
    """Raise UnseenError where the rows of a Parquet file cannot fit into memory; only its metadata are read.

    Args:
        path: what to open.
        shown: how to call it.
        columns: those that would be read; default all.
        copies: how many of the numbers there will be at once.
    """
    import polars as pl

    table = pl.scan_parquet(path, glob=False)
    schema, rows = table.collect_schema(), int(table.select(pl.len()).collect().item())
    needed = copies * rows * sum(_width(kind) for name, kind in schema.items() if columns is None or name in columns)
    free = free_memory()
    if free is not None and needed > free:
        raise UnseenError(
            f"{shown} has {rows:,} rows, which take {needed / GIB:,.1f} GiB of memory at least, and {free / GIB:,.1f} GiB are free. "
            "Read a part of it, or write it again with fewer rows."
        )


def free_memory() -> int | None:
    """Bytes that this process may still take: the machine's, its container's, or its own limit, whichever is least; None if unknown."""
    known = [amount for amount in (_of_machine(), _of_container(), _of_limit()) if amount is not None]
    return max(0, min(known)) if known else None


def _width(kind: "pl.DataType") -> int:
    """Bytes that a row of a column takes at least."""
    if fields := getattr(kind, "fields", None):
        return sum(_width(field.dtype) for field in fields)  # of a structure
    if shape := getattr(kind, "shape", None):
        inner = kind
        for _ in shape:
            inner = getattr(inner, "inner", inner)
        return int(math.prod(shape)) * _width(inner)
    return WIDTHS.get(type(kind).__name__, VIEW)


def _of_machine() -> int | None:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _of_container(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What is left of a container's limit, the pages that the system can drop counted as free."""
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        limit, used = (int((folder / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        facts = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return limit - used + int(facts.get("inactive_file", 0))
    return None


def _of_limit() -> int | None:
    """What is left of ``ulimit -v``."""
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return limit - int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return None
