"""From any source to ``Examples``: read, check, split, standardise.

>>> examples = load("digits", limit=100)
>>> x, y, index = examples.train.batch(torch.arange(32))
>>> x.shape, x.dtype, len(examples.train)
(torch.Size([32, 1, 8, 8]), torch.float32, 100)
"""

from pathlib import Path

import torch
from torch import Tensor

from unseen.data.checks import check_classes, check_finite, checked_ids, checked_index, encode_labels
from unseen.data.examples import Examples, rows, take
from unseen.data.frames import Columns, Raw
from unseen.data.images import Lazy, read_pictures
from unseen.data.moments import Moments
from unseen.data.sources import data_folder, read
from unseen.errors import UnseenError, needs
from unseen.hashing import uniform

HUB_IDS = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}
LARGEST_SAMPLE = 10_000


def load(
    data: object,
    *,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    target: str | None = None,
    image_column: str | None = None,
    text: str | None = None,
    id_column: str | None = None,
    test_fraction: float = 0.2,
    image_size: int | None = None,
    seed: int = 0,
    memory_gib: float = 4.0,
) -> Examples:
    """Load a data set of any of these kinds.

    - ``digits`` (comes with scikit-learn), ``mnist``, ``fashion-mnist``, ``cifar10``;
    - an image folder: a folder per class, or ``train/`` and ``test/`` (or ``val/``) with such folders; a folder of
      MNIST-format IDX files or of the hub's parquet files;
    - a table: ``.csv``, ``.tsv`` or ``.parquet`` with a column of labels; a parquet column of images makes it a set of
      images; a column ``index`` becomes the index;
    - ``.npz`` with x and y, x_train, y_train, x_test and y_test, or images and labels;
    - ``hf:owner/name``, which fetches from the Hugging Face hub, a ``datasets.Dataset`` or ``DatasetDict``;
    - a torch data set of (x, y) with a length, or a pair of them, train and test;
    - arrays: (x_train, y_train) or (x_train, y_train, x_test, y_test);
    - ``Examples``, which come back as they are, cut to ``limit``.

    Labels are integers or text. Classes are those that the source declares, else the sorted values.

    Args:
        data: what to load.
        data_dir: where named sets lie; else the environment's UNSEEN_DATA, else ./data.
        limit, test_limit: keep the first so many train examples, and test examples.
        target: the column of labels; by default ``label``, ``labels`` or ``target``.
        image_column: the column of images; by default found by its type.
        text: the column of texts, which become the only input.
        id_column: the column (or array of an npz) that names each example.
        test_fraction: share held out where there is no test split: the examples with uniform(index, seed, "test")
            below it, so that it stays put when rows are added.
        image_size: side in pixels to which images are resized; see ``images.read_pictures`` for the default.
        seed: of the held-out choice.
        memory_gib: larger inputs of images stay on disk and are read batch by batch; mean and std then come from the
            10,000 train examples with the smallest uniform(index, "standardise").

    Raises:
        UnseenError: for data that cannot be used, naming the place and the next step.
    """
    _check_options(limit, test_limit, test_fraction, image_size)
    if isinstance(data, Examples):
        is_test = torch.tensor([split == "test" for split in data.split])
        return data if limit is None and test_limit is None else data.select(_kept(is_test, limit, test_limit))
    raw = read(data, data_dir, Columns(target, image_column, id_column, text))
    return examples_of(raw, (limit, test_limit), test_fraction, image_size, seed, memory_gib)


def download(name: str, data_dir: str | Path | None = None) -> Path:
    """Fetch ``mnist``, ``fashion-mnist`` or ``cifar10`` from the Hugging Face hub to DIR/name, and say so.

    Args: data_dir as in ``load``. Returns the folder, which holds train-00000-of-00001.parquet and the same for test.
    """
    if name not in HUB_IDS:
        raise UnseenError(f"Cannot fetch {name!r}. Allowed: {', '.join(HUB_IDS)} (digits needs no download).")
    try:
        import datasets
    except ImportError as error:
        raise needs("hub", error) from error

    folder = data_folder(data_dir) / name
    print(f"Fetching {HUB_IDS[name]} from the Hugging Face hub to {folder}")
    try:
        splits = datasets.load_dataset(HUB_IDS[name])
    except (OSError, ValueError, RuntimeError) as error:
        raise UnseenError(f"Cannot fetch {HUB_IDS[name]}: {error}. Check the connection and try again.") from error
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("test", "train"):  # train last: a folder with it is whole
        partial_file = folder / f"{split}.part"
        splits[split].to_parquet(partial_file)
        partial_file.rename(folder / f"{split}-00000-of-00001.parquet")
    return folder


def examples_of(
    raw: Raw,
    limits: tuple[int | None, int | None] = (None, None),
    test_fraction: float = 0.2,
    image_size: int | None = None,
    seed: int = 0,
    memory_gib: float = 4.0,
    is_piece: bool = False,
) -> Examples:
    """Check what a source gave, split it, and read the inputs that are kept. A piece of a larger set keeps mean 0 and std 1."""
    count = len(raw.labels)
    if not count:
        raise UnseenError(f"The data set {raw.name!r} is empty. Allowed: at least two classes of examples. Add some.")
    ids = checked_ids(raw)
    labels, classes = encode_labels(raw.labels, raw.classes, ids)
    index = checked_index(raw.index, count, ids)
    test = uniform(index, seed, "test") < test_fraction if raw.test is None else raw.test
    kept = _kept(test, *limits)
    train_count = int((~test[kept]).sum())
    if not is_piece:
        check_classes(labels[kept[:train_count]], classes, limits[0])
    inputs = rows(raw.inputs, kept) if isinstance(raw.inputs, Tensor) else read_pictures(raw.inputs, kept, image_size, memory_gib)
    kept_ids = [ids[i] for i in kept.tolist()]
    check_finite(inputs, kept_ids, raw.columns)
    mean, std = torch.zeros(inputs.shape[1]), torch.ones(inputs.shape[1])
    if raw.texts is None and not is_piece:
        mean, std = mean_and_std(take(inputs, torch.arange(train_count)), index[kept[:train_count]])
    return Examples(
        inputs=inputs,
        labels=labels[kept],
        index=index[kept],
        ids=kept_ids,
        split=["train"] * train_count + ["test"] * (len(kept) - train_count),
        classes=classes,
        mean=mean,
        std=std,
        name=raw.name,
        texts=None if raw.texts is None else [raw.texts[i] for i in kept.tolist()],
    )


def _kept(test: Tensor, limit: int | None, test_limit: int | None) -> Tensor:
    """Positions of the first ``limit`` train examples, then of the first ``test_limit`` test examples."""
    return torch.cat([(~test).nonzero()[:limit, 0], test.nonzero()[:test_limit, 0]])


def _check_options(limit: int | None, test_limit: int | None, test_fraction: float, image_size: int | None) -> None:
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 2):
        raise UnseenError(f"limit is {limit!r}. Allowed: an integer of at least 2. Leave it out to keep all.")
    if test_limit is not None and test_limit < 1:
        raise UnseenError(f"test_limit is {test_limit!r}. Allowed: an integer of at least 1. Leave it out to keep all.")
    if not 0 <= test_fraction < 1:
        raise UnseenError(f"test_fraction is {test_fraction!r}. Allowed: 0 (no test split) up to below 1. Try 0.2.")
    if image_size is not None and image_size < 1:
        raise UnseenError(f"image_size is {image_size!r}. Allowed: a side of at least 1 pixel. Try 32.")


def mean_and_std(inputs: Tensor | Lazy, index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel or feature; of ``Lazy`` inputs those of a sample."""
    if isinstance(inputs, Lazy):
        inputs = inputs.gather(uniform(index, "standardise").argsort()[:LARGEST_SAMPLE].sort().values)
    return Moments.of(inputs).mean_and_std()
