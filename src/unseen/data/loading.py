"""From any source to ``Examples``: read, check, split, standardise.

>>> examples = load("digits", limit=100)
>>> x, y, index = examples.train.batch(torch.arange(32))
>>> x.shape, x.dtype, len(examples.train)
(torch.Size([32, 1, 8, 8]), torch.float32, 100)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unseen.data.checks import check_finite, checked_ids, checked_index
from unseen.data.decoding import DamagedError
from unseen.data.examples import Examples, rows, take
from unseen.data.images import Lazy, Survey
from unseen.data.labels import check_classes, encode_labels
from unseen.data.moments import Moments
from unseen.data.picturing import read_pictures
from unseen.data.precision import narrowed
from unseen.data.raw import Columns, Raw
from unseen.data.reading import Reading, Skipped
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
    split_column: str | None = None,
    drop: str | Sequence[str] = (),
    separator: str | None = None,
    encoding: str | None = None,
    skip_damaged: bool = False,
    test_fraction: float = 0.2,
    image_size: int | None = None,
    seed: int = 0,
    memory_gib: float = 4.0,
    say: Callable[[str], None] | None = None,
) -> Examples:
    """Load a data set of any of these kinds.

    - ``digits`` (comes with scikit-learn), ``mnist``, ``fashion-mnist``, ``cifar10``;
    - an image folder: a folder per class, or folders of splits (train, test, val in any usual spelling, all of them read) with such
      folders; pictures beside a table that names them, such as the hub's ``metadata.csv``; a folder of MNIST-format IDX files, or of
      parquet or CSV files, which may be named after splits;
    - a table: ``.csv``, ``.tsv`` or ``.parquet``, or a pandas or Polars data frame, with a column of labels; a column of images or of
      their paths makes it a set of images; a column ``index`` becomes the index;
    - ``.npz`` with x and y, x_train, y_train, x_test and y_test, or images and labels;
    - ``hf:owner/name[@revision]``, which fetches from the Hugging Face hub, a ``datasets.Dataset`` or ``DatasetDict``;
    - a torch data set of (x, y) with a length, or a pair of them, train and test;
    - arrays: (x_train, y_train) or (x_train, y_train, x_test, y_test);
    - ``Examples``, which come back as they are, cut to ``limit``.

    Labels are integers or text, or one-hot or soft rows. Classes are those that the source declares, else the sorted values. What was
    read, and what was not, stands in ``Examples.reading``.

    Args:
        data: what to load.
        data_dir: where named sets lie; else the environment's UNSEEN_DATA, else ./data.
        limit: keep the first so many train examples.
        test_limit: keep the first so many test examples.
        target: the column of labels; by default ``label``, ``labels`` or ``target``.
        image_column: the column of images, or of their paths relative to the table; by default found by its type, name and content.
        text: the column of texts, which become the only input.
        id_column: the column (or array of an npz) that names each example.
        split_column: the column that says of each row which split it is in; by default ``split``, where all its values name splits.
        drop: names of columns that are left out.
        separator: of a CSV; by default found by looking at it.
        encoding: of a CSV; by default found by looking at it.
        skip_damaged: leave damaged pictures out, and say so, in place of refusing them.
        test_fraction: share held out where there is no test split: the examples with uniform(index, seed, "test") below it, so that it
            stays put when rows are added.
        image_size: side in pixels to which images are resized; see ``picturing.read_pictures`` for the default.
        seed: of the held-out choice.
        memory_gib: larger inputs of images stay on disk and are read batch by batch; mean and std then come from the 10,000 train examples
            with the smallest uniform(index, "standardise").
        say: called with a sentence, before pictures are read that will take more than ten seconds.

    Raises:
        UnseenError: for data that cannot be used, naming the place and the next step.
    """
    check_options(limit, test_limit, test_fraction, image_size)
    columns = columns_of(target, image_column, id_column, text, split_column, drop, separator, encoding)
    raw = data if isinstance(data, Examples | Raw) else read(data, data_dir, columns)
    if isinstance(raw, Examples):
        is_test = torch.tensor([split == "test" for split in raw.split])
        return raw if limit is None and test_limit is None else raw.select(_kept(is_test, limit, test_limit))
    return examples_of(raw, (limit, test_limit), test_fraction, image_size, seed, memory_gib, skip_damaged=skip_damaged, say=say)


def columns_of(
    target: str | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    text: str | None = None,
    split_column: str | None = None,
    drop: str | Sequence[str] = (),
    separator: str | None = None,
    encoding: str | None = None,
) -> Columns:
    """What ``load`` is told of columns."""
    return Columns(
        target, image_column, id_column, text, split_column, (drop,) if isinstance(drop, str) else tuple(drop), separator, encoding
    )


def download(name: str, data_dir: str | Path | None = None) -> Path:
    """Fetch ``mnist``, ``fashion-mnist`` or ``cifar10`` from the Hugging Face hub to DIR/name, and say so.

    Args:
        name: which of the three.
        data_dir: DIR; else the environment's UNSEEN_DATA, else ./data.

    Returns:
        The folder, which holds train-00000-of-00001.parquet and the same for test.
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
    skip_damaged: bool = False,
    say: Callable[[str], None] | None = None,
) -> Examples:
    """Check what a source gave, split it, and read the inputs that are kept. A piece of a larger set keeps mean 0 and std 1."""
    plan = planned(raw, limits, test_fraction, seed, is_piece)
    inputs, kept, reading = _inputs(raw, plan, image_size, memory_gib, skip_damaged, say)
    ids = [plan.ids[i] for i in kept.tolist()]
    check_finite(inputs, ids, raw.columns)
    if isinstance(inputs, Tensor) and not (is_piece and inputs.dim() == 2):  # so that the pieces of a set are of one type
        inputs = narrowed(inputs) if not is_piece or inputs.dtype == torch.uint8 else inputs.float()
    train_count = int((~plan.test[kept]).sum())
    channels = inputs.shape[0] if isinstance(inputs, Lazy) else inputs.shape[1]
    mean, std = torch.zeros(channels), torch.ones(channels)
    if not is_piece:
        check_classes(plan.labels[kept[:train_count]], plan.classes, limits[0], raw.target)
    if raw.texts is None and not is_piece:
        mean, std = mean_and_std(take(inputs, torch.arange(train_count)), plan.index[kept[:train_count]])
    labels = plan.labels[kept]
    return Examples(
        inputs=inputs,
        labels=labels,
        index=plan.index[kept],
        ids=ids,
        split=["train"] * train_count + ["test"] * (len(kept) - train_count),
        classes=plan.classes,
        mean=mean,
        std=std,
        name=raw.name,
        texts=None if raw.texts is None else [raw.texts[i] for i in kept.tolist()],
        reading=completed(reading, labels, train_count, plan, inputs),
    )


@dataclass(frozen=True)
class Plan:
    """What is read of a source, before any input is: labels, ids and index of all N, and positions that are kept, train before test.

    Args:
        test: bool (N,).
        is_drawn: the test split was drawn, as the source has none.
    """

    ids: list[str]
    labels: Tensor
    classes: tuple[str, ...]
    index: Tensor
    test: Tensor
    kept: Tensor
    is_drawn: bool
    notes: tuple[str, ...]


def planned(
    raw: Raw, limits: tuple[int | None, int | None] = (None, None), test_fraction: float = 0.2, seed: int = 0, is_piece: bool = False
) -> Plan:
    """Check labels, ids and index of a source, and choose what is kept. Raises UnseenError, by the example."""
    count = len(raw.labels)
    if not count:
        raise UnseenError(f"The data set {raw.name!r} is empty. Allowed: at least two classes of examples. Add some.")
    ids = checked_ids(raw)
    labels = encode_labels(raw.labels, raw.classes, ids, raw.target)
    index = checked_index(raw.index, count, ids)
    test = uniform(index, seed, "test") < test_fraction if raw.test is None else raw.test
    kept = _kept(test, *limits)
    train_count = int((~test[kept]).sum())
    if not is_piece:
        check_classes(labels.codes[kept[:train_count]], labels.classes, limits[0], raw.target)
    return Plan(ids, labels.codes, labels.classes, index, test, kept, raw.test is None, labels.notes)


def _inputs(
    raw: Raw, plan: Plan, image_size: int | None, memory_gib: float, skip_damaged: bool, say: Callable[[str], None] | None
) -> tuple[Tensor | Lazy, Tensor, Reading]:
    """The inputs that are kept, the positions of those that could be read, and the record so far."""
    reading = limited(raw, plan)
    if isinstance(raw.inputs, Tensor):
        return rows(raw.inputs, plan.kept), plan.kept, reading
    found = read_pictures(raw.inputs, plan.kept, image_size, memory_gib, skip_damaged, say)
    return found.inputs, found.positions, with_pictures(reading, found.survey, found.damaged, raw.inputs.names)


def limited(raw: Raw, plan: Plan) -> Reading:
    """The record of a source with what the plan notes, and the examples that limits leave out."""
    reading, left = raw.reading.noting(*plan.notes), len(plan.labels) - len(plan.kept)
    return reading.skipping([Skipped("beyond the limits that were given", left, _beyond(plan), reading.unit)] if left else [])


def with_pictures(reading: Reading, seen: Survey, damaged: dict[int, DamagedError], names: list[str]) -> Reading:
    """The record with what the pictures are, and those that are damaged."""
    reading = replace(reading, sizes=seen.sizes, modes=seen.modes).noting(*seen.notes)
    places = sorted(damaged)
    reading = replace(reading, damaged=tuple(names[place] for place in places))
    return reading.skipping([Skipped("damaged", len(places), names[places[0]], reading.unit)] if places else [])


def _beyond(plan: Plan) -> str:
    kept = torch.zeros(len(plan.labels), dtype=torch.bool)
    kept[plan.kept] = True
    return plan.ids[int((~kept).nonzero()[0, 0])]


def completed(reading: Reading, labels: Tensor, train_count: int, plan: Plan, inputs: Tensor | Lazy) -> Reading:
    """The record with the splits and classes that were read. labels: of those, train before test."""
    counts = [torch.bincount(part, minlength=len(plan.classes)).tolist() for part in (labels[:train_count], labels[train_count:])]
    named = [{name: number for name, number in zip(plan.classes, part, strict=True) if number} for part in counts]
    splits = {"train": train_count, "test": len(labels) - train_count}
    if plan.is_drawn and splits["test"]:
        reading = reading.noting(f"There is no test split: {splits['test']:,} of {len(labels):,} examples are held out (--test-fraction).")
    return replace(
        reading,
        found=reading.found or len(plan.labels),
        splits={name: number for name, number in splits.items() if number},
        classes=named[0],
        tests=named[1],
        shape=inputs.shape if isinstance(inputs, Lazy) else tuple(inputs.shape[1:]),
        memory_bytes=inputs.nbytes if isinstance(inputs, Tensor) else 0,
    )


def _kept(test: Tensor, limit: int | None, test_limit: int | None) -> Tensor:
    """Positions of the first ``limit`` train examples, then of the first ``test_limit`` test examples."""
    return torch.cat([(~test).nonzero()[:limit, 0], test.nonzero()[:test_limit, 0]])


def check_options(limit: int | None, test_limit: int | None, test_fraction: float, image_size: int | None) -> None:
    """Raise UnseenError for an option that makes no sense."""
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
