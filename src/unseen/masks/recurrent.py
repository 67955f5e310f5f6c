"""Recurrent layers under masks: a state that others read only through the mask, so that the halves stay apart over time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.errors import UnseenError
from unseen.masks.turnover import CHILD

Step = Callable[[Tensor, Tensor, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]


def convert_recurrent(net: nn.Module) -> nn.Module:
    """Replace every ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` of ``net``, in place, by its ``MaskedRecurrent``, and return it.

    A mask on the output of such a layer leaves the weights from state to state, and the biases, to both halves; in
    a ``MaskedRecurrent`` nothing is shared. Parameters and ``state_dict`` keys stay. It is a loop in Python over time, which costs
    several times the fused layer on short sequences (docs/results/architectures.md).

    Raises:
        UnseenError: a layer with batch_first=False or with projections (proj_size).
    """
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.RNNBase):
                setattr(parent, name, MaskedRecurrent(child))
    return MaskedRecurrent(net) if isinstance(net, nn.RNNBase) else net


class MaskedRecurrent(nn.Module):
    r"""An LSTM, GRU or simple recurrent layer with the parameters of the given one. Without masks it gives the same output.

    With masks, gates and outputs read :math:`m \odot h_t` in place of :math:`h_t`, one mask for all layers, directions and times.
    A unit outside the mask is read by nobody, so no gradient reaches its gates.

    Shapes: input (batch, time, units); returns (output, state) as the given layer does; the sequence starts from zeros.
    """

    masks_itself = True

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        if not layer.batch_first or layer.proj_size:
            raise UnseenError(f"{layer} cannot be converted. Build it with batch_first=True and without proj_size.")
        self.kind, self.mask_units, self.layers, self.bidirectional = layer.mode, layer.hidden_size, layer.num_layers, layer.bidirectional
        self.between = layer.dropout
        self.step: Step = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _tanh, "RNN_RELU": _relu}[layer.mode]
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, parameter)
        self.train(layer.training)

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Output (batch, time, directions * units), and the last state or states (layers * directions, batch, units)."""
        if not isinstance(x, Tensor) or state is not None:
            raise UnseenError("A masked recurrent layer takes one padded tensor and starts from zeros. Leave out packing and the state.")
        factors = self.get_submodule(CHILD).factors(x.dtype) if hasattr(self, CHILD) else None  # type: ignore[operator]
        if factors is not None and len(factors) > len(x):  # the first mask of a forked pass
            x = x.repeat(len(factors) // len(x), 1, 1)
        if factors is not None and factors.shape[1] != self.mask_units:
            factors = factors.repeat_interleave(self.mask_units // factors.shape[1], 1)
        lasts = []
        for layer in range(self.layers):
            if layer and self.between and self.training:
                x = F.dropout(x, self.between)
            outputs = []
            for suffix in ("", "_reverse") if self.bidirectional else ("",):
                output, last = self._direction(x, f"l{layer}{suffix}", factors)
                outputs.append(output)
                lasts.append(last)
            x = torch.cat(outputs, -1)
        hidden, cell = (torch.stack(parts) for parts in zip(*lasts, strict=True))
        return x, (hidden, cell) if self.kind == "LSTM" else hidden

    def _direction(self, x: Tensor, name: str, factors: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        parameters = dict(self.named_parameters(recurse=False))
        inputs = F.linear(x, parameters[f"weight_ih_{name}"], parameters.get(f"bias_ih_{name}"))
        weight, bias = parameters[f"weight_hh_{name}"], parameters.get(f"bias_hh_{name}")
        hidden = cell = read = x.new_zeros(len(x), self.mask_units)
        reads = []
        times = range(x.shape[1])
        for t in reversed(times) if name.endswith("reverse") else times:
            hidden, cell = self.step(inputs[:, t], F.linear(read, weight, bias), (hidden, cell))
            read = hidden if factors is None else hidden * factors
            reads.append(read)
        if name.endswith("reverse"):
            reads.reverse()
        return torch.stack(reads, 1), (read, cell if factors is None else cell * factors)


def _lstm(inputs: Tensor, read: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    enter, forget, new, leave = (inputs + read).chunk(4, 1)
    cell = forget.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def _gru(inputs: Tensor, read: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    (reset, update, new), (reset_read, update_read, new_read) = inputs.chunk(3, 1), read.chunk(3, 1)
    keep = (update + update_read).sigmoid()
    proposed = (new + (reset + reset_read).sigmoid() * new_read).tanh()
    hidden = (1 - keep) * proposed + keep * state[0]
    return hidden, hidden


def _tanh(inputs: Tensor, read: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    hidden = (inputs + read).tanh()
    return hidden, hidden


def _relu(inputs: Tensor, read: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    hidden = (inputs + read).relu()
    return hidden, hidden
