"""The networks of a run as they were scored, from the weights that it keeps."""

from collections.abc import Iterator

from torch import Tensor, nn

from unseen.config import Config
from unseen.data import Examples
from unseen.runs import Run
from unseen.scoring.estimators import estimator_of
from unseen.scoring.estimators.keeping import kept_weights
from unseen.training import learning_rate


def saved_network(run: Run, config: Config, examples: Examples, seed: int, model: nn.Module | None = None) -> nn.Module:
    """The network of one seed, or its members, or its head.

    Args:
        run: that kept its weights.
        config: the run's.
        examples: the run's, on the device where the network is wanted.
        seed: one of the run's.
        model: what the run was made of, where that was not a name.

    Raises:
        UnseenError: where the weights are missing, or of another network.
    """
    net: nn.Module = estimator_of(config).restored(run, config, examples, seed, model)
    return net.eval()


def saved_epochs(run: Run, seed: int, net: nn.Module) -> Iterator[tuple[int, dict[str, Tensor], float]]:
    """Number, weights and learning rate of the saved epochs (weights/seed-S-epoch-N.safetensors); of the last where none were."""
    training = run.config.training
    paths = sorted((run.path / "weights").glob(f"seed-{seed}-epoch-*.safetensors"))
    for path in paths:
        number = int(path.stem.rpartition("-")[2])
        yield number, kept_weights(run, path.stem, net), learning_rate(training, number - 0.5)
    if not paths:
        yield training.epochs, kept_weights(run, f"seed-{seed}", net), 1.0
