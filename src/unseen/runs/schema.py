"""What the files of a run must hold to be a run's: foreign ones are refused by name. Tables by columns, JSON by keys and types."""

import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from unseen.config import HINTS, OPTIONS, Config
from unseen.errors import UnseenError
from unseen.runs.columns import bounds

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor

TABLES = {
    "examples": ("index", "id", "split", "given_label"),
    "scores": ("index", "id", "trained", "given_label"),
    "history": ("seed", "epoch", "index"),
    "unseen_probabilities": ("index", "p_0"),
    "feature_probabilities": ("index", "p_0"),
    "neighbours": ("index", "rank", "neighbour_index", "similarity"),
    "duplicates": ("index", "id", "given_class", "other_index", "other_id", "other_class", "cosine", "exact", "labels_differ", "group"),
    "leaks": ("index", "id", "given_class", "other_index", "other_id", "other_class", "cosine", "exact", "labels_differ"),
    "outliers": ("index", "id", "given_class", "strangeness"),
    "subsets": ("subset", "index"),
    "truth": ("index", "memorization"),
    "privacy": ("index", "id", "given_label", "tpr_at_1_percent", "tpr_at_1_percent_low", "tpr_at_1_percent_high", "risk"),
    "influence": ("query_index", "query_id", "train_index", "train_id", "side", "rank", "influence"),
    "final": ("index", "loss_full", "predicted_full"),
    "gradients": ("seed", "epoch", "subset", "other", "quantity", "value", "examples"),
}
"""Columns that each table has, whatever the run."""
HALVES = ("loss_seen", "loss_unseen", "predicted_seen", "predicted_unseen", "unseen_loss_mean", "predicted_label", "is_label_issue")
"""What scores with a memorization have beside it."""
TEXTS = (
    "id",
    "split",
    "subset",
    "other",
    "side",
    "quantity",
    "query_id",
    "train_id",
    "text",
    "risk",
    "given_class",
    "other_id",
    "other_class",
)
TRUTHS = ("trained", "is_label_issue", "exact", "labels_differ")
WHOLE = (
    "index",
    "given_label",
    "true_label",
    "seed",
    "epoch",
    "rank",
    "neighbour_index",
    "train_index",
    "other_index",
    "group",
    "predicted_label",
)


@dataclass(frozen=True)
class Field:
    """What a field of a JSON file may hold: its type as Python writes it, the least and the most (of texts and lists: of their length)."""

    hint: Any
    least: float = -math.inf
    most: float = math.inf
    needed: bool = False


SHARE, COUNT, AMOUNT = Field(float, 0, 1), Field(int, 0, 2**62), Field(float, 0, 1e15)
CORRELATION, MAYBE, WORDS = Field(float | None, -1, 1), Field(float | None, -1e15, 1e15), Field(str, 0, 10_000)
NEEDED_COUNT = replace(COUNT, needed=True)
JSON: dict[str, dict[str, Field]] = {
    "summary.json": {"examples": NEEDED_COUNT, "trained": replace(COUNT, needed=True, least=1), "shards": Field(int, 1, 10**6)}
    | dict.fromkeys(("auroc", "average_precision", "leak_of_step", "test_accuracy_full", "test_accuracy_half"), SHARE)
    | {f"accuracy_{side}{kind}": SHARE for side in ("seen", "unseen", "full") for kind in ("", "_true")}
    | dict.fromkeys(("training_seconds", "measuring_seconds", "plain_seconds"), AMOUNT)
    | {"cost": Field(float | None, 0, 1e15)}
    | {
        "classes": Field(tuple[str, ...], 1, 10**6),
        "estimator": WORDS,
        "null": WORDS,
        "null_gap_std": MAYBE,
        "seed_correlation": CORRELATION,
    }
    | {"null_examples": COUNT, "wrong_labels": COUNT, "parameters": Field(int, 1, 2**62), "discoveries_q10": Field(int | None, 0, 2**62)}
    | {"shared_parameters": Field(dict[str, int], 0, 10**6)},
    "truth.json": {"reliability": replace(CORRELATION, needed=True), "seed": Field(int, 0, 2**62), "share": SHARE, "left_out": COUNT}
    | {"members": Field(int, 1, 10**7), "seeds": Field(int, 1, 10**6)},
    "witness.json": {"features": replace(WORDS, needed=True)},
    "selfcheck.json": {"sentence": replace(WORDS, needed=True)},
    "privacy.json": dict.fromkeys(("members", "targets"), Field(int, 1, 10**7, needed=True))
    | {"records": NEEDED_COUNT, "attacked": replace(WORDS, needed=True), "risks": Field(dict[str, int], 0, 10**6, needed=True)}
    | {"attacks": Field(dict[str, dict[str, Any]], 1, 100, needed=True)}
    | {"record_tests": Field(dict[str, dict[str, float]] | None, needed=True)},
    "fingerprint.json": {"format": Field(int, 1, 1000, needed=True), "kind": replace(WORDS, needed=True)},
    "origin.json": {"folder": replace(WORDS, needed=True), "mark": replace(WORDS, needed=True)},
}
"""Fields of the JSON files of a run. Others may be there, and nobody reads them."""
TOGETHER: dict[str, dict[str, tuple[str, ...]]] = {
    "summary.json": {
        "auroc": ("average_precision", "wrong_labels"),
        "accuracy_seen": ("accuracy_unseen", "accuracy_full"),
        "accuracy_unseen": ("accuracy_seen", "null_examples", "discoveries_q10", "seed_correlation"),
        "shared_parameters": ("parameters",),
        "discoveries_q10": ("null", "null_gap_std"),
    },
    "truth.json": {"losses": ("seed", "share")},
}
"""Fields that need others beside them."""
RECORDED = "recorder"
"""Estimator of a run that a ``Recorder`` made of somebody's own loop: it trains nothing."""
LARGEST_JSON = 2**26
"""Bytes of a JSON file of a run: names of 100,000 classes fit many times."""
LARGEST_FINGERPRINT = 2**28
"""The same of the fingerprint: two million files."""
SLACK = 1e-3
"""Of a bound on numbers that were rounded."""
LABELS = ("given_label", "true_label", "predicted_label", "predicted_seen", "predicted_unseen", "predicted_full")
FILLED = ("id", "split", "subset", "trained", "quantity", "risk", "other_id", "cosine", "exact", "labels_differ", "strangeness")
"""Texts and truth values that every row has."""
NEVER_EMPTY = ("examples", "scores", "history", "unseen_probabilities", "subsets", "truth", "neighbours", "influence", "privacy")
UNIQUE = ("examples", "scores", "unseen_probabilities", "feature_probabilities", "truth", "privacy")
RATES, RISKS = ("auc", "tpr_at_0.01", "tpr_at_0.001", "tpr_at_0.0001"), ("low", "unclear", "raised", "high")
"""Of each attack of ``privacy.json``, and the classes that it counts."""
COSTS = ("training_seconds", "measuring_seconds", "plain_seconds")


LARGEST: dict[str, float] = {"hidden": 2**24, "width": 1024, "epochs": 10**7, "batch_size": 2**31, "groups": 2**20, "members": 10**6}
LARGEST |= {"seeds": 10**5}
LARGEST |= {"image_size": 2**16, "lr": 1e38, "mask_scale": 1e6, "gradient_examples": 2**40, "seed": 2**62}
"""The most that a field of the configuration may be."""


def largest_json(name: str) -> int:
    """Bytes that a JSON file of that name may have."""
    return LARGEST_FINGERPRINT if name == "fingerprint.json" else LARGEST_JSON


def is_own(name: str) -> bool:
    """Whether a run itself writes files of this name, so that nothing else may take their place."""
    name = name.casefold()  # some disks do not tell A from a
    return name in (".lock", "keep.txt") or name.endswith((".json", ".parquet", ".safetensors"))


def table_fault(name: str, frame: "pl.DataFrame", classes: int | None = None, is_shard: bool = False) -> str | None:
    """Why a frame is no table of that name: a column that is missing, of another type, out of its range, or with gaps where none can be.

    classes: how many the run has, where it is known.
    """
    name = {"parts/history": "history", "parts/gradients": "gradients", "parts/final": "final"}.get(name.partition("-")[0], name)
    wanted = TABLES.get(name, ())
    if name == "scores":
        wanted += (HALVES if "memorization" in frame.columns else ()) + (("true_label",) if "true_label" in frame.columns else ())
    if name == "final" and "loss_seen" in frame.columns:
        wanted += ("loss_unseen", "predicted_seen", "predicted_unseen", "p_0")
    for column in wanted:
        if column not in frame.columns:
            return f"it has no column {column!r}"
        if frame[column].null_count() and column in (*WHOLE, *FILLED) and column not in HALVES:  # halves may not have been measured
            return f"its column {column!r} has gaps"
    if name in NEVER_EMPTY and not len(frame) and not is_shard:
        return "it has no rows"
    for series in frame.get_columns() if name in TABLES else ():  # asking the frame for each by name takes the square of their number
        if not _fits(series.name, series.dtype):
            return f"its column {series.name!r} is of type {series.dtype}"
        if (wrong := _out_of_range(series, classes)) is not None:
            return f"its column {series.name!r} holds {wrong}"
    if name in UNIQUE and frame["index"].is_duplicated().any():
        return "an index occurs twice"
    return None


def _out_of_range(column: "pl.Series", classes: int | None) -> Any:
    """A value that the column cannot hold; None where there is none. Missing ones and NaN are for the gaps."""
    if not column.dtype.is_numeric() or not len(column):
        return None
    least, most = bounds(column.name)
    if column.name in LABELS:
        least, most = 0.0, math.inf if classes is None else classes - 1
    values = column.drop_nans() if column.dtype.is_float() else column
    low: Any = values.min()
    high: Any = values.max()
    slack = SLACK if column.dtype.is_float() else 0
    if low is not None and low < least - slack:
        return low
    return high if high is not None and high > most + slack else None


def _fits(column: str, kind: "pl.DataType") -> bool:
    import polars as pl

    if column in TEXTS:
        return kind in (pl.String, pl.Null)
    if column in TRUTHS:
        return kind == pl.Boolean
    return kind.is_integer() if column in WHOLE else kind.is_numeric() or kind in (pl.Boolean, pl.Null)


def json_fault(name: str, value: Any) -> str | None:
    """Why a value is not what the JSON file of that name holds."""
    if name == "config.json":
        return _config_fault(value)
    if name == "metrics.json":
        rows = isinstance(value, list) and all(isinstance(row, dict) and isinstance(row.get("score"), str) for row in value)
        return None if rows else "it is no list of scores"
    if name in JSON and not isinstance(value, dict):
        return f"it holds a {type(value).__name__}, not an object"
    if name in JSON and (fault := _fields_fault(name, value)):
        return fault
    if name == "truth.json" and not re.fullmatch(r"truth-[0-9a-f]{8}", str(value.get("losses", "truth-00000000"))):
        return f"its 'losses' is {value['losses']!r}, no folder of this run"
    if name == "privacy.json" and (fault := _privacy_fault(value)):
        return fault
    if name.startswith("parts/cost-") and not (isinstance(value, dict) and all(_is(value.get(cost), float) for cost in COSTS)):
        return f"it does not hold the numbers {', '.join(COSTS)}"
    return None


def _privacy_fault(value: dict[str, Any]) -> str | None:
    for name, attack in value["attacks"].items():
        for rate in RATES:
            found = attack.get(rate)
            if not isinstance(found, dict) or not all(_is(found.get(end, ""), float | None) for end in ("value", "low", "high")):
                return f"its {rate!r} of {_shown(name)} is {_shown(found)}"
            if not _is(found.get("reason", 0), str | None):
                return f"its reason for {rate!r} of {_shown(name)} is {_shown(found.get('reason'))}"
    if set(value["risks"]) != set(RISKS):
        return f"its 'risks' is {_shown(value['risks'])}"
    tests = value["record_tests"]
    return None if tests is None or "false_positive" in tests.get("0.01", {}) else f"its 'record_tests' is {_shown(tests)}"


def _fields_fault(name: str, value: dict[str, Any]) -> str | None:
    for key, field in JSON[name].items():
        if key not in value:
            if field.needed:
                return f"its {key!r} is missing"
        elif not _is(value[key], field.hint) or not field.least <= _amount(value[key], field.least) <= field.most:
            return f"its {key!r} is {_shown(value[key])}"
    for key, others in TOGETHER.get(name, {}).items():
        if value.get(key) is not None and (missing := [other for other in others if other not in value]):
            return f"it has {key!r} and no {missing[0]!r}"
    return None


def _amount(value: Any, where_none: float) -> float:
    """What a field's limits are about: a number, or how long a text or a list is."""
    if value is None:
        return where_none
    return value if isinstance(value, int | float) else len(value)


def _shown(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + " …"


def tensors_fault(name: str, tensors: "Mapping[str, Tensor]", notes: Mapping[str, str]) -> str | None:
    """Why these are not the tensors, and the notes, of the file of that name under ``weights/``."""
    kind = name.partition("-")[0]
    needed = {"truth": "losses", "leave": "losses", "members": "forgetting.right", "privacy": "log_odds"}.get(kind)
    if needed and needed not in tensors:
        return f"it has no tensor {needed!r}"
    if kind in ("seed", "members", "sums") and not notes.get("epoch", "").isdecimal():
        return f"its epoch is {notes.get('epoch')!r}"
    return None


def _config_fault(values: Any) -> str | None:
    if not isinstance(values, dict):
        return f"it holds a {type(values).__name__}, not an object"
    if unknown := sorted(set(values) - set(OPTIONS)):
        return f"it has the unknown key {unknown[0]!r}"
    for name, value in values.items():
        if not _is(value, HINTS[name]):
            return f"its {name!r} is {_shown(value)}"
    return _limits_fault(values)


def _limits_fault(values: dict[str, Any]) -> str | None:
    """What the configuration itself does not allow, and sizes that no run has: the one place that knows the names of its fields."""
    if values.get("estimator") == RECORDED:
        values = values | {"estimator": "plain"}
    try:
        read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        config = Config.of(**read).resolved()
    except (UnseenError, TypeError, ValueError, OverflowError) as error:
        return str(error)
    for name, most in LARGEST.items():
        amounts = config.flat()[name]
        for amount in amounts if isinstance(amounts, tuple) else (amounts,):
            if amount is not None and amount > most:
                return f"its {name!r} is {_shown(values[name])}, more than {most:,}"
    return None


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a field's type; lists stand for tuples, whole numbers for floats."""
    if hint is Any:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is(value, arm) for arm in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str)  # which ones are allowed is for ``Config.resolved``
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is(each, get_args(hint)[1]) for each in value.values())
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_is(each, get_args(hint)[0]) for each in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**62:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, str) and not _is_text(value):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def _is_text(value: str) -> bool:
    """Whether a text can be a name on a disk or a screen: no NUL, and no half of a pair but those that stand for bytes of a file's name."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def what_writes(name: str) -> str:
    """A sentence on which command writes a file of a run."""
    writers = {"truth": "unseen truth", "truth.json": "unseen truth", "influence": "unseen influence", "metrics.json": "unseen evaluate"}
    writers |= {"feature_probabilities": "unseen suspects", "witness.json": "unseen suspects"}
    writers |= {name: f"unseen {name}" for name in ("duplicates", "leaks", "outliers")}
    writers |= {"privacy": "unseen privacy", "privacy.json": "unseen privacy"}
    writers |= {"dynamics": "unseen dynamics", "learned": "unseen dynamics", "gradients": "unseen gradients"}
    writers |= {"subsets": "unseen score --watch", "unseen_probabilities": "unseen score --estimator turnover"}
    return f"`{writers.get(name, 'unseen score')}` writes {name}; a run that was stopped goes on with --resume."
