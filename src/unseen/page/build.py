"""The page: tables, pictures, styles and script in one file that may fetch nothing."""

import base64
import hashlib
import json
import re
from importlib import resources
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from unseen.data import NAMES, Examples
from unseen.errors import UnseenError
from unseen.page.overview import tiles, trust, what_was_run
from unseen.page.packing import pack, smallest
from unseen.page.related import related_facts
from unseen.page.tables import Points, page_data, read_points
from unseen.page.thumbnails import is_images, rows, sheets
from unseen.runs import Run, require_halves, source_of, writing_out
from unseen.scoring import noted_mark, run_examples

POINTS = 100_000
PICTURES = 4000
SCRIPTS = ("data.js", "draw.js", "charts.js", "cards.js", "page.js")


def report(
    run: Run,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    *,
    data: Any = None,
    points: int = POINTS,
    pictures: int = PICTURES,
) -> Path:
    """Write the page of a run and return its path.

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
    chosen = read_points(run, points)
    examples, note = load_examples(run, data, data_dir)
    arrays, facts = page_data(run, chosen)
    facts |= {"run": _fingerprint(run), "data": noted_mark(run), "related": related_facts(run, chosen.scores["index"])}
    shown = wanted(chosen, pictures)
    source = source_of(run, NAMES) if data is None and examples is not None else data
    facts["media"], media_index = media(examples, source, chosen, shown, facts["related"]["others"])
    arrays["picture"] = media_index
    if facts["media"] is None and not note:
        note = "These inputs are neither pictures nor rows of a table. report(run, data=texts) shows a text per example."
    path = Path(out) if out else run.path / "report.html"
    with writing_out(path) as temporary:
        temporary.write_text(render(run, chosen, pack(arrays, facts), note), encoding="utf-8")
    return path


def _check(run: Run, points: int) -> None:
    if not run.finished:
        raise UnseenError(f"{run.path} is not finished, so there is nothing to show. `unseen score … --resume` goes on with it.")
    require_halves(run)
    if points < 100:
        raise UnseenError(f"--points is {points}; it must be at least 100.")


def load_examples(run: Run, data: Any = None, data_dir: str | Path | None = None) -> tuple[Examples | None, str]:
    """The run's examples, or None and what to do to see them."""
    if _shows_only(data):
        return None, ""
    noted_mark(run)  # a broken file is no reason to go on without
    try:
        return run_examples(run, data, data_dir=data_dir, as_scored=False)[1], ""
    except UnseenError as error:
        if data is not None:
            raise
        if re.fullmatch(r".+-[0-9a-f]{8}", run.config.data.data):  # how ``score`` names what came from Python
            return None, "No pictures: this run was made of data from Python. report(run, data=…) with the same data shows them."
        note = f"No pictures: the run's data could not be loaded ({error}). --data-dir says where they are; in Python, report(run, data=…)."
        return None, note


def _shows_only(data: Any) -> bool:
    """Whether data is something to show (texts, a frame) and not what a run is made of."""
    import polars as pl

    return isinstance(data, pl.DataFrame | list)


def wanted(points: Points, limit: int) -> list[int]:
    """Positions whose pictures the page holds, the most needed first: by turns from each list, both ends, and both ends of every class."""
    count = len(points.scores)
    labels = points.scores["given_label"].to_numpy()
    by_class = np.argsort(labels, kind="stable")  # most memorized first within a class
    runs = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)
    each = max(2, min(24, limit // (4 * len(runs))))
    ends = (places for run in runs for places in zip_longest(run[:each], run[::-1][:each]))
    turns = zip_longest(*(places.tolist() for places in points.lists.values()), range(count), range(count - 1, -1, -1))
    order = chain((place for pair in ends for place in pair), (place for turn in turns for place in turn))
    unique = dict.fromkeys(int(place) for place in order if place is not None)
    return list(unique)[:limit]


def media(
    examples: Examples | None, source: Any, points: Points, shown: list[int], others: list[list[Any]]
) -> tuple[dict[str, Any] | None, np.ndarray]:
    """Pictures, texts or rows of the shown examples and of those related to them; appends its number, or -1, to each of ``others``.

    Returns:
        What ``sheets`` or ``rows`` give, and per example 0 or 1 + its number there.
    """
    numbers = np.zeros(len(points.scores), np.int64)
    index = points.scores["index"].to_numpy()[shown].tolist()
    places = {value: number for number, value in enumerate(index)}
    for other in others[:PICTURES]:
        places.setdefault(other[0], len(places))
    found: dict[str, Any] | None = None
    if examples is not None and is_images(examples):
        positions = {value: position for position, value in enumerate(examples.index.tolist())}
        found = {"kind": "images"} | sheets(examples, [positions[value] for value in places])
    elif examples is not None and examples.texts is not None:
        texts = dict(zip(examples.index.tolist(), examples.texts, strict=True))
        found = {"kind": "rows"} | (rows([texts[value] for value in places], list(range(len(places)))) or {})
    else:
        told = rows(source, list(places), examples)
        found = {"kind": "rows"} | told if told else None
    if found:
        numbers[shown] = np.arange(1, len(shown) + 1)
    for other in others:
        other.append(places.get(other[0], -1) if found else -1)
    return found, smallest(numbers)


def render(run: Run, points: Points, packed: str, note: str) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader

    config, facts = run.config, run.summary
    environment = Environment(loader=PackageLoader("unseen.page", "assets"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    script, style = "\n".join(asset(name) for name in SCRIPTS), asset("page.css")
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
