"""What the files of a run must hold to be a run's: foreign ones are refused by name. Tables by columns, JSON by keys and types."""

import re
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from unseen.config import HINTS, OPTIONS

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor

TABLES = {
    "examples": ("index", "id", "split", "given_label"),
    "scores": ("index", "id", "trained", "given_label"),
    "history": ("seed", "epoch", "index"),
    "unseen_probabilities": ("index", "p_0"),
    "neighbours": ("index", "rank", "neighbour_index", "similarity"),
    "subsets": ("subset", "index"),
    "truth": ("index", "memorization"),
    "privacy": ("index", "id", "given_label", "tpr_at_1_percent", "tpr_at_1_percent_low", "tpr_at_1_percent_high", "risk"),
    "influence": ("query_index", "train_index", "influence"),
    "final": ("index", "loss_full", "predicted_full"),
    "gradients": ("seed", "epoch", "subset", "other", "quantity", "value", "examples"),
}
"""Columns that each table has, whatever the run."""
HALVES = ("loss_seen", "loss_unseen", "predicted_seen", "predicted_unseen", "unseen_loss_mean", "predicted_label", "is_label_issue")
"""What scores with a memorization have beside it."""
TEXTS = ("id", "split", "subset", "other", "side", "quantity", "query_id", "train_id", "text", "risk")
TRUTHS = ("trained", "is_label_issue")
WHOLE = ("index", "given_label", "true_label", "seed", "epoch", "rank", "neighbour_index", "train_index", "predicted_label")
JSON: dict[str, dict[str, type | tuple[type, ...]]] = {
    "summary.json": {"examples": int, "trained": int},
    "truth.json": {"reliability": (float, type(None))},
    "selfcheck.json": {"sentence": str},
    "privacy.json": {"members": int, "targets": int, "records": int, "attacks": dict, "risks": dict},
}
RATES = ("auc", "tpr_at_0.01", "tpr_at_0.001", "tpr_at_0.0001")
RISKS = ("low", "unclear", "raised", "high")
"""Of ``privacy.json``."""
COSTS = ("training_seconds", "measuring_seconds", "plain_seconds")


def table_fault(name: str, frame: "pl.DataFrame") -> str | None:
    """Why a frame is no table of that name: a column that is missing, of another type, or with gaps where there can be none."""
    name = {"parts/history": "history", "parts/gradients": "gradients", "parts/final": "final"}.get(name.partition("-")[0], name)
    wanted = TABLES.get(name, ())
    if name == "scores" and "memorization" in frame.columns:
        wanted += HALVES
    if name == "final" and "loss_seen" in frame.columns:
        wanted += ("loss_unseen", "predicted_seen", "predicted_unseen", "p_0")
    for column in wanted:
        if column not in frame.columns:
            return f"it has no column {column!r}"
        if frame[column].null_count() and column in WHOLE and column not in HALVES:  # halves may not have been measured
            return f"its column {column!r} has gaps"
    for column in frame.columns:
        kind = frame.schema[column]
        if name in TABLES and not _fits(column, kind):
            return f"its column {column!r} is of type {kind}"
    return None


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
    for key, kind in JSON.get(name, {}).items():
        if key not in value or not isinstance(value[key], kind):
            return f"its {key!r} is {value.get(key)!r}"
    if name == "truth.json" and not re.fullmatch(r"truth-[0-9a-f]{8}", str(value.get("losses", "truth-00000000"))):
        return f"its 'losses' is {value['losses']!r}, no folder of this run"
    if name == "privacy.json" and (fault := _privacy_fault(value)):
        return fault
    if name.startswith("parts/cost-") and not (isinstance(value, dict) and all(_is(value.get(cost), float) for cost in COSTS)):
        return f"it does not hold the numbers {', '.join(COSTS)}"
    return None


def _privacy_fault(value: dict[str, Any]) -> str | None:
    rates = [attack.get(rate) if isinstance(attack, dict) else None for attack in value["attacks"].values() for rate in RATES]
    if not rates or not all(isinstance(rate, dict) and set(rate) == {"value", "low", "high", "reason"} for rate in rates):
        return f"its 'attacks' do not hold the rates {', '.join(RATES)}"
    if set(value["risks"]) != set(RISKS) or not all(_is(count, int) for count in value["risks"].values()):
        return f"its 'risks' is {value['risks']!r}"
    return None


def tensors_fault(name: str, tensors: "Mapping[str, Tensor]", notes: Mapping[str, str]) -> str | None:
    """Why these are not the tensors, and the notes, of the file of that name under ``weights/``."""
    kind = name.partition("-")[0]
    needed = {"truth": "losses", "leave": "losses", "members": "sum.probabilities", "privacy": "log_odds"}.get(kind)
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
            return f"its {name!r} is {value!r}"
    return None


def _is(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a field's type; lists stand for tuples, whole numbers for floats."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is(value, arm) for arm in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str)  # which ones are allowed is for ``Config.resolved``
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_is(each, get_args(hint)[0]) for each in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)
