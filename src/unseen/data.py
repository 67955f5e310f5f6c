"""Examples: any data set as inputs, labels and a stable index.

>>> examples = load("digits", limit=100)
>>> x, y, index = examples.train.batch(torch.arange(32))
>>> x.shape, x.dtype, len(examples.train)
(torch.Size([32, 1, 8, 8]), torch.float32, 100)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from unseen.checks import check_classes, check_finite, checked_ids, checked_index, encode_labels
from unseen.errors import UnseenError
from unseen.frames import Columns, Raw
from unseen.images import Lazy, read_pictures
from unseen.masks import uniform
from unseen.moments import Moments
from unseen.sources import data_folder, read

CROP_PADDING = 4
LARGEST_SAMPLE = 10_000
HUB_IDS = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Examples:
    """N examples, train before held before test.

    Args:
        inputs: (N, ...): images uint8 or float32, channels first; features float32; or ``Lazy``, read per batch.
        labels: int64 (N,), the given labels.
        index: int64 (N,), position in the whole, unshuffled data set; test goes on after train where a source has
            both. The join key of all tables: unique, and kept by ``select`` and by corruption.
        ids: N stable names: relative path, row (``train/17``, ``row/17``), or the user's column.
        split: N times ``train`` (trained on), ``held`` (of the train split, but not trained on) or ``test``, in this order.
        classes: names of the labels 0, 1, ...
        true_labels: int64 (N,), labels before corruption, where known.
        mean, std: of the inputs of the train split it was loaded with, float32: per channel for images (of pixel / 255
            for uint8), per feature for tables. A constant feature has std 1.
        name: of the data set.
        texts: N texts, where these are the inputs; ``inputs`` then are their ``text.bags``, with mean 0 and std 1.
    """

    inputs: Tensor | Lazy
    labels: Tensor
    index: Tensor
    ids: list[str]
    split: list[str]
    classes: tuple[str, ...]
    true_labels: Tensor | None = None
    mean: Tensor
    std: Tensor
    name: str
    texts: list[str] | None = None

    def __len__(self) -> int:
        """How many examples, N."""
        return len(self.labels)

    def __repr__(self) -> str:
        """Name and sizes; the contents would fill the screen."""
        train, held = self.split.count("train"), self.split.count("held")
        counts = f"{train} train, {f'{held} held, ' if held else ''}{len(self) - train - held} test"
        counts += f", shape {self.shape}, {len(self.classes)} classes"
        return f"<Examples {self.name}: {counts}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.inputs.shape if isinstance(self.inputs, Lazy) else tuple(self.inputs.shape[1:])

    @property
    def train(self) -> "Examples":
        """The train split: a view, no copy, where train stands before test."""
        return self._part("train")

    @property
    def test(self) -> "Examples":
        """The test split, possibly empty."""
        return self._part("test")

    def hold(self, trained: Tensor) -> "Examples":
        """Only the train examples with an index in ``trained``, int64, stay train; the others are held: measured, never trained on."""
        stays = torch.isin(self.index.cpu(), trained.cpu()).tolist()
        split = ["held" if part == "train" and not kept else part for part, kept in zip(self.split, stays, strict=True)]
        order = sorted(range(len(split)), key=lambda i: ("train", "held", "test").index(split[i]))
        return replace(self, split=split).select(order)

    def joined(self) -> "Examples":
        """Train and test as one train split, with their index, ids and labels: how test examples get scores of their own."""
        return replace(self, split=["train"] * len(self))

    def _part(self, split: str) -> "Examples":
        return self.select(torch.tensor([part == split for part in self.split], dtype=torch.bool))

    def select(self, positions: Tensor | Sequence[int]) -> "Examples":
        """Some of the examples, with their index, ids, labels and the standardisation of the whole.

        Args: positions, int64 (M,) in the order wanted, or bool (N,).
        """
        chosen = torch.as_tensor(positions).cpu()
        chosen = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen.long()
        places = chosen.tolist()
        return replace(
            self,
            inputs=_take(self.inputs, chosen),
            labels=_rows(self.labels, chosen),
            index=_rows(self.index, chosen),
            ids=[self.ids[i] for i in places],
            split=[self.split[i] for i in places],
            texts=None if self.texts is None else [self.texts[i] for i in places],
            true_labels=None if self.true_labels is None else _rows(self.true_labels, chosen),
        )

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples with all tensors on a device; ``Lazy`` inputs are moved batch by batch."""
        return replace(
            self,
            inputs=self.inputs.to(device) if isinstance(self.inputs, Tensor) else self.inputs,
            labels=self.labels.to(device),
            index=self.index.to(device),
            true_labels=None if self.true_labels is None else self.true_labels.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
        )

    def batch(self, positions: Tensor, augment: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised inputs, labels and index of the examples at these positions, on the device of the labels.

        x = (input − mean) / std. Each example's x depends on nothing but itself and ``augment``.

        Args:
            positions: int64 (B,) in [0, N).
            augment: (seed, epoch) for a random crop, after padding by 4 with zeros, and a horizontal flip of
                images: a function of (seed, epoch, index).

        Returns: x, float32 (B, ...); y, int64 (B,); index, int64 (B,).
        """
        positions = positions.to(self.labels.device)
        index, inputs = self.index[positions], self._raw(positions)
        if augment is not None:
            inputs = crop_and_flip(inputs, index, *augment)
        return self.standardise(inputs), self.labels[positions], index

    def _raw(self, positions: Tensor) -> Tensor:
        if isinstance(self.inputs, Lazy):
            return self.inputs.gather(positions.cpu()).to(self.labels.device)
        return self.inputs.index_select(0, positions)  # many times faster than indexing with a tensor

    def standardise(self, inputs: Tensor) -> Tensor:
        """(inputs − mean) / std of raw inputs (B, ...), uint8 over 255 first: float32 of the same shape."""
        unit, shape = _unit(inputs), (-1,) + (1,) * (inputs.dim() - 2)
        return inputs.float().sub((self.mean * unit).view(shape)).mul_((1 / (self.std * unit)).view(shape))


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
    import datasets

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


def crop_and_flip(images: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
    """Shift by up to 4 pixels each way, zeros coming in, and mirror half of the images.

    The usual CIFAR augmentation (He et al. 2016, section 4.2), as a function of (seed, epoch, index).
    Args: images (B, C, H, W), index int64 (B,). Returns the shape and type of ``images``.
    """
    if images.dim() != 4:
        raise UnseenError(f"Inputs have shape {tuple(images.shape[1:])}. Augmentation needs images. Turn it off.")
    height, width = images.shape[2:]
    offsets = 2 * CROP_PADDING + 1
    down, right = ((uniform(index, seed, way, epoch) * offsets).long()[:, None] for way in ("crop down", "crop right"))
    flipped = uniform(index, seed, "flip", epoch)[:, None] < 0.5
    rows = torch.arange(height, device=images.device) + down
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flipped, width - 1 - columns, columns) + right
    places = rows[:, :, None] * (width + 2 * CROP_PADDING) + columns[:, None, :]
    padded = functional.pad(images, (CROP_PADDING,) * 4).flatten(2)
    return padded.gather(2, places.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view_as(images)


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
    inputs = _rows(raw.inputs, kept) if isinstance(raw.inputs, Tensor) else read_pictures(raw.inputs, kept, image_size, memory_gib)
    kept_ids = [ids[i] for i in kept.tolist()]
    check_finite(inputs, kept_ids, raw.columns)
    mean, std = torch.zeros(inputs.shape[1]), torch.ones(inputs.shape[1])
    if raw.texts is None and not is_piece:
        mean, std = mean_and_std(_take(inputs, torch.arange(train_count)), index[kept[:train_count]])
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


def _unit(inputs: Tensor) -> float:
    return 255.0 if inputs.dtype == torch.uint8 else 1.0


def _take(inputs: Tensor | Lazy, positions: Tensor) -> Tensor | Lazy:
    return inputs.select(positions) if isinstance(inputs, Lazy) else _rows(inputs, positions)


def _rows(values: Tensor, positions: Tensor) -> Tensor:
    """Rows of a tensor: a view where they are neighbours in order, else a copy."""
    first = int(positions[0]) if len(positions) else 0
    if torch.equal(positions, torch.arange(first, first + len(positions))):
        return values[first : first + len(positions)]
    return values.index_select(0, positions.to(values.device))
