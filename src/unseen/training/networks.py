"""Networks as training takes them: fresh for a seed, ordinary, or many of one architecture as one."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from unseen.config import NetworkOptions
from unseen.data import Examples
from unseen.masks import classifier, first_rows, warn_of_probabilities
from unseen.models import build


class Ordinary(nn.Module):
    """A network without masks, called as the training loop calls: with an index, which it has no use for.

    Training it gives the ordinary training run to compare with, and the scores that need no halves; memorization it has none.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits of ``x``, (batch, classes)."""
        out: Tensor = self.net(x)
        return out


def new_network(network: NetworkOptions, examples: Examples, seed: int, model: nn.Module | None = None, anew: bool = False) -> nn.Module:
    """A network without masks, its weights a function of the seed.

    Args:
        network: which of ours, and how wide.
        examples: for their shape and classes.
        seed: of the weights.
        model: a network of the user's in place of ours; it is copied.
        anew: start its modules that can (``reset_parameters``) anew under the seed; otherwise its weights are kept.

    Raises:
        UnseenError: a network of the user's that gives no logits of these classes; see ``classifier``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model is None:
            return build(network.model, examples.shape, len(examples.classes), network.hidden, network.width, network.output_bias)
        net = copy.deepcopy(model)
        for module in net.modules() if anew else ():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return classifier(net, _first_batch(examples), len(examples.classes))


def look_at(net: nn.Module, examples: Examples) -> None:
    """Warn where a network of the user's own gives probabilities in place of logits."""
    warn_of_probabilities(net, _first_batch(examples))


def _first_batch(examples: Examples) -> Tensor:
    return examples.batch(first_rows(len(examples), len(examples.classes)))[0]


class Members(nn.Module):
    """K networks of one architecture: ``members(x)`` gives the logits of all, (K, batch, classes).

    Args:
        nets: equal but for their weights. They are copied: parameters of this module are theirs, stacked, (K, ...).

    One batched forward; on a CPU networks with convolutions or bags of embeddings run one after the other, since K convolutions as one
    grouped convolution take three times as long, and ``vmap`` has no rule for bags. Buffers (running statistics) are stacked too. A batch
    norm mixes the examples of a batch, so a member's statistics come from examples outside it also.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.shell = [nets[0]]  # in a list: its weights are not this module's
        self.in_turn = any(isinstance(module, nn.modules.conv._ConvNd | nn.EmbeddingBag) for module in nets[0].modules())
        weights, buffers = torch.func.stack_module_state(list(nets))
        self.names, self.buffer_names = list(weights), list(buffers)
        self.stacked = nn.ParameterList([nn.Parameter(value.detach(), value.requires_grad) for value in weights.values()])
        for name, value in buffers.items():
            self.register_buffer(name.replace(".", "-"), value)

    @classmethod
    def joined(cls, blocks: "Sequence[Members]") -> "Members":
        """The networks of all blocks, one block after the other; copies. They are of one architecture."""
        found = cls.__new__(cls)
        nn.Module.__init__(found)
        first = blocks[0]
        found.shell, found.in_turn, found.names, found.buffer_names = first.shell, first.in_turn, first.names, first.buffer_names
        stacked = [torch.cat([block.weights[name].detach() for block in blocks]) for name in first.names]
        trains = [first.weights[name].requires_grad for name in first.names]
        found.stacked = nn.ParameterList([nn.Parameter(value, own) for value, own in zip(stacked, trains, strict=True)])
        for name in first.buffer_names:
            found.register_buffer(name.replace(".", "-"), torch.cat([block.state[name] for block in blocks]))
        return found

    def __len__(self) -> int:
        """How many networks, K."""
        return len(self.stacked[0])

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters by name, stacked: (K, ...)."""
        return dict(zip(self.names, self.stacked, strict=True))

    @property
    def state(self) -> dict[str, Tensor]:
        """Buffers by name, stacked: (K, ...)."""
        return {name: getattr(self, name.replace(".", "-")) for name in self.buffer_names}

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (batch, ...) to logits (K, batch, classes)."""
        call: Callable[..., Tensor] = lambda weights, state: torch.func.functional_call(self.shell[0], (weights, state), (x,))
        if x.is_cuda or not self.in_turn:
            with sdpa_kernel(SDPBackend.MATH):  # on a card the fused kernels of attention gave no finite numbers here (LOG.md)
                logits: Tensor = torch.vmap(call, randomness="different")(self.weights, self.state)
            return logits
        return torch.stack([call(*own) for own in zip(self._unstacked(self.weights), self._unstacked(self.state), strict=True)])

    def _unstacked(self, stacked: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """One dictionary per member; unbinding all at once keeps the gradient cheap."""
        parts = zip(*(torch.unbind(value) for value in stacked.values()), strict=True)
        return [dict(zip(stacked, own, strict=True)) for own in parts] or [{}] * len(self)

    def member(self, number: int) -> dict[str, Tensor]:
        """The ``state_dict`` of one network."""
        return {name: value[number].detach() for name, value in (self.weights | self.state).items()}
