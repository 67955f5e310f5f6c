"""The page: tables, pictures, styles and script in one file that may fetch nothing."""

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.curate import find_oddities, find_witness
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.page.loading import load_examples
from unseen.page.looks import looks, nearest_of, plane
from unseen.page.media import media, wanted
from unseen.page.notebook import Page
from unseen.page.overview import headline, tiles, trust, what_was_run
from unseen.page.packing import pack
from unseen.page.related import related_facts
from unseen.page.tables import Points, page_data, read_points
from unseen.runs import Run, require_halves, writing_out
from unseen.scoring import noted_mark

if TYPE_CHECKING:
    import polars as pl

POINTS = 100_000
PICTURES = 4000
FEW, SOON = 2000, 20_000  # examples: see ``_is_quick``
SCRIPTS = (
    "data.js", "state.js", "decisions.js", "files.js", "draw.js", "scatter.js", "charts.js", "pairs.js",
    "media.js", "cards.js", "large.js", "pointer.js", "keys.js", "page.js", "bar.js",
)  # fmt: skip
STYLES = ("base.css", "work.css", "cards.css")


def report(
    run: Run,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    *,
    data: Any = None,
    points: int = POINTS,
    pictures: int = PICTURES,
) -> Page:
    """Write the page of a run and return its path, whose ``show()`` opens it, in a notebook below the cell.

    Args:
        run: finished, with an unseen side.
        data_dir: where mnist/, cifar10/ … lie.
        out: the file; default report.html in the run's folder.
        data: what the run was made of, where that was not a name or a path: then its pictures are shown. Or what to show of each example: a
            list of texts, or a Polars frame, a row per example in the order of the index.
        points: examples to hold at most. Of more, the page keeps every extreme and a sample of the rest, and says so.
        pictures: thumbnails (texts, rows) to hold at most: of the lists, of the extremes of every class, of related examples.

    The file is at most a few bytes per example and epoch: 3 MB for 60,000 images. It needs no network, and its content security policy
    allows none; what the data say (names of classes, ids, texts) is never read as HTML.

    Raises:
        UnseenError: where the run is not finished or has no unseen side, or ``points`` is below 100.
    """
    _check(run, points)
    examples, note = load_examples(run, data, data_dir)
    if examples is not None and _is_quick(run, examples):
        find_oddities(run, data_dir, data)
        find_witness(run, data_dir, data)  # so that its lists are those of `unseen suspects`
    chosen = read_points(run, points)
    arrays, facts = page_data(run, chosen)
    near = _placed(run, chosen, examples, pictures, arrays)
    facts |= {"run": _fingerprint(run), "data": noted_mark(run), "related": related_facts(run, chosen.scores["index"], near)}
    path = Path(out) if out else run.path / "report.html"
    facts["media"], arrays["picture"] = media(run, examples, data, chosen, pictures, facts["related"]["others"], path.parent)
    if facts["media"] is None and not note:
        note = "These inputs are neither pictures nor rows of a table. report(run, data=texts) shows a text per example."
    with writing_out(path) as temporary:
        temporary.write_text(render(run, chosen, pack(arrays, facts), note), encoding="utf-8")
    return Page(path)


def _check(run: Run, points: int) -> None:
    if not run.finished:
        raise UnseenError(f"{run.path} is not finished, so there is nothing to show. `unseen score … --resume` goes on with it.")
    require_halves(run)
    measured = run.scores.drop_nulls("memorization")
    if gaps := [name for name in ("predicted_seen", "predicted_unseen") if measured[name].null_count()]:
        raise UnseenError(f"{run.path / 'scores.parquet'}: its column {gaps[0]!r} has gaps, so there is no page. Score again with --force.")
    if points < 100:
        raise UnseenError(f"--points is {points}; it must be at least 100.")


def _is_quick(run: Run, examples: Examples) -> bool:
    """Whether duplicates, leaks and outliers are soon found: features are at hand, or these are few, or numbers. Those of texts are not."""
    return examples.texts is None and len(examples) <= (SOON if run.config.data.features or len(examples.shape) == 1 else FEW)


def _placed(run: Run, points: Points, examples: Examples | None, pictures: int, arrays: dict[str, Any]) -> "pl.DataFrame | None":
    """Add the places of the map by what the examples look like; returns the nearest of those that have cards."""
    try:
        rows = looks(run, examples) if examples is not None else None
    except UnseenError:  # weights of the features are gone: a page has a map of the predictions then
        rows = None
    if rows is None or examples is None:
        return None
    index, shown = examples.train.index.cpu().numpy(), points.scores["index"].to_numpy()
    order = np.argsort(index)
    places = order[np.searchsorted(index, shown, sorter=order).clip(max=len(order) - 1)]
    if (index[places] != shown).any():  # a recorder's order, or a part
        return None
    arrays["look_x"], arrays["look_y"] = plane(rows)[places].T
    return nearest_of(rows, index, shown[wanted(points, pictures)])


def render(run: Run, points: Points, packed: str, note: str) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader

    config, facts = run.config, run.summary
    environment = Environment(loader=PackageLoader("unseen.page", "assets"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    script, style = ("\n".join(asset(name) for name in names) for names in (SCRIPTS, STYLES))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.jinja").render(
        title=f"{Path(config.data.data).name} · {config.network.model}",
        policy=policy,
        script=script,
        style=style,
        packed=packed,
        note=note,
        what=what_was_run(config, facts),
        headline=headline(run),
        tiles=tiles(facts, len(points.listed["suspects"].index)),
        trust=trust(run, facts, points.scores, points.listed["suspects"]),
        shown=len(points.scores),
        total=points.total,
        settings={name: value for name, value in json.loads(json.dumps(run.read_json("config.json"))).items() if value is not None},
        folder=run.path.name,
    )


def asset(name: str) -> str:
    """A file of the page, as text."""
    return (resources.files("unseen.page") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _fingerprint(run: Run) -> str:
    """Under which name the browser keeps the decisions: the run's configuration, ids and data."""
    ids = "\n".join([*run.examples["id"].to_list(), noted_mark(run) or ""])
    return f"{run.config.digest()}-{hashlib.sha256(ids.encode()).hexdigest()[:8]}"
