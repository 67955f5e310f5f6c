"""The fast path of ``members.py``: K multi-layer perceptrons trained as one, with hand-written gradients.

The first layers of all members are one product with the batch, later layers one batched product. Examples are columns of
the activations, (K, units, batch), the fastest layout for all products of a step.

Rows of the first layer's weights move only within the span of the inputs, and gradient descent commutes with rotations.
So the inputs, with a one for the bias, are rotated onto their principal axes, and the axes that together hold less than
the rounding error of the inputs are left out (5,000 images of MNIST: 614 of 785 are kept in bf16): a fifth of the time.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.config import TrainingOptions
from unseen.data import Examples, Lazy
from unseen.masks import gives_other_than_computed
from unseen.training.loop import get_state, load_state, make_optimizer
from unseen.training.networks import Members

if TYPE_CHECKING:
    from lightning_fabric import Fabric


MOST_INPUTS = 2**30  # bytes of inputs in memory as float32
MOST_ROTATED = 2048  # features; the principal axes cost their third power


def linear_layers(net: nn.Module) -> list[str] | None:
    """Names of the linear layers if the network is Flatten (or nothing), Linear, ReLU, ..., Linear; else None."""
    if not isinstance(net, nn.Sequential):
        return None
    parts = [(name, module) for name, module in net.named_children() if not isinstance(module, nn.Flatten | nn.Identity)]
    kinds = [nn.Linear, nn.ReLU] * (len(parts) // 2) + [nn.Linear]
    if len(parts) % 2 == 0 or [type(module) for _, module in parts] != kinds:
        return None
    return [name for name, module in parts if isinstance(module, nn.Linear)]


def fits(net: nn.Module, examples: Examples, config: TrainingOptions) -> bool:
    """Whether the fast path applies: an MLP, inputs that fit in memory and are the same in every epoch."""
    trains_all = all(parameter.requires_grad for parameter in net.parameters())
    in_memory = not isinstance(examples.inputs, Lazy) and len(examples) * torch.Size(examples.shape).numel() * 4 <= MOST_INPUTS
    return in_memory and not config.augment and linear_layers(net) is not None and not gives_other_than_computed(net) and trains_all


class WideSteps:
    """Steps of gradient descent of K MLPs at once.

    Args:
        members: of an architecture that ``fits``; their weights are read at the start and written by ``write``. Products are in bf16 where
            ``fabric``'s precision says so; weights and momenta stay float32.
        lost: see ``principal_axes``.
        shared: axes and rotated inputs, of others on the same examples; filled where it is empty.
    """

    def __init__(
        self,
        members: Members,
        examples: Examples,
        config: TrainingOptions,
        fabric: "Fabric",
        lost: float = 0.0,
        shared: dict[str, Any] | None = None,
    ) -> None:
        self.members, self.weights, self.labels = members, members.weights, examples.labels
        self.layers = linear_layers(members.shell[0]) or []
        self.dtype = torch.bfloat16 if "bf16" in fabric._precision.precision else torch.float32
        shared = {} if shared is None else shared
        if not shared:
            rotates = config.optimizer == "sgd" and not config.weight_decay
            inputs = _inputs(examples, has_bias=f"{self.layers[0]}.bias" in self.weights)
            axes = principal_axes(inputs, self.dtype, lost) if rotates and inputs.shape[1] <= MOST_ROTATED else None
            shared |= {"axes": axes, "inputs": (inputs if axes is None else inputs @ axes).to(self.dtype)}
        self.axes, self.inputs = shared["axes"], shared["inputs"]
        self.matrices = nn.ParameterList([self._rotated(self._first_layer()), *(self._copy(name, "weight") for name in self.layers[1:])])
        biased = [i for i, name in enumerate(self.layers) if i and f"{name}.bias" in self.weights]
        self.biases = nn.ParameterDict({str(i): self._copy(self.layers[i], "bias")[..., None] for i in biased})
        self.trained = nn.ModuleList([self.matrices, self.biases])
        self.optimizer = make_optimizer(self.trained, config)
        self.optimizer.param_groups[0]["fused"] = True  # one pass over weights, momenta and gradients
        for parameter in (*self.matrices, *self.biases.values()):
            parameter.grad = torch.empty_like(parameter)
        self.rounded = [matrix.to(self.dtype) for matrix in self.matrices]  # float32: no copy, and the same below
        self.gradients = [matrix.grad.to(self.dtype) for matrix in self.matrices]

    def _rotated(self, rows: Tensor) -> Tensor:
        return rows if self.axes is None else rows @ self.axes

    def _copy(self, layer: str, kind: str) -> Tensor:
        return self.weights[f"{layer}.{kind}"].detach().clone()

    def _first_layer(self) -> Tensor:
        """Weights and, where there is one, bias side by side: (K, units, features + 1)."""
        weight, bias = self.weights[f"{self.layers[0]}.weight"], self.weights.get(f"{self.layers[0]}.bias")
        return weight.clone() if bias is None else torch.cat([weight, bias[..., None]], -1)

    @torch.no_grad()
    def __call__(self, positions: Tensor, inside: Tensor, rate: float, when: tuple[int, int]) -> Tensor:
        """One step on the examples at ``positions``, int64 (B,); ``inside`` bool (K, B): who learns.

        Returns:
            Log-probabilities before the step: float32 (K, B, classes).
        """
        x = self.inputs[positions]
        hidden = self._forward(x.mT)
        log_probabilities = hidden.pop().float().log_softmax(1)  # (K, classes, B)
        labels = self.labels[positions].expand(len(inside), -1)[:, None]
        errors = log_probabilities.exp()
        errors.scatter_add_(1, labels, torch.full_like(errors[:, :1], -1.0))
        errors *= (inside / inside.sum(1, keepdim=True).clamp_min(1))[:, None]
        self._backward(x, hidden, errors)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        for rounded, matrix in zip(self.rounded, self.matrices, strict=True):
            rounded.copy_(matrix)
        return log_probabilities.mT

    @torch.no_grad()
    def predict(self, examples: Examples) -> Tensor:
        """Log-probabilities of all members, as they are now, on examples of any kind: float32 (K, n, classes).

        Of other examples than those trained on, without what lies outside the axes: there the first layer is as it was at the start.
        """
        x = self._rotated(_inputs(examples, has_bias=f"{self.layers[0]}.bias" in self.weights)).to(self.dtype)
        return self._forward(x.mT)[-1].float().log_softmax(1).mT

    def _forward(self, x: Tensor) -> list[Tensor]:
        """Activations behind each layer, the logits last: (K, units, B)."""
        found: list[Tensor] = []
        for number, matrix in enumerate(self.rounded):
            h = matrix @ (found[-1] if number else x)
            if (bias := self._bias(number)) is not None:
                h += bias
            found.append(h if number == len(self.rounded) - 1 else h.relu_())
        return found

    def _backward(self, x: Tensor, hidden: list[Tensor], errors: Tensor) -> None:
        """Gradients of all parameters from the errors of the logits, float32 (K, classes, B), into ``grad``."""
        for number in range(len(self.matrices) - 1, -1, -1):
            if (bias := self._bias(number)) is not None:
                bias.grad.copy_(errors.sum(-1, keepdim=True, dtype=torch.float32))  # type: ignore[union-attr]
            errors = errors.to(self.dtype)
            torch.matmul(errors, hidden[number - 1].mT if number else x, out=self.gradients[number])
            self.matrices[number].grad.copy_(self.gradients[number])
            if number:
                errors = torch.ops.aten.threshold_backward(self.rounded[number].mT @ errors, hidden[number - 1], 0)

    def _bias(self, number: int) -> nn.Parameter | None:
        bias: nn.Parameter | None = self.biases.get(str(number))
        return bias

    def state(self) -> dict[str, Tensor]:
        """Weights on their axes and the optimiser's tensors; copies."""
        return get_state(self.trained, self.optimizer)

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Undo ``state``."""
        load_state(self.trained, self.optimizer, state)
        for rounded, matrix in zip(self.rounded, self.matrices, strict=True):
            rounded.copy_(matrix)

    @torch.no_grad()
    def write(self) -> Members:
        """The members with their weights as they are now."""
        first, start = self.matrices[0].detach(), self._first_layer()
        if self.axes is not None:  # what is outside the span of the inputs stays as it was
            first = start + (first - start @ self.axes) @ self.axes.T
        weight = self.weights[f"{self.layers[0]}.weight"]
        weight.copy_(first[..., : weight.shape[-1]])
        if f"{self.layers[0]}.bias" in self.weights:
            self.weights[f"{self.layers[0]}.bias"].copy_(first[..., -1])
        for number, name in enumerate(self.layers[1:], 1):
            self.weights[f"{name}.weight"].copy_(self.matrices[number])
            if (bias := self._bias(number)) is not None:
                self.weights[f"{name}.bias"].copy_(bias[..., 0])
        return self.members


def principal_axes(inputs: Tensor, dtype: torch.dtype, lost: float = 0.0) -> Tensor:
    """Principal axes of the inputs (n, d), about zero, less those that together hold at most ``lost`` of their sum of squares.

    At least what rounding to ``dtype`` loses anyway, eps**2 / 12, is left out.

    Returns:
        Orthonormal float32 (d, r).
    """
    products = torch.zeros(inputs.shape[1], inputs.shape[1], dtype=torch.float64, device=inputs.device)
    for some in inputs.split(8192):
        products += some.double().T @ some.double()
    energy, axes = torch.linalg.eigh(products)  # ascending
    share = max(lost, torch.finfo(dtype).eps ** 2 / 12)
    kept: Tensor = axes[:, energy.cumsum(0) > energy.sum() * share]
    return kept.float().contiguous()


def _inputs(examples: Examples, has_bias: bool) -> Tensor:
    """Standardised inputs, flat, and a one for the bias where there is one: float32 (n, features + 1)."""
    parts = [examples.batch(some)[0].flatten(1) for some in torch.arange(len(examples)).split(4096)]
    return F.pad(torch.cat(parts), (0, int(has_bias)), value=1.0)
