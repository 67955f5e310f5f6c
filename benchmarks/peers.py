"""The competition of the fidelity benchmark: what other methods say of the same examples.

Every method is a function from a task to one score per training example, high = suspect. FREE ones read plain training runs of our own
loop, without masks; PEERS go through the public interfaces of cleanlab, captum, traker, kronfluence, dattri and pyDVL
(`pip install -e ".[peers]"`, and pyDVL). One that is not installed, or fails, is skipped by name, with the reason.

A training run that several methods read is made once and charged to each, in so far as it needs it: up to the last epoch it looks at, and
the evaluations it looks at.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from tasks import Floats, Task, logits_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from unseen.errors import UnseenError
from unseen.gradients.statistics import gradient_norms
from unseen.training.loop import learning_rate, train
from unseen.training.networks import Ordinary


def final_loss(task: Task) -> Floats:
    return task.history("loss", [task.config.training.epochs])[0]


def cumulative_loss(task: Task) -> Floats:
    """CSL: the loss summed over the epochs (Ravikumar et al. 2024)."""
    return task.history("loss").sum(0)


def area_under_margin(task: Task) -> Floats:
    """Mean margin over the epochs (Pleiss et al. 2020), its sign turned."""
    return -task.history("margin").mean(0)


def el2n(task: Task) -> Floats:
    """Norm of softmax minus one-hot (Paul et al. 2021), mean over the first tenth of the epochs."""
    return task.history("error_norm", range(1, max(1, task.config.training.epochs // 10) + 1)).mean(0)


def el2n_short(task: Task, epoch: int = 3, runs: int = 5) -> Floats:
    """As the paper has it: after one early epoch, mean over several short runs."""
    return np.mean([task.history("error_norm", [epoch], seed)[0] for seed in short_seeds(task, runs)], axis=0)


def grand_short(task: Task, epoch: int = 3, runs: int = 5) -> Floats:
    """GraNd: norm of the gradient after an early epoch, mean over several short runs (Paul et al. 2021)."""
    nets = [task.networks([epoch], seed)[0] for seed in short_seeds(task, runs)]
    return np.mean([gradient_norms(net, task.examples).double().numpy() for net in nets], axis=0)


def grand_epochs(task: Task) -> Floats:
    """Norm of the gradient of all parameters, mean over ten epochs of one run: TracIn's sum, without the square."""
    return np.mean([gradient_norms(net, task.examples).double().numpy() for net in task.networks(task.spread(10))], axis=0)


def short_seeds(task: Task, runs: int) -> list[int]:
    return [1000 + 100 * task.seed + k for k in range(runs)]


def forgetting(task: Task) -> Floats:
    """How often right turned wrong from an epoch to the next (Toneva et al. 2019); never right counts most."""
    correct = task.history("correct")
    return np.where(correct.any(0), (np.diff(correct, axis=0) < 0).sum(0), len(correct)).astype(np.float64)


def data_map_confidence(task: Task) -> Floats:
    """Mean probability of the given label over the epochs (Swayamdipta et al. 2020), its sign turned."""
    return -np.exp(-task.history("loss")).mean(0)


def confident_learning(task: Task) -> Floats:
    """Out-of-sample self-confidence, 5 folds (cleanlab; Northcutt et al. 2021)."""
    from cleanlab.rank import get_label_quality_scores

    return 1 - np.asarray(get_label_quality_scores(task.examples.labels.numpy(), cross_validated(task)), dtype=np.float64)


def confident_learning_issues(task: Task) -> Floats:
    """What cleanlab's find_label_issues names, before all others; both by self-confidence."""
    from cleanlab.filter import find_label_issues

    suspicion = confident_learning(task)
    return suspicion + find_label_issues(task.examples.labels.numpy(), task.kept[task.seed, "folds"][0], n_jobs=1)


def cross_validated(task: Task, folds: int = 5) -> Floats:
    """Class probabilities of each example from the network that was trained without its fold: (n, classes)."""

    def make() -> Floats:
        fold = torch.randperm(len(task.examples), generator=torch.Generator().manual_seed(task.seed)) % folds
        chances = torch.zeros(len(task.examples), len(task.examples.classes), dtype=torch.float64)
        for held_out in range(folds):
            net = Ordinary(task.build(task.seed + held_out))
            for _ in train(net, task.examples.select(fold != held_out), task.config.training, task.seed + held_out):
                pass
            chances[fold == held_out] = logits_of(net.net, task.examples.select(fold == held_out)).double().softmax(1)
        return chances.numpy()

    chances, seconds = task.keep((task.seed, "folds"), make)
    task.charged += seconds
    return chances  # type: ignore[no-any-return]


def tracin(task: Task, checkpoints: int = 10) -> Floats:
    """Self-influence in the last layer over ten epochs (captum TracInCPFast; Pruthi et al. 2020)."""
    from captum.influence import TracInCPFast

    epochs = task.spread(checkpoints)
    states = {str(epoch): net.state_dict() for epoch, net in zip(epochs, task.networks(epochs), strict=True)}

    def load(net: nn.Module, epoch: str) -> float:
        net.load_state_dict(states[epoch])
        return learning_rate(task.config.training, int(epoch) - 1)

    last = next(name for name, module in reversed(list(task.build().named_modules())) if isinstance(module, nn.Linear))
    method = TracInCPFast(task.build(), last, task.loader(), list(states), load, nn.CrossEntropyLoss(reduction="sum"))
    return method.self_influence(outer_loop_by_checkpoints=True).double().numpy()


def trak(task: Task, dimensions: int = 512) -> Floats:
    """Self-influence of one trained network, gradients projected to 512 numbers (traker; Park et al. 2023)."""
    from trak import TRAKer

    net, count = task.networks([task.config.training.epochs])[0], len(task.examples)
    state = net.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"proj_dim": dimensions, "projector_seed": task.seed, "use_half_precision": False}
        method = TRAKer(net, "image_classification", count, folder, device="cpu", logging_level=40, **options)
        method.load_checkpoint(state, model_id=0)
        for batch in task.loader(500):
            method.featurize(batch=batch, num_samples=len(batch[1]))
        method.finalize_features()
        method.start_scoring_checkpoint("self", state, model_id=0, num_targets=count)
        for batch in task.loader(500):
            method.score(batch=batch, num_samples=len(batch[1]))
        return np.diagonal(method.finalize_scores("self")).astype(np.float64)


def ekfac(task: Task) -> Floats:
    """Self-influence under the eigenvalue-corrected Kronecker-factored curvature (kronfluence; Grosse et al. 2023)."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task as Interface

    class Classification(Interface):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            logits = model(batch[0])
            labels = torch.multinomial(logits.detach().softmax(1), 1).squeeze(1) if sample else batch[1]
            return F.cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

    torch.manual_seed(task.seed)
    interface, data = Classification(), TensorDataset(*task.tensors())
    net = prepare_model(task.networks([task.config.training.epochs])[0], interface)
    with tempfile.TemporaryDirectory() as folder:
        method = Analyzer("peer", net, interface, cpu=True, output_dir=folder, disable_tqdm=True, log_level=40)
        method.fit_all_factors("factors", data, per_device_batch_size=250)
        heuristic = ScoreArguments(damping_factor=None)  # 0.1 of the mean eigenvalue; the default, 1e-8, is for exact curvature
        method.compute_self_scores("self", "factors", data, per_device_train_batch_size=250, score_args=heuristic)
        return method.load_self_scores("self")["all_modules"].double().numpy()


def influence_function(task: Task, eigenvectors: int = 20, iterations: int = 60) -> Floats:
    """Self-influence in the span of the Hessian's largest eigenvectors (dattri, Arnoldi; Schioppa et al. 2022).

    From the diagonals of `attribute` on 250 examples at a time; `self_attribute` of dattri 0.3.0 takes one batch only, and its
    gradients are formed. Of few iterations the smallest eigenvalues are negative, which it turns into NaN: 20 of 60 are kept.
    """
    from dattri.algorithm import IFAttributorArnoldi
    from dattri.task import AttributionTask

    net = task.networks([task.config.training.epochs])[0]

    def loss(weights: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(net, weights, data[0]), data[1])

    options = {"proj_dim": eigenvectors, "max_iter": iterations, "seed": task.seed}
    method = IFAttributorArnoldi(AttributionTask(loss, net, net.state_dict()), **options)
    method.cache(task.loader(len(task.examples)))
    parts = [DataLoader(TensorDataset(*batch), batch_size=len(batch[1])) for batch in task.loader()]
    return torch.cat([method.attribute(part, part).diagonal().double() for part in parts]).numpy()


def nystroem(task: Task, rank: int = 20, damping: float = 0.1) -> Floats:
    """Self-influence under a low-rank sketch of the Gauss-Newton matrix, damped (pyDVL, Nystroem)."""
    from pydvl.influence import SecondOrderMode
    from pydvl.influence.torch import NystroemSketchInfluence

    net = task.networks([task.config.training.epochs])[0]
    method = NystroemSketchInfluence(
        net, F.cross_entropy, regularization=damping, rank=rank, second_order_mode=SecondOrderMode.GAUSS_NEWTON
    ).fit(task.loader())
    return torch.cat([method.influences(*batch, *batch).diagonal().double() for batch in task.loader(50)]).detach().numpy()


def knn_shapley(task: Task, neighbours: int = 5) -> Floats:
    """Shapley value of each example for nearest neighbours in pixels to get the other half right (pyDVL), its sign turned."""
    from pydvl.valuation import Dataset, KNNShapleyValuation
    from sklearn.neighbors import KNeighborsClassifier

    x, labels = task.tensors()
    if x.dim() == 3:
        raise UnseenError("takes vectors, and these are texts")
    flat, half = x.flatten(1).numpy(), np.random.default_rng(task.seed).permutation(len(labels)) % 2 == 0
    values = np.zeros(len(labels))
    for own in (half, ~half):
        data = [Dataset(flat[rows], labels.numpy()[rows]) for rows in (own, ~own)]
        found = KNNShapleyValuation(KNeighborsClassifier(neighbours), data[1], progress=False).fit(data[0]).result
        values[own] = np.asarray(found.sort("asc", key="index").values)
    return -values


def bergson(task: Task) -> Floats:
    """Gradients of language models on disk (EleutherAI)."""
    import bergson  # noqa: F401

    raise UnseenError("its interface takes language models of Hugging Face and data sets of tokens")


FREE: dict[str, Callable[[Task], Floats]] = {
    "final loss": final_loss,
    "CSL": cumulative_loss,
    "AUM": area_under_margin,
    "EL2N": el2n,
    "EL2N epoch 3, 5 runs": el2n_short,
    "EL2N epoch 1, 5 runs": partial(el2n_short, epoch=1),
    "GraNd epoch 3, 5 runs": grand_short,
    "GraNd mean of 10 epochs": grand_epochs,
    "forgetting": forgetting,
    "data map confidence": data_map_confidence,
}
PEERS: dict[str, Callable[[Task], Floats]] = {
    "confident learning, 5 folds (cleanlab)": confident_learning,
    "confident learning, issues first (cleanlab)": confident_learning_issues,
    "TracIn last layer (captum)": tracin,
    "TRAK, 1 model (traker)": trak,
    "EK-FAC (kronfluence)": ekfac,
    "influence function, Arnoldi (dattri)": influence_function,
    "influence function, Nystroem (pyDVL)": nystroem,
    "Shapley value of 5 neighbours (pyDVL)": knn_shapley,
    "gradients of language models (bergson)": bergson,
}
MODULES = ("cleanlab.filter", "cleanlab.rank", "captum.influence", "trak", "kronfluence.analyzer", "dattri.algorithm")
MODULES += ("pydvl.influence.torch", "pydvl.valuation", "bergson")
"""Imported before the clock runs, which is not the method's cost."""
STATED = {"data map confidence", "confident learning, 5 folds (cleanlab)"}
"""Whose score is a probability that the label is wrong."""
