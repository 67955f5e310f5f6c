"""Heads on the features of a network whose training is recorded: of the forwards that train, so nothing is computed twice."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unseen.masks import TurnOverNet
from unseen.training import NO_LINEAR, Layers, gives, head_scores

if TYPE_CHECKING:
    import polars as pl

NEVER = "head_memorization needs the ends of epochs: call recorder.end_epoch() after each."
OTHER = "The network's last forward was of other examples than the update, so there is no head_memorization: update after each forward."


class RecordedHeads:
    """What goes into the output layer of a network at the forwards that train, and a ridge head on it after each epoch.

    Features of an epoch move while it trains. Each process fits a head of its own to its share.

    Args:
        net: any network, or a ``TurnOverNet``: then of its seen half.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net.net if isinstance(net, TurnOverNet) else net
        self.layers: Layers | None = Layers(self.net)
        self.units = torch.zeros(0, dtype=torch.int64)
        self.last: tuple[Tensor, Tensor] | None = None
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self.why: str | None = NEVER

    def note(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep the features of a batch. Args: see ``Recorder.update``."""
        if self.layers is not None:
            self._find(logits)
        if self.why == NO_LINEAR:
            return
        if self.last is None or not gives(self.last[1], logits):
            self.why = OTHER
            return
        self.parts.append((index.detach().clone(), self.last[0][:, self.units].float(), labels.detach().clone()))
        self.last = None

    def _find(self, logits: Tensor) -> None:
        """Find the output layer at the first update, and look at no other from then on."""
        assert self.layers is not None
        found = self.layers.output(logits)
        if found is None:
            self.why = NO_LINEAR
        else:
            self.last, self.units = self.layers.linear[found.name], found.units.to(logits.device)
            self.net.get_submodule(found.name).register_forward_hook(self._keep)
        self.layers.remove()
        self.layers = None

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.last = (inputs[0].detach(), output.detach())

    def end_epoch(self, epoch: int, classes: int) -> dict[str, Tensor] | None:
        """Fit a head to what the epoch showed, each example's first visit.

        Returns:
            index and epoch, int64 (k,), and head_loss and head_memorization, float32 (k,); None where no head could be fitted.
        """
        if not self.parts:
            return None
        index, features, labels = (torch.cat(column) for column in zip(*self.parts, strict=True))
        self.parts = []
        index = index.cpu()
        first = torch.full((int(index.max()) + 1,), len(index)).scatter_reduce(0, index, torch.arange(len(index)), "amin")[index]
        kept = (first == torch.arange(len(index))).to(features.device)
        found = head_scores(features[kept], labels[kept].long(), torch.ones(int(kept.sum()), dtype=torch.bool), classes)
        if not found:
            return None
        self.why = None if self.why == NEVER else self.why
        index = index[kept.cpu()]
        return {"index": index, "epoch": torch.full_like(index, epoch)} | found


def with_heads(history: "pl.DataFrame", rows: list[dict[str, Tensor]]) -> "pl.DataFrame":
    """A history with head_loss and head_memorization, null where no head was fitted; the same where there is none at all."""
    import polars as pl

    if not rows:
        return history
    table = pl.concat(pl.DataFrame({name: row[name].numpy() for name in rows[0]}) for row in rows)
    table = table.with_columns(pl.col("epoch").cast(pl.Int32)).unique(["epoch", "index"], keep="first", maintain_order=True)
    return history.join(table, on=["epoch", "index"], how="left", maintain_order="left")
