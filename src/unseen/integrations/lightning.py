"""The recorder as a Lightning callback; docs/integrations.md has a whole example."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from unseen.data import in_order
from unseen.errors import UnseenError
from unseen.integrations.saving import check_ids, saved
from unseen.masks import TurnOverNet
from unseen.runs import Run
from unseen.scoring import Recorder
from unseen.training import measure_batches


class RecorderCallback(Callback):
    """Records what ``training_step`` returns, heads on the module's last hidden features (``Recorder.watch``), and both halves of its
    ``TurnOverNet``, where it has one, after each epoch.

    ``training_step`` returns a mapping with ``loss`` and ``logits``; batches are (x, labels, index), as a loader over
    ``unseen.with_index(dataset)`` gives them. Checkpoints hold the recorder, so a resumed training has the scores of an uninterrupted one.

    Args:
        path: of the run folder.
        measure_every: epochs between two measurements of the halves; the last is always measured.
        options: of ``Recorder.save``.

    Attributes:
        recorder: what was recorded.
        run: the run folder, after training; None where it could not be saved, of which a warning says why, and where what was recorded is.
    """

    def __init__(self, path: str | Path, measure_every: int = 1, **options: Any) -> None:
        self.path, self.measure_every, self.options = path, measure_every, options
        self.recorder = Recorder()
        self.run: Run | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the ids and watch the network. Raises UnseenError where there are too few."""
        self.recorder.watch(next(iter(_with_masks(pl_module)), pl_module))
        dataset: Any = getattr(trainer.train_dataloader, "dataset", None)
        if hasattr(dataset, "__len__"):
            check_ids(self.options, len(dataset))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Record a batch. Raises UnseenError where the logits or the index are missing."""
        if not isinstance(outputs, dict) or "logits" not in outputs:
            raise UnseenError('training_step must return {"loss": loss, "logits": logits}, so that the recorder sees the logits.')
        _, labels, index = _three(batch)
        self.recorder.update(index, outputs["logits"], labels)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure both halves where there are any, and mark the epoch."""
        nets = _with_masks(pl_module)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = last or (trainer.current_epoch + 1) % self.measure_every == 0
        self.recorder.end_epoch(_measured(nets[0], trainer.train_dataloader, pl_module.device) if nets and due else None)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the run folder."""
        self.run = saved(self.recorder, self.path, self.options)

    def state_dict(self) -> dict[str, Any]:
        """The recorder, for Lightning's checkpoints."""
        return self.recorder.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.recorder.load_state_dict(state_dict)


def _with_masks(module: nn.Module) -> list[TurnOverNet]:
    return [one for one in module.modules() if isinstance(one, TurnOverNet)]


def _three(batch: Any) -> tuple[Any, Tensor, Tensor]:
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise UnseenError("A batch must be (x, labels, index). Load from unseen.with_index(dataset), a data set of pairs (x, label).")
    return batch[0], batch[1], batch[2]


def _measured(net: TurnOverNet, loader: Any, device: torch.device) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):  # a data loader draws from the generator that dropout and shuffling use
        batches = map(_three, in_order(loader))
        return measure_batches(net, ((x.to(device), labels.to(device), index.to(device)) for x, labels, index in batches))
