"""A run in the tools people use: cleanlab, torch subsets, AUM's and dataset cartography's files.

Nothing of theirs is imported before it is asked for.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Subset

from unseen.curate.lists import LISTS, judged
from unseen.curate.spreadsheet import neutral_frame
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.runs import Run, writing_out
from unseen.scoring import run_examples

if TYPE_CHECKING:
    import polars as pl

Which = Literal["easy", "difficult", "suspects", "rare"]
FILES = {"aum": "aum_values.csv", "cartography": "td_metrics.jsonl", "cleanlab": "label_issues.csv"}
NEVER_LEARNED = 1000  # cartography's forgetfulness of an example that was never right


def label_quality(run: Run) -> "pl.DataFrame":
    """What cleanlab's ``CleanLearning.get_label_issues`` gives, from this run's out-of-sample probabilities, and the ids.

    Columns: index, id, is_label_issue, label_quality (self-confidence, 0..1, low = bad), given_label, predicted_label.
    """
    return run.scores.select("index", "id", "is_label_issue", "given_label", "predicted_label", label_quality="label_score")


def to_datalab(run: Run, issue_types: dict[str, Any] | None = None) -> Any:
    """A cleanlab ``Datalab`` that has looked for issues with this run's out-of-sample probabilities; needs cleanlab.

    Args:
        issue_types: as ``Datalab.find_issues`` takes them; by default labels alone. Its rows are those of ``run.scores``.
    """
    try:
        from cleanlab import Datalab
    except ImportError as error:
        raise UnseenError(f"to_datalab needs cleanlab ({error}). Install it: pip install 'cleanlab[datalab]'.") from error
    scores = run.scores
    names = [run.classes[label] for label in scores["given_label"]]
    lab = Datalab({"id": scores["id"].to_list(), "label": names}, label_name="label", verbosity=0)
    order = np.argsort([str(name) for name in run.classes])  # Datalab numbers classes by the order of their names
    present = [place for place in order if run.classes[place] in set(names)]
    probabilities = run.probabilities()[:, present].astype(np.float64)
    lab.find_issues(pred_probs=probabilities / probabilities.sum(1, keepdims=True), issue_types=issue_types or {"label": {}})
    return lab


def subset(
    run: Run, which: Which = "easy", share: float = 0.1, data: Any = None, data_dir: str | Path | None = None
) -> tuple["Subset[Any]", NDArray[np.int64]]:
    """Part of the training examples as a torch ``Subset``, and their index.

    Args:
        run: finished.
        data_dir: where mnist/, cifar10/ … lie.
        which: the easiest or the most difficult ``share`` of the trained examples; or the whole list of suspects, or of the rare.
        share: above 0 and up to 1.
        data: a data set whose item ``i`` is training example ``i`` of the run, as the one it was made of; by default the run's data is
            loaded, and items are (x, label), standardised.

    Returns:
        The subset and the examples' ``index``, int64, in the list's order, which is that of the subset.
    """
    if which in ("easy", "difficult"):
        if not 0 < share <= 1:
            raise UnseenError(f"share is {share!r}; it must be above 0 and at most 1.")
        table = judged(run).sort("difficulty", "index", descending=[which == "difficult", False])
        index = table["index"].head(max(1, round(share * len(table)))).to_numpy()
    elif which in LISTS:
        index = LISTS[which](run)["index"].to_numpy()
    else:
        raise UnseenError(f"There is no subset {which!r}. Allowed: easy, difficult, suspects, rare.")
    places = {int(value): place for place, value in enumerate(run.scores["index"].to_list())}
    whole = Items(run_examples(run, data_dir=data_dir, as_scored=False)[1].train) if data is None else data
    if len(whole) < len(places):
        raise UnseenError(f"The data set has {len(whole)} items, the run {len(places)} training examples. Give the one that the run is of.")
    return Subset(whole, [places[int(value)] for value in index]), index


class Items(Dataset[Any]):
    """``Examples`` as a torch data set of (x, label): x standardised, float32; label an int."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        """How many."""
        return len(self.examples)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        """One of them."""
        x, labels, _ = self.examples.batch(torch.tensor([position]))
        return x[0], int(labels[0])


def export(run: Run, form: str, out: Path | None = None) -> Path:
    """Write the run's scores as another tool does, and return the file.

    Args:
        run: finished.
        form: aum (``aum_values.csv``: sample_id, aum, highest first), cartography (``td_metrics.jsonl``: guid, index, threshold_closeness,
            confidence, variability, correctness, forgetfulness) or cleanlab (``label_issues.csv``: as ``label_quality``). sample_id and
            guid are the examples' ids; in the two CSVs an id that a spreadsheet would compute, such as =1+1, has an apostrophe before it,
            which ``unseen apply`` takes away again.
        out: the file; by default the tool's own name in the run folder.
    """
    import polars as pl

    if form not in FILES:
        raise UnseenError(f"--format is {form!r}; it must be one of {', '.join(FILES)}.")
    if out is not None and not out.parent.is_dir():
        raise UnseenError(f"The folder {out.parent} is not there. Make it, or choose another --out.")
    scores = run.scores
    if form == "aum":
        text = neutral_frame(scores.select(sample_id="id", aum="aum").sort("aum", descending=True)).write_csv()
    elif form == "cleanlab":
        text = neutral_frame(label_quality(run)).write_csv()
    else:
        epochs = run.history["epoch"].n_unique()
        right = (pl.col("correctness") * epochs).round().cast(pl.Int64)
        table = scores.select(
            guid="id",
            index="index",
            threshold_closeness=pl.col("confidence") * (1 - pl.col("confidence")),
            confidence="confidence",
            variability="variability",
            correctness=right,
            forgetfulness=pl.when(right > 0).then(pl.col("forgetting_events").round()).otherwise(NEVER_LEARNED).cast(pl.Int64),
        )
        text = "".join(json.dumps(row) + "\n" for row in table.to_dicts())
    path = out or run.path / FILES[form]
    with writing_out(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
