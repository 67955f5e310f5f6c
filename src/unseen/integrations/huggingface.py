"""Turn-over dropout and the recorder in a Hugging Face ``Trainer``; docs/integrations.md has a whole example.

What holds, each by a test: the index column survives ``remove_unused_columns``; gradient accumulation and bf16 change nothing; a resumed
training has the scores of an uninterrupted one; an example that a distributed sampler repeats counts once.
"""

import inspect
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from unseen.data import COLUMN, in_order
from unseen.errors import UnseenError
from unseen.integrations.saving import check_ids, saved
from unseen.masks import IN_THREADS, TurnOverNet, attach, logits_of
from unseen.runs import Run
from unseen.scoring import Recorder
from unseen.training import measure_batches

STATE = "recorder.safetensors"
NO_INDEX = (
    "A batch that trains has no index, so nobody can say which examples are in it. Hand the Trainer "
    "train_dataset=unseen.with_index(dataset), and let its collator keep the column `index`."
)


def indexed(model: nn.Module, recorder: Recorder | None = None, masks: bool = True, **options: Any) -> nn.Module:
    """The same model, whose forward takes ``index`` beside its other arguments: in training, the examples' seen halves, recorded.

    In evaluation, and without an index, it is the full network. It stays what it was for the Trainer, ``save_pretrained`` and its weights.
    Gradient checkpointing, reentrant or not, computes each forward again with the masks that it had.

    Args:
        model: of transformers, with class logits.
        recorder: gets every batch that trains; None: nothing is recorded.
        masks: attach turn-over masks; without them an ordinary network is recorded.
        **options: of ``attach`` (seed, groups, only, …).

    Returns:
        ``model``. Its forward raises UnseenError where a batch that trains has no index and there is a recorder, and where the recorder
        finds no labels or no logits.
    """
    switch = attach(model, **options) if masks else None
    kind: Any = type(model)
    model.__class__ = _with_index(kind)
    model.unseen_switch, model.unseen_recorder, model.unseen_labels = switch, recorder, None  # type: ignore[assignment]
    return model


@cache
def _with_index(kind: Any) -> Any:
    """A subclass, so that copies, saving and the Trainer's questions about the class go on working."""

    def forward(self: Any, *args: Any, index: Tensor | None = None, **inputs: Any) -> Any:
        trains = self.training and index is not None
        if self.unseen_recorder and self.training and index is None and torch.is_grad_enabled():
            raise UnseenError(NO_INDEX)
        if getattr(self, "_is_replica", False):
            raise UnseenError(IN_THREADS)
        with _turned(self.unseen_switch, index if trains else None):
            out = kind.forward(self, *args, **inputs)
        if index is not None and self.training and self.unseen_recorder:
            self.unseen_recorder.update(index, _logits(out), _labels(self, inputs, index))
        return out

    signature = inspect.signature(kind.forward)
    extra = inspect.Parameter(COLUMN, inspect.Parameter.KEYWORD_ONLY, default=None)
    named = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
    rest = [parameter for parameter in signature.parameters.values() if parameter.kind == parameter.VAR_KEYWORD]
    forward.__signature__ = signature.replace(parameters=[*named, extra, *rest])  # type: ignore[attr-defined]
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _turned(switch: Any, index: Tensor | None) -> Any:
    """The seen halves of these examples, or the full network where another has not turned it already."""
    if switch is None or (index is None and switch.is_turned):
        return nullcontext()
    return switch.turned(index, "full" if index is None else "seen")


def _logits(out: Any) -> Tensor:
    if isinstance(out, tuple):  # its first element is the loss
        raise UnseenError("The model gives a tuple, in which the recorder does not find the logits. Leave return_dict=True.")
    return logits_of(out)


def _labels(model: Any, inputs: dict[str, Any], index: Tensor) -> Tensor:
    """The labels of a batch, where the Trainer keeps them to itself (label smoothing, a loss of the user's own) those of the data set."""
    labels = inputs.get("labels")
    if labels is None and model.unseen_labels is not None:
        labels = model.unseen_labels(index)
    if labels is None:
        raise UnseenError(
            "The recorder needs the labels in the batch. Name their column `labels`, and add RecorderCallback to the Trainer."
        )
    return cast(Tensor, labels)


class _LabelsOf:
    """The labels of a loader's data set by index; one pass over the data set, at the first question."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.known: tuple[Tensor, Tensor] | None = None

    def __call__(self, index: Tensor) -> Tensor | None:
        if self.known is None:
            with torch.random.fork_rng(devices=[]):
                whole = DataLoader(self.loader.dataset, getattr(self.loader, "batch_size", None) or 64, collate_fn=self.loader.collate_fn)
                pairs = [(batch.get(COLUMN), batch.get("labels")) for batch in whole]
            if any(part is None for pair in pairs for part in pair):
                return None
            every, labels = (torch.cat(parts).cpu() for parts in zip(*pairs, strict=True))
            order = every.argsort()
            self.known = every[order], labels[order]
        every, labels = self.known
        return labels[torch.searchsorted(every, index.cpu())].to(index.device)


class RecorderCallback(TrainerCallback):
    """Ends the recorder's epochs with heads and a measurement of both halves, keeps its state in the Trainer's checkpoints, saves the run.

    Args:
        recorder: the one that ``indexed`` got.
        path: of the run folder.
        measure_every: epochs between two measurements of the halves, each a pass over the data with three sides; the last epoch is always
            measured.
        options: of ``Recorder.save``.

    Attributes:
        run: the run folder, after training; None where it could not be saved, of which a warning says why, and where what was recorded is.
    """

    def __init__(self, recorder: Recorder, path: str | Path, measure_every: int = 1, **options: Any) -> None:
        self.recorder, self.path, self.measure_every, self.options = recorder, path, measure_every, options
        self.run: Run | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, train_dataloader: Any = None, **_: Any) -> None:
        """Go on from the checkpoint that the Trainer resumes from. Raises UnseenError where it has no recorder, or ids are too few."""
        check_ids(self.options, len(train_dataloader.dataset))
        self.recorder.watch(model)
        if hasattr(model, "unseen_labels"):
            model.unseen_labels = _LabelsOf(train_dataloader)
        if state.global_step:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / _state_name()
            if not path.exists():
                raise UnseenError(f"{path} is not there: the checkpoint was made without this callback. Start the training again.")
            self.recorder.load_state_dict(load_file(path))

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, train_dataloader: Any = None, **_: Any) -> None:
        """Measure both halves where the model has them, and mark the epoch."""
        last = state.global_step >= state.max_steps
        due = last or round(state.epoch) % self.measure_every == 0
        self.recorder.end_epoch(_measured(model, train_dataloader) if due and getattr(model, "unseen_switch", None) else None)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the recorder's state into the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.recorder.state_dict(), folder / _state_name())

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Write the run folder."""
        if hasattr(model, "unseen_labels"):
            model.unseen_labels = None
        self.run = saved(self.recorder, self.path, self.options)


def _state_name() -> str:
    distributed = torch.distributed.is_initialized()
    return f"rank-{torch.distributed.get_rank()}-{STATE}" if distributed else STATE


def _measured(model: nn.Module, loader: Any) -> dict[str, Tensor]:
    net = TurnOverNet.around(model, model.unseen_switch)  # type: ignore[arg-type]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):  # a data loader draws from the generator that dropout and shuffling use
        batches = ({name: value.to(device) for name, value in batch.items()} for batch in in_order(loader))
        return measure_batches(net, ((batch, batch.pop("labels"), batch.pop(COLUMN)) for batch in batches))
