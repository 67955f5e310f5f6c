"""Steps of SGD that stay on the device: batches, rates and losses lie there, and a CUDA graph repeats one step without asking the host.

A step of a small network is some hundred kernels of a few microseconds each, and starting them one by one from Python takes longer than
they run. Captured once and replayed, a step costs one call (Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"). The step is a
plain function, so the tests run it on the CPU against ``torch.optim.SGD``.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.config import TrainingOptions
from unseen.data import Examples

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WARM_UP = 3  # steps before the capture, in which libraries choose their algorithms
KEPT = "_unseen_replay"  # the attribute of a network that has its captured steps


class Replay:
    """Steps of one network on one set of examples.

    Args:
        model: as ``fabric.setup`` gives it; called with (x, index).
        optimizer: SGD. Its momentum is kept where it keeps it, so that a state saved between epochs is as always.
        examples: on the device.
        config: batch_size, momentum, weight_decay.
        fabric: precision.
        capture: from the step to what repeats it; the identity on a CPU.

    A last batch that is not full is left to the caller.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        examples: Examples,
        config: TrainingOptions,
        fabric: "Fabric",
        capture: "Callable[[Replay], Callable[[], None]] | None" = None,
    ) -> None:
        assert config.momentum is not None and config.weight_decay is not None
        self.model, self.examples, self.fabric = model, examples, fabric
        self.momentum, self.weight_decay = config.momentum, config.weight_decay
        self.steps, device = len(examples) // config.batch_size, examples.labels.device
        self.order = torch.zeros(self.steps, config.batch_size, dtype=torch.int64, device=device)
        self.rates, self.losses = (torch.zeros(self.steps, device=device) for _ in range(2))
        self.number = torch.zeros(1, dtype=torch.int64, device=device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.velocities = _velocities(optimizer, self.parameters) if self.momentum else []
        self.again = capture(self) if capture else self.step

    def fits(self, examples: Examples, config: TrainingOptions) -> bool:
        """Whether these are the examples that the steps read, in batches of this size."""
        same = examples.labels.data_ptr() == self.examples.labels.data_ptr() and len(examples) == len(self.examples)
        return same and config.batch_size == self.order.shape[1]

    def take(self, order: Tensor, rates: Tensor) -> Tensor:
        """Take all full batches.

        Args:
            order: int64 (n,), positions of the epoch, on the device.
            rates: float32 (steps,), learning rates.

        Returns:
            The losses in nats, (steps,).
        """
        self.order.copy_(order[: self.order.numel()].view_as(self.order))
        self.rates.copy_(rates)
        self.number.zero_()
        for _ in range(self.steps):
            self.again()
        return self.losses.clone()

    def step(self) -> None:
        """One step: the batch of that number, its loss, its gradient, the update."""
        positions = self.order.index_select(0, self.number)[0]
        x, labels, index = self.examples.batch(positions)
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        loss = F.cross_entropy(self.model(x, index).float(), labels)
        for parameter in self.parameters:
            parameter.grad = None
        self.fabric.backward(loss)
        self._update(self.rates.index_select(0, self.number)[0])
        self.losses.index_copy_(0, self.number, loss.detach()[None])
        self.number.add_(1)

    @torch.no_grad()
    def _update(self, rate: Tensor) -> None:
        """V = momentum v + (gradient + decay w); w = w − rate v: as ``torch.optim.SGD``, but for a rate that is a tensor."""
        weights: list[Tensor] = [p for p in self.parameters if p.grad is not None]
        gradients = [p.grad for p in weights if p.grad is not None]
        if self.weight_decay:
            torch._foreach_add_(gradients, weights, alpha=self.weight_decay)
        if self.momentum:
            velocities = [v for p, v in zip(self.parameters, self.velocities, strict=True) if p.grad is not None]
            torch._foreach_mul_(velocities, self.momentum)
            torch._foreach_add_(velocities, gradients)
            gradients = velocities
        changes: Any = torch._foreach_mul(gradients, rate)
        torch._foreach_sub_(weights, changes)


def replay_of(model: nn.Module, optimizer: Any, examples: Examples, config: TrainingOptions, fabric: "Fabric") -> Replay | None:
    """The captured steps of a network, made at the first call; None where they do not apply, and each step is called from Python."""
    if not _applies(model, examples, config, fabric):
        return None
    known: Any = model.__dict__.get(KEPT, ())
    if known == () or (known is not None and not known.fits(examples, config)):
        try:
            known = Replay(model, optimizer, examples, config, fabric, _captured)
        except RuntimeError as error:  # a network of the user's that reads a value back, say
            warnings.warn(f"This network's steps cannot be captured ({str(error).splitlines()[0]}); each is started anew.", stacklevel=2)
            known = None
        object.__setattr__(model, KEPT, known)  # with the network, and gone with it
    found: Replay | None = known
    return found


def _applies(model: nn.Module, examples: Examples, config: TrainingOptions, fabric: "Fabric") -> bool:
    one_device = fabric.device.type == "cuda" and fabric.world_size == 1
    plain = config.optimizer == "sgd" and not config.augment and isinstance(examples.inputs, Tensor)
    stateless = not any(isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout) for module in model.modules())
    return one_device and plain and stateless and len(examples) >= config.batch_size


def _captured(replay: Replay) -> Callable[[], None]:
    """Warm up on a stream of its own, undo what that changed, and capture a step."""
    torch.backends.cudnn.benchmark = True
    values = [*replay.parameters, *replay.velocities]
    kept = [value.detach().clone() for value in values]
    try:
        again = _warm_and_capture(replay)
    finally:
        with torch.no_grad():
            for value, before in zip(values, kept, strict=True):
                value.copy_(before)
    return again


def _warm_and_capture(replay: Replay) -> Callable[[], None]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            replay.number.zero_()
            replay.step()
    torch.cuda.current_stream().wait_stream(side)
    for parameter in replay.parameters:
        parameter.grad = None
    replay.number.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        replay.step()
    again: Callable[[], None] = graph.replay
    return again


def _velocities(optimizer: Any, parameters: list[nn.Parameter]) -> list[Tensor]:
    """SGD's momentum of each parameter, made where it has none yet."""
    found = []
    for parameter in parameters:
        state = optimizer.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        found.append(state["momentum_buffer"])
    return found
