"""Weights of a run's networks, read back."""

from torch import Tensor, nn

from unseen.runs import Run
from unseen.training import Members


def with_kept_weights(net: nn.Module, run: Run, name: str) -> nn.Module:
    """The network with the weights of a file of the run."""
    own = _tensors(net)
    for key, value in kept_weights(run, name, net).items():
        own[key].data.copy_(value)
    return net


def kept_weights(run: Run, name: str, net: nn.Module) -> dict[str, Tensor]:
    """The network's weights of a file of the run: the mean of the last epochs' where it holds one."""
    own = _tensors(net)
    found, _ = run.read_like(name, {f"net.{key}": value for key, value in own.items()})
    prefix = "mean." if any(key.startswith("mean.") for key in found) else "net."
    return {key: found[f"{prefix}{key}"] for key in own}


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """What is saved of a network, by name; not copies."""
    return net.weights | net.state if isinstance(net, Members) else net.state_dict()
