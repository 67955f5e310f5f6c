"""Figures: made where matplotlib is installed, and written whole or not at all."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.errors import UnseenError, needs
from unseen.runs import writing_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
STYLE: Any = {
    "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 7, "legend.title_fontsize": 7, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.4,
}  # fmt: skip


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches. Raises UnseenError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise needs("plots", error) from error
    return Figure(figsize=(width, height), layout="constrained" if width < 10 else None)


@contextmanager
def style() -> Iterator[None]:
    """One look for all figures that are drawn inside. Raises UnseenError where matplotlib is not installed."""
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise needs("plots", error) from error
    with rc_context(STYLE):
        yield


def save_figure(figure: "Figure", path: Path, **options: Any) -> Path:
    """Write a figure whole or not at all, in the format that the path ends in, and return the path. Raises UnseenError for another."""
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UnseenError(f"The figure {path} ends in {path.suffix!r}. Allowed: {', '.join(f'.{name}' for name in FORMATS)}.")
    with writing_out(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names in letters that the font lacks are drawn as boxes
        figure.savefig(temporary, dpi=150, format=kind, **options)
    return path
