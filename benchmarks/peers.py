"""The competition of the fidelity benchmark: what other methods say of the same examples, and what each costs.

    python benchmarks/peers.py --task T1 --seeds 3 --out peers.npz --json peers.json [--truth truth.parquet]

Every method is a function from a task to one score per training example, high = suspect. FREE ones read plain training runs of
our own loop, without masks; PEERS go through the public interfaces of cleanlab, captum, traker, kronfluence and dattri
(`pip install -e ".[peers]"`). One that is not installed, or fails, is skipped by name, with the reason, in print and in the JSON.

Cost is in plain training runs: the method's seconds over those of a run without evaluation, the median of several in the
same process. Seconds are of processor time, all threads, because they bear other jobs on the machine. A training run that
several methods read is made once and charged to each, in so far as it needs it: up to the last epoch it looks at, and the
evaluations it looks at.

The tasks are in tasks.py.
"""

import argparse
import contextlib
import importlib
import io
import json
import signal
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tasks import TASKS, Floats, Task, clock, load_task, logits_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from unseen.errors import UnseenError
from unseen.gradients.statistics import gradient_norms
from unseen.scoring.scores import detection
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
            for _ in train(net, task.examples.select(fold != held_out), task.config, task.seed + held_out):
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
        return learning_rate(task.config, int(epoch) - 1)

    method = TracInCPFast(task.build(), "output", task.loader(), list(states), load, nn.CrossEntropyLoss(reduction="sum"))
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
}
METHODS = FREE | PEERS
MODULES = ("cleanlab.filter", "cleanlab.rank", "captum.influence", "trak", "kronfluence.analyzer", "dattri.algorithm")


def run_peers(
    task: Task, seeds: Iterable[int] = (0,), names: Iterable[str] | None = None, peer_seeds: int = 1, minutes: float = 10
) -> list[dict[str, Any]]:
    """Every method under every seed; PEERS under the first ``peer_seeds`` of them only, and for so many minutes of processor time.

    Returns rows: method, seed, seconds, cost (in plain runs), score, float64 (n,). One that failed has ``skipped``, the reason,
    in place of the last three.
    """
    for module in MODULES:  # importing is not the method's cost
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    chosen = [name for name in METHODS if names is None or any(part.lower() in name.lower() for part in names)]
    task.plain_seconds()  # warms up
    plain, rows = [task.plain_seconds()], []
    for number, seed in enumerate(seeds):
        task.seed = seed
        for name in chosen:
            if name in FREE or number < peer_seeds:
                rows.append({"method": name, "seed": seed} | _attempt(task, name, minutes))
                print(f"{task.name} seed {seed} {name}: {rows[-1].get('skipped') or format(rows[-1]['seconds'], '.1f') + ' s'}", flush=True)
        plain.append(task.plain_seconds())
    plain += [sum(kept[0].train_seconds) for key, kept in task.kept.items() if key[1] == task.config.training.epochs]
    for row in rows:
        row |= {"plain_seconds": statistics.median(plain)}
        if "skipped" not in row:
            row["cost"] = row["seconds"] / row["plain_seconds"]
    return rows


def _attempt(task: Task, name: str, minutes: float) -> dict[str, Any]:
    """Score and seconds of a method, or why there are none."""

    def too_long(*_: Any) -> None:
        raise TimeoutError(f"more than {minutes:g} minutes of processor time")

    task.shared = task.charged = 0.0
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, 0 if name in FREE else 60 * minutes)
    start, noise = clock(), io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise):
            warnings.simplefilter("ignore")  # of the peers' libraries
            score = METHODS[name](task)
    except Exception as error:
        if name in FREE:
            raise
        return {"skipped": f"skipped, {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if bad := int((~np.isfinite(score)).sum()):
        return {"skipped": f"skipped, {bad} scores are not finite"}
    return {"seconds": clock() - start - task.shared + task.charged, "score": score}


def judge(task: Task, score: Floats, truth: Floats | None) -> dict[str, float]:
    """AUROC and average precision for the wrong labels; Spearman with the truth on all and on correct labels."""
    from scipy.stats import spearmanr

    wrong = (task.examples.labels != task.examples.true_labels).numpy()
    found = detection(wrong, score)
    if truth is not None:
        found["spearman"] = float(spearmanr(score, truth).statistic)
        found["spearman_correct"] = float(spearmanr(score[~wrong], truth[~wrong]).statistic)
    return found


def table(task: Task, rows: list[dict[str, Any]], truth: Floats | None) -> list[dict[str, Any]]:
    """A line per method: the first seed's score, judged; another for the mean of the scores of its seeds, where there are several."""
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        scored = [row for row in own if "score" in row]
        lines += [{"score": name, "skipped": row["skipped"]} for row in own if "skipped" in row]
        for count in sorted({1, len(scored)} if scored else set()):
            mean = np.mean([row["score"] for row in scored[:count]], axis=0)
            cost = {key: sum(row[key] for row in scored[:count]) for key in ("seconds", "cost")}
            lines.append({"score": name, "seeds": count} | cost | judge(task, mean, truth))
    return lines


def read_truth(path: Path, column: str, task: Task) -> Floats:
    """The column, in the order of the task's examples."""
    import polars as pl

    frame = pl.read_parquet(path).select("index", column)
    joined = pl.DataFrame({"index": task.examples.index.numpy()}).join(frame, on="index", how="left", maintain_order="left")
    if joined[column].null_count():
        raise UnseenError(f"{path} lacks {joined[column].null_count()} of the examples of {task.name}. Give the truth of this task.")
    return joined[column].to_numpy().astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--data-dir", help="where the data sets lie; else UNSEEN_DATA")
    parser.add_argument("--seeds", type=int, default=1, help="runs of the methods that read plain runs")
    parser.add_argument("--peer-seeds", type=int, default=1, help="runs of the libraries")
    parser.add_argument("--only", nargs="+", metavar="PART", help="methods whose name contains one of these")
    parser.add_argument("--truth", type=Path, help="parquet with index and --truth-column")
    parser.add_argument("--truth-column", default="memorization")
    parser.add_argument("--out", type=Path, help="scores: <method>|<seed>, with index, given_label and true_label (.npz)")
    parser.add_argument("--json", type=Path, help="the table")
    options = parser.parse_args()
    task = load_task(options.task, options.data_dir)
    rows = run_peers(task, range(options.seeds), options.only, options.peer_seeds)
    truth = read_truth(options.truth, options.truth_column, task) if options.truth else None
    lines = table(task, rows, truth)
    if options.out:
        e = task.examples
        labels = {"index": e.index.numpy(), "given_label": e.labels.numpy(), "true_label": e.true_labels.numpy()}
        np.savez_compressed(options.out, **labels, **{f"{r['method']}|{r['seed']}": r["score"] for r in rows if "score" in r})
    if options.json:
        about = {"task": task.name, "plain_seconds": rows[0]["plain_seconds"], "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps(about | {"rows": lines}, indent=1) + "\n")
    _show(lines)


def _show(lines: list[dict[str, Any]]) -> None:
    columns = [key for key in ("cost", "auroc", "average_precision", "spearman", "spearman_correct") if any(key in x for x in lines)]
    print(f"{'score':46}{'seeds':>6}" + "".join(f"{column:>18}" for column in columns))
    for line in lines:
        if "skipped" in line:
            print(f"{line['score']:46} {line['skipped']}")
        else:
            print(f"{line['score']:46}{line['seeds']:6}" + "".join(f"{line[column]:18.3f}" for column in columns))


if __name__ == "__main__":
    main()
