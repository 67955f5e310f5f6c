"""Turn-over dropout and the recorder in a Hugging Face ``Trainer``; docs/integrations.md has a whole example.

What holds, each by a test: the index column survives ``remove_unused_columns``; gradient accumulation and bf16 change nothing; a resumed
training has the scores of an uninterrupted one; an example that a distributed sampler repeats counts once.
"""

import inspect
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from unseen.data import COLUMN, in_order
from unseen.errors import UnseenError
from unseen.masks import TurnOverNet, attach
from unseen.runs import Run
from unseen.scoring import Recorder
from unseen.training import measure_batches

STATE = "recorder.safetensors"


def indexed(model: nn.Module, recorder: Recorder | None = None, masks: bool = True, **options: Any) -> nn.Module:
    """The same model, whose forward takes ``index`` beside its other arguments: in training, the examples' seen halves, recorded.

    In evaluation, and without an index, it is the full network. It stays what it was for the Trainer, ``save_pretrained`` and its weights.

    Args: masks: attach turn-over masks; without them an ordinary network is recorded. options: of ``attach`` (seed, groups, only, …).
    """
    switch = attach(model, **options) if masks else None
    kind: Any = type(model)
    model.__class__ = _with_index(kind)
    model.unseen_switch, model.unseen_recorder = switch, recorder  # type: ignore[assignment]
    return model


@cache
def _with_index(kind: Any) -> Any:
    """A subclass, so that copies, saving and the Trainer's questions about the class go on working."""

    def forward(self: Any, *args: Any, index: Tensor | None = None, **inputs: Any) -> Any:
        trains = self.training and index is not None
        with self.unseen_switch.turned(index, "seen") if trains and self.unseen_switch else nullcontext():
            out = kind.forward(self, *args, **inputs)
        if trains and self.unseen_recorder:
            if inputs.get("labels") is None:
                raise UnseenError("The recorder needs the labels in the batch. Name their column `labels`.")
            self.unseen_recorder.update(index, out.logits, inputs["labels"])
        return out

    signature = inspect.signature(kind.forward)
    extra = inspect.Parameter(COLUMN, inspect.Parameter.KEYWORD_ONLY, default=None)
    named = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
    rest = [parameter for parameter in signature.parameters.values() if parameter.kind == parameter.VAR_KEYWORD]
    forward.__signature__ = signature.replace(parameters=[*named, extra, *rest])  # type: ignore[attr-defined]
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


class RecorderCallback(TrainerCallback):
    """Ends the recorder's epochs, measures both halves after each, keeps its state in the Trainer's checkpoints, saves the run.

    Args:
        recorder: the one that ``indexed`` got. path: of the run folder. measure_every: epochs between two measurements of the halves, each
            a pass over the data with three sides; the last epoch is always measured. options: of ``Recorder.save``.

    Attributes: run: the run folder, after training.
    """

    def __init__(self, recorder: Recorder, path: str | Path, measure_every: int = 1, **options: Any) -> None:
        self.recorder, self.path, self.measure_every, self.options = recorder, path, measure_every, options
        self.run: Run | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on from the checkpoint that the Trainer resumes from."""
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

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the run folder."""
        self.run = self.recorder.save(self.path, **self.options)


def _state_name() -> str:
    distributed = torch.distributed.is_initialized()
    return f"rank-{torch.distributed.get_rank()}-{STATE}" if distributed else STATE


def _measured(model: nn.Module, loader: Any) -> dict[str, Tensor]:
    net = TurnOverNet.around(model, model.unseen_switch)  # type: ignore[arg-type]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):  # a data loader draws from the generator that dropout and shuffling use
        batches = ({name: value.to(device) for name, value in batch.items()} for batch in in_order(loader))
        return measure_batches(net, ((batch, batch.pop("labels"), batch.pop(COLUMN)) for batch in batches))
