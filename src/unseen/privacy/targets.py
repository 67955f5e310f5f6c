"""The user's own network as the target: a callable, a file of weights, or a table of logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples
from unseen.errors import UnseenError
from unseen.privacy.signals import Floats, log_odds_of_logits
from unseen.training import channels_last, new_network

Target = Tensor | np.ndarray[Any, Any] | Callable[[Tensor], Tensor] | str | Path
SUFFIXES = (".npy", ".safetensors")


def target_log_odds(target: Target, config: Config, examples: Examples, model: nn.Module | None = None) -> Floats:
    """What a network says of the given label of each record, as log-odds: float64 (records,).

    Args:
        target: logits (records, classes) as an array or tensor; a module or another callable from standardised inputs (batch, ...) to
            logits; a file: .npy with logits, or .safetensors with the weights of the run's network (its ``state_dict``) or a tensor
            called logits.
        config: the run's.
        examples: the records, train before test.
        model: the run's network, where it is the user's own.

    Raises:
        UnseenError: for files that cannot be read, weights of another network, logits of another shape, of other classes or with NaN.
    """
    found: Any = _read(Path(target), config, examples, model) if isinstance(target, str | Path) else target
    if not isinstance(found, Tensor | np.ndarray):
        found = _logits(found, examples)
    values = found.detach().cpu().double().numpy() if isinstance(found, Tensor) else found
    return log_odds_of_logits(values, examples.labels.cpu().numpy(), len(examples.classes))


@torch.no_grad()
def _logits(call: Callable[[Tensor], Tensor], examples: Examples, batch_size: int = 512) -> Tensor:
    """Of all records, in evaluation mode, after which a module is as it was."""
    training = isinstance(call, nn.Module) and call.training
    if isinstance(call, nn.Module):
        call.eval()
    try:
        parts = [call(channels_last(examples.batch(positions)[0])) for positions in torch.arange(len(examples)).split(batch_size)]
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnseenError(
            f"The target cannot take inputs of the shape {examples.shape} ({error}). It takes what the run's does."
        ) from error
    finally:
        if isinstance(call, nn.Module):
            call.train(training)
    if not all(isinstance(part, Tensor) and part.dim() == 2 for part in parts):
        raise UnseenError("The target does not give a tensor of logits (batch, classes). Wrap it in a function that does.")
    return torch.cat(parts).float()


def _read(path: Path, config: Config, examples: Examples, model: nn.Module | None) -> Any:
    if path.suffix not in SUFFIXES or not path.is_file():
        raise UnseenError(f"--target is {path}; it must be a file: .npy with logits, or .safetensors with weights or logits.")
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UnseenError(f"{path} cannot be read as an array ({error}). Write it with numpy.save, of numbers.") from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UnseenError(f"{path} is not a safetensors file ({error}). Write it with safetensors.torch.save_file.") from error
    return tensors["logits"] if "logits" in tensors else _network(path, tensors, config, examples, model)


def _network(path: Path, tensors: dict[str, Tensor], config: Config, examples: Examples, model: nn.Module | None) -> nn.Module:
    net = new_network(config.network, examples, config.seed, model)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:200]
        raise UnseenError(
            f"{path} holds weights of another network than the run's {config.network.model} ({problem}). Give logits."
        ) from error
    return net
