"""Named subsets of the examples: easy and difficult, right and wrong labels, classes, any column, any list of index.

A subset is written ``[NAME=][test/]KIND[:ARGUMENT]``:

- ``easy:0.2``, ``difficult:0.2``: the fifth with the lowest, the highest memorization; a number of 1 or more is a count;
- ``low:COLUMN:0.2``, ``high:COLUMN:100``: the same by any numeric column of the scores;
- ``right``, ``wrong``: labels that are, that are not what they were before corruption (real and random labels);
- ``class:cat``, or ``COLUMN:VALUE`` for any other column;
- ``index:3,17,99``, or ``index:@FILE`` with an index or id per line;
- ``all``.

``test/`` chooses among the test examples; without it, among the training examples (held ones too).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unseen.errors import UnseenError

if TYPE_CHECKING:
    import polars as pl

RANKED = {"easy": ("memorization", False), "difficult": ("memorization", True)}
KINDS = "easy:0.2, difficult:0.2, low:COLUMN:0.2, high:COLUMN:0.2, right, wrong, class:NAME, COLUMN:VALUE, index:3,17,99, index:@FILE, all"


@dataclass(frozen=True)
class Spec:
    """A subset as written. name: what to call it; split: train or test; kind and arguments as above."""

    name: str
    split: str
    kind: str
    arguments: tuple[str, ...]


def parse(text: str) -> Spec:
    """Read one subset. Raises UnseenError where it is not one.

    >>> parse("hard=test/high:aum:100")
    Spec(name='hard', split='test', kind='high', arguments=('aum', '100'))
    >>> parse("difficult:0.2").name
    'difficult'
    """
    match = re.fullmatch(r"(?:([\w .-]+)=)?(?:(train|test)/)?([^:/=]+)(?::(.*))?", text.strip())
    if not match:
        raise UnseenError(f"{text!r} does not name a subset. Write [NAME=][test/]KIND, where KIND is one of {KINDS}.")
    name, split, kind, rest = match.groups()
    arguments = () if rest is None else (rest,) if kind == "index" else tuple(rest.split(":"))
    plain = {"class": rest, "index": "index"}.get(kind) or (f"{kind} {rest}" if kind in ("low", "high") else kind)
    return Spec(name or (f"test {plain}" if split == "test" else plain), split or "train", kind, arguments)


def find_subsets(
    texts: Sequence[str], examples: "pl.DataFrame", scores: "pl.DataFrame | None", classes: Sequence[str]
) -> dict[str, list[int]]:
    """The index of the members of each subset, by name.

    Args:
        texts: subsets as written.
        examples: columns index, id, split, given_label and, where known, true_label.
        scores: a row per example with memorization and other columns; needed for what is ranked.
        classes: names of the labels.

    Raises:
        UnseenError: a subset that is empty, two that overlap (``all`` may), two of one name, scores that are missing.
    """
    table = examples if scores is None else _joined(examples, scores)
    specs = [parse(text) for text in texts]
    found: dict[str, list[int]] = {}
    for spec in specs:
        if spec.name in found:
            raise UnseenError(f"Two subsets are called {spec.name!r}. Name them apart: hard={texts[0]}.")
        found[spec.name] = _members(spec, table, scores is not None, classes)
        if not found[spec.name]:
            raise UnseenError(f"The subset {spec.name!r} is empty: no {spec.split} example fits. {_hint(spec, table, classes)}")
    _check_apart({spec.name: set(found[spec.name]) for spec in specs if spec.kind != "all"})
    return found


def _joined(examples: "pl.DataFrame", scores: "pl.DataFrame") -> "pl.DataFrame":
    new = [name for name in scores.columns if name == "index" or name not in examples.columns]
    return examples.join(scores.select(new), on="index", how="left", maintain_order="left")


def _members(spec: Spec, table: "pl.DataFrame", scored: bool, classes: Sequence[str]) -> list[int]:
    import polars as pl

    rows = table.filter((pl.col("split") == "test") == (spec.split == "test"))
    if spec.kind == "all":
        chosen = rows
    elif spec.kind in ("right", "wrong"):
        chosen = rows.filter((_column(rows, "true_label", spec) == pl.col("given_label")) == (spec.kind == "right"))
    elif spec.kind in (*RANKED, "low", "high"):
        chosen = _ranked(spec, rows, scored)
    elif spec.kind == "index":
        chosen = _listed(spec, rows)
    elif spec.kind == "class":
        chosen = rows.filter(pl.col("given_label") == _class_number(spec, classes))
    else:
        chosen = rows.filter(_column(rows, spec.kind, spec).cast(pl.String).str.to_lowercase() == ":".join(spec.arguments).lower())
    return chosen["index"].to_list()


def _ranked(spec: Spec, rows: "pl.DataFrame", scored: bool) -> "pl.DataFrame":
    import polars as pl

    if spec.kind in RANKED:
        (column, descending), amount = RANKED[spec.kind], spec.arguments
    else:
        column, descending, amount = (spec.arguments or ("",))[0], spec.kind == "high", spec.arguments[1:]
    values = _column(rows, column, spec, scored)
    known = rows.filter(values.is_not_null())
    if not len(known):
        raise UnseenError(
            f"No {spec.split} example has a {column} to rank by, for {spec.name!r}. Test examples get scores by "
            "`unseen score … --join-test`; give that run with --scores."
        )
    return known.sort(pl.col(column), pl.col("index"), descending=[descending, False]).head(_count(spec, amount, len(known)))


def _count(spec: Spec, amount: tuple[str, ...], available: int) -> int:
    try:
        (text,) = amount
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= available:
        given = ":".join(amount) or "nothing"
        raise UnseenError(f"How many are {spec.name!r}? Write a share, such as 0.2, or a count from 1 to {available:,}; got {given}.")
    return max(1, round(number * available)) if number < 1 else round(number)


def _listed(spec: Spec, rows: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    (text,) = spec.arguments or ("",)
    if text.startswith("@"):
        try:
            wanted = Path(text[1:]).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UnseenError(f"The list {text[1:]!r} of subset {spec.name!r} cannot be read: {error}.") from error
    else:
        wanted = text.split(",")
    wanted = [line.strip() for line in wanted if line.strip()]
    chosen = rows.filter(pl.col("index").cast(pl.String).is_in(wanted) | pl.col("id").is_in(wanted))
    missing = set(wanted) - set(chosen["index"].cast(pl.String)) - set(chosen["id"])
    if missing:
        raise UnseenError(f"No {spec.split} example has the index or id {sorted(missing)[0]!r} of subset {spec.name!r}.")
    return chosen


def _class_number(spec: Spec, classes: Sequence[str]) -> int:
    name = ":".join(spec.arguments)
    if name in classes:
        return classes.index(name)
    if name.isdigit() and int(name) < len(classes):
        return int(name)
    raise UnseenError(f"There is no class {name!r}. The classes are {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}.")


def _column(rows: "pl.DataFrame", name: str, spec: Spec, scored: bool = True) -> "pl.Series":
    if name in rows.columns:
        return rows[name]
    if name == "true_label":
        raise UnseenError(f"Subset {spec.name!r} needs labels that were changed, and none were: plant some with --random-labels.")
    if not scored:
        raise UnseenError(
            f"Subset {spec.name!r} needs scores ({name}), and none are at hand. Give a finished run of the same data: --scores RUN "
            "(`unseen score` makes one), or look at subsets afterwards: `unseen dynamics RUN`."
        )
    raise UnseenError(f"There is no subset or column {name!r}. Subsets: {KINDS}. The columns are {', '.join(rows.columns)}.")


def _check_apart(subsets: dict[str, set[int]]) -> None:
    names = list(subsets)
    for number, name in enumerate(names):
        for other in names[:number]:
            if common := subsets[name] & subsets[other]:
                raise UnseenError(
                    f"The subsets {other!r} and {name!r} overlap: {len(common):,} examples are in both, index {min(common)} for one. "
                    "Make them smaller, or look at them one after the other."
                )


def _hint(spec: Spec, table: "pl.DataFrame", classes: Sequence[str]) -> str:
    if spec.split == "test" and "test" not in table["split"]:
        return "The data set has no test examples."
    if spec.kind == "wrong":
        return "No label was changed: plant some with --random-labels."
    if spec.kind in table.columns:
        values = table[spec.kind].unique(maintain_order=True).head(10).to_list()
        return f"{spec.kind} has values such as {', '.join(map(str, values))}."
    return f"The classes are {', '.join(classes[:20])}."
