"""A run that takes a second, and what two runs are compared by."""

from unseen.scoring.estimators import ESTIMATORS, TurnOverDropout

FAST = {"estimator": "turnover", "hidden": (64,), "epochs": 3, "batch_size": 16, "lr": 0.1, "precision": "32"}
FAST |= {"random_labels": 0.1, "label_noise": "other"}
TABLES = ["examples", "history", "scores", "unseen_probabilities"]


def tables(run):
    return {name: run.table(name) for name in TABLES}


def equal(one, other):
    return all(one[name].equals(other[name]) for name in TABLES)


def new_net(config, examples, model, seed):
    """A fresh network of the configured estimator."""
    return ESTIMATORS.get(config.estimator, TurnOverDropout).network(config, examples, model, seed)
