"""A witness of labels beside a run's own networks: a ridge head on features that never saw a label.

Which labels are wrong is answered better by it than by what networks of one's own learned, or by a mixture of both (LOG.md); what those
memorized is another question, and the run's scores answer it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from unseen.curate.lists import WITNESSED, has_witness, measured
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.features import extract
from unseen.runs import Run
from unseen.scoring import cache_folder, noted_mark, run_examples
from unseen.training import fit_in_chunks


def find_witness(run: Run, data_dir: str | Path | None = None, data: Any = None) -> str | None:
    """Make sure that ``feature_probabilities.parquet`` is there, where pictures or texts were scored by networks of the run's own.

    Cost: features (2 to 6 ms an example where they are not kept yet) and a head.

    Args:
        run: finished, with an unseen side.
        data_dir: where mnist/, cifar10/ … lie.
        data: what the run was made of, where that was not a name.

    Returns:
        Why it is not there: the data cannot be read, or another process writes the run. None where it is there, or would be of no use.
    """
    if has_witness(run) or run.config.data.features is not None:
        return None
    noted_mark(run)  # a broken file is no reason to go on without
    try:
        _, examples = run_examples(run, data, data_dir=data_dir)
        kept = examples.select(torch.tensor([part != "test" for part in examples.split]))
        if (len(kept.shape) == 3 or kept.texts is not None) and len(kept) > 1:
            _write(run, kept)
    except UnseenError as error:
        return str(error)
    return None


def _write(run: Run, examples: Examples) -> None:
    import polars as pl

    kind, chances = witnessed(examples)
    columns = {f"p_{number}": column for number, column in enumerate(chances.T)}
    table = pl.DataFrame({"index": examples.index.cpu().numpy()} | columns)
    ordered = measured(run).select("index").join(table, on="index", how="left", maintain_order="left")
    run.write_json("witness.json", {"features": kind})
    run.write_table(WITNESSED, ordered)


def witnessed(examples: Examples) -> tuple[str, "np.ndarray[Any, np.dtype[np.float32]]"]:
    """The kind of features, and what a head on them says of each example exactly as if it had been left out: probabilities (n, classes)."""
    features = extract(examples, "auto", cache=cache_folder())
    bend, labels = features.head_map(), examples.labels.cpu().split(list(features.counts))
    chunks = ((bend(part), some) for part, some in zip(features.chunks(), labels, strict=True))
    head = fit_in_chunks(chunks, len(examples.classes), len(examples), standardise=False)
    parts = [head.predict(bend(part), some).probabilities() for part, some in zip(features.chunks(), labels, strict=True)]
    return features.kind, torch.cat(parts).float().numpy()
