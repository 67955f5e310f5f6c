"""What a recorder takes of a batch, and what it refuses: at that update, so that no training goes on that cannot be saved."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unseen.errors import UnseenError
from unseen.hashing import LARGEST_INDEX

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
NO_INDEX = (
    "The recorder got no index. It needs each example's position in the data set, int64 (n,): load from unseen.with_index(dataset), "
    "and hand on the index that comes with the batch."
)


@dataclass(frozen=True)
class Batch:
    """Copies of one batch on the device of its logits: index int64 (n,), logits (n, classes), labels int64 (n,)."""

    index: Tensor
    logits: Tensor
    labels: Tensor


def checked_batch(index: Any, logits: Any, labels: Any, examples: int | None, classes: int | None) -> Batch:
    """A batch as the recorder keeps it.

    Tensors on the CPU are looked at here; the values of tensors on other devices only by ``refuse_values``, as looking would make the
    device wait.

    Args:
        index: what ``Recorder.update`` got.
        logits: what it got.
        labels: what it got.
        examples: size of the data set, where it is known.
        classes: of the batches before; None at the first.

    Raises:
        UnseenError: anything but tensors; an index that is missing, no int64 vector or out of range; logits of another shape than
            (n, classes), not finite, of one column, or of other columns than before; labels that are no whole numbers from 0 to below
            classes.
    """
    _check_kinds(index, logits, labels)
    _check_shapes(index, logits, labels, classes)
    batch = Batch(index.detach().clone(), logits.detach().clone(), labels.detach().to(torch.int64, copy=True))
    if index.is_cpu and logits.is_cpu and labels.is_cpu:
        refuse_values(batch, examples)
        return batch
    if index.is_cpu:
        _check_index(batch.index, examples)
    if labels.is_cpu:
        _check_labels(batch.index, batch.labels, logits.shape[1])
    return Batch(batch.index.to(logits.device), batch.logits, batch.labels.to(logits.device))


def refuse_values(batch: Batch, examples: int | None) -> None:
    """Raise UnseenError for an index or a label out of range, and for logits that are not finite, with the example's index."""
    _check_index(batch.index, examples)
    _check_labels(batch.index, batch.labels, batch.logits.shape[1])
    bad = (~batch.logits.isfinite()).any(1).nonzero().flatten()
    if len(bad):
        row = batch.logits[bad[0]]
        raise UnseenError(
            f"The logits of example {int(batch.index[bad[0]])} are {row[~row.isfinite()][0].item()} ({len(bad):,} of {len(batch.index):,} "
            "examples of this batch have such). Allowed: finite numbers. Stop the training: lower the learning rate, or compute in float32."
        )


def _check_kinds(index: Any, logits: Any, labels: Any) -> None:
    if index is None:
        raise UnseenError(NO_INDEX)
    for name, value, wanted in (("index", index, "int64 (n,)"), ("logits", logits, "(n, classes)"), ("labels", labels, "int64 (n,)")):
        if not isinstance(value, Tensor):
            inside = ', as the tensor in it: out["logits"] or out.logits' if name == "logits" else ""
            raise UnseenError(f"The recorder got {name} of type {type(value).__name__}. Allowed: a tensor {wanted}{inside}.")


def _check_shapes(index: Tensor, logits: Tensor, labels: Tensor, classes: int | None) -> None:
    if (logits.dim() == 2 and logits.shape[1] == 1) or logits.dim() == 1:
        raise UnseenError(
            f"The recorder got one logit per example, {tuple(logits.shape)}. For two classes hand it both: "
            "z = logits.reshape(-1, 1); torch.cat([torch.zeros_like(z), z], 1)."
        )
    fits = index.dim() == 1 and logits.dim() == 2 and labels.shape == index.shape and len(logits) == len(index)
    if index.dtype != torch.int64 or labels.dtype not in INTEGERS or not logits.is_floating_point() or not fits:
        raise UnseenError(
            f"The recorder got index {index.dtype} {tuple(index.shape)}, logits {tuple(logits.shape)} {logits.dtype}, labels "
            f"{tuple(labels.shape)} {labels.dtype}. Allowed: index int64 (n,), logits (n, classes), labels int64 (n,), the numbers of the "
            "classes, row by row the same."
        )
    if classes is not None and logits.shape[1] != classes:
        raise UnseenError(
            f"The recorder got logits of {logits.shape[1]} classes, and of {classes} before. Allowed: the same in all batches."
        )


def _check_index(index: Tensor, examples: int | None) -> None:
    most = LARGEST_INDEX if examples is None else examples - 1
    bad = index[(index < 0) | (index > most)]
    if len(bad):
        raise UnseenError(f"The recorder got the index {int(bad[0])}. Allowed: 0 to {most}. Hand it positions in the data set.")


def _check_labels(index: Tensor, labels: Tensor, classes: int) -> None:
    bad = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(bad):
        label = int(labels[bad[0]])
        remedy = "Leave out the rows that the loss ignores: update(index[keep], logits[keep], labels[keep])." if label < 0 else ""
        raise UnseenError(
            f"The recorder got the label {label} of example {int(index[bad[0]])}. Allowed: 0 to {classes - 1}, the columns of the logits. "
            f"{remedy or 'Number the classes from 0, or give the network an output for each.'}"
        )


def is_good(batch: Batch, examples: int | None) -> bool:
    """Whether ``refuse_values`` finds nothing to refuse."""
    try:
        refuse_values(batch, examples)
    except UnseenError:
        return False
    return True
