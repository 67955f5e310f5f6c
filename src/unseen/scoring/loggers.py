"""A run's epochs to the loggers of Lightning: TensorBoard, Weights & Biases, MLflow, CSV, or one of your own.

Nothing of theirs is imported before it is asked for.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unseen.errors import UnseenError
from unseen.runs import Run


def log_history(run: Run, loggers: Iterable[Any]) -> None:
    """Give the accuracies and losses of both halves per epoch to loggers of Lightning (TensorBoard, W&B, MLflow, CSV or your own).

    Each gets its hyperparameters (``log_hyperparams``), a call of ``log_metrics(metrics, step=epoch)`` per epoch (``seed-<n>/`` before the
    names where there are several), and ``finalize``.
    """
    import polars as pl

    history = run.history.lazy().join(run.scan("scores").filter("trained").select("index"), on="index", how="semi").collect()
    columns = [name for name in history.columns if name.startswith(("loss_", "correct_"))]
    means = history.group_by("seed", "epoch").agg(pl.col(columns).mean()).sort("seed", "epoch")
    several = means["seed"].n_unique() > 1
    settings = {name: value if isinstance(value, int | float | str) else str(value) for name, value in run.config.flat().items()}
    for logger in loggers:
        with suppress(NotImplementedError):  # of the CSV logger
            logger.log_hyperparams(settings)
        for row in means.to_dicts():
            front = f"seed-{row['seed']}/" if several else ""
            logger.log_metrics({front + name.replace("correct", "accuracy"): row[name] for name in columns}, step=row["epoch"])
        logger.finalize("success")


def make_logger(name: str, folder: Path) -> Any:
    """A logger by name: csv, tensorboard, wandb or mlflow, writing below ``folder``. Raises UnseenError where its package is missing."""
    try:
        if name in ("csv", "tensorboard"):
            import lightning_fabric.loggers as loggers

            kind = getattr(loggers, "CSVLogger" if name == "csv" else "TensorBoardLogger")
            return kind(folder, name="logs")
        if name in ("wandb", "mlflow"):
            from lightning.pytorch import loggers as pytorch_loggers

            return pytorch_loggers.WandbLogger(save_dir=folder) if name == "wandb" else pytorch_loggers.MLFlowLogger(save_dir=str(folder))
    except ImportError as error:
        packages = {"tensorboard": "tensorboard", "wandb": "lightning wandb", "mlflow": "lightning mlflow"}
        raise UnseenError(f"--logger {name} needs a package ({error}). Install it: pip install {packages.get(name, name)}.") from error
    raise UnseenError(f"--logger is {name!r}; it must be one of csv, tensorboard, wandb, mlflow.")


def make_loggers(wanted: Sequence[Any], folder: Path) -> list[Any]:
    """Loggers by name made, others as they are."""
    return [make_logger(logger, folder) if isinstance(logger, str) else logger for logger in wanted]
