"""Examples from every kind of source, and what bad ones are told."""

import gzip
import io
import struct
import subprocess
import sys

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from unseen.data.decoding import channels_first
from unseen.data.examples import crop_and_flip
from unseen.data.images import Lazy
from unseen.data.loading import download, load
from unseen.errors import UnseenError
from unseen.hashing import uniform

random = np.random.default_rng(0)


def pixels(count, *shape):
    return random.integers(0, 256, (count, *shape), dtype=np.uint8)


def planted(count=40, classes=4, **options):
    return load((pixels(count, 8, 8), np.arange(count) % classes), **options)


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(folder, train=30, test=10, suffix=".gz"):
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("t10k", test)):
        write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", pixels(count, 28, 28))
        write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)


def write_images(folder, sizes=((8, 8),), classes=("cat", "dog"), each=4, mode="RGB"):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            width, height = sizes[i % len(sizes)]
            image = Image.fromarray(pixels(height, width, 3)).convert(mode)
            image.save(folder / name / f"{i:02}.png")


def encoded(array, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format)
    return file.getvalue()


def hub_frame(count, column="img"):
    arrays = pixels(count, 6, 6, 3)
    rows = [{"bytes": encoded(array), "path": f"{i}.png"} for i, array in enumerate(arrays)]
    return pl.DataFrame({column: rows, "label": np.arange(count) % 3}), arrays


def refused(message, data, **options):
    with pytest.raises(UnseenError, match=message) as error:
        load(data, **options)
    return str(error.value)


# -- Examples


def test_train_stands_before_test_and_every_example_keeps_its_row():
    x = pixels(50, 5, 5)
    examples = load((x, np.arange(50) % 3))
    assert examples.split == sorted(examples.split, reverse=True)
    assert sorted(examples.index.tolist()) == list(range(50))
    assert torch.equal(examples.inputs[:, 0], torch.from_numpy(x)[examples.index])
    assert examples.labels.tolist() == [i % 3 for i in examples.index.tolist()]
    assert examples.ids == [f"row/{i}" for i in examples.index.tolist()]


def test_held_out_examples_are_those_with_a_small_uniform_and_stay_when_rows_are_added():
    few, many = planted(60, test_fraction=0.3, seed=5), planted(90, test_fraction=0.3, seed=5)
    held_out = (uniform(torch.arange(60), 5, "test") < 0.3).nonzero()[:, 0]
    assert few.test.index.tolist() == held_out.tolist()
    assert [i for i in many.test.index.tolist() if i < 60] == held_out.tolist()


def test_select_keeps_what_belongs_to_an_example():
    examples = planted()
    positions = torch.tensor([7, 3, 3, 20])
    chosen = examples.select(positions)
    assert chosen.index.tolist() == examples.index[positions].tolist()
    assert chosen.ids == [examples.ids[i] for i in positions]
    assert torch.equal(chosen.inputs, examples.inputs[positions])
    assert torch.equal(chosen.mean, examples.mean)
    by_truth = examples.select(examples.labels == 2)
    assert set(by_truth.labels.tolist()) == {2} and len(by_truth) == 10


def test_splits_are_views_of_the_whole():
    examples = planted()
    assert examples.train.inputs.data_ptr() == examples.inputs.data_ptr()
    assert len(examples.train) + len(examples.test) == len(examples)
    assert set(examples.train.split) == {"train"} and set(examples.test.split) == {"test"}
    assert len(planted(test_fraction=0).test) == 0


def test_an_example_is_the_same_in_any_batch():
    examples = planted()
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(1))
    for augment in (None, (3, 7)):
        x, y, index = examples.batch(torch.arange(len(examples)), augment)
        shuffled = examples.batch(order, augment)
        alone = torch.cat([examples.select([i]).batch(torch.tensor([0]), augment)[0] for i in range(len(examples))])
        assert torch.equal(shuffled[0], x[order]) and torch.equal(alone, x)
        assert torch.equal(shuffled[1], y[order]) and torch.equal(shuffled[2], index[order])


@pytest.mark.parametrize("shape", [(7,), (8, 8), (6, 6, 3)])
def test_the_train_split_is_standardised(shape):
    x = pixels(60, *shape) if len(shape) > 1 else random.normal(5, [1, 2, 3, 4, 5, 6, 0.1], (60, 7))
    examples = load((x, np.arange(60) % 2)).train
    batch = examples.batch(torch.arange(len(examples)))[0].double()
    axes = [axis for axis in range(batch.dim()) if axis != 1]
    assert batch.mean(axes).abs().max() < 1e-4
    assert (batch.var(axes, correction=0) - 1).abs().max() < 1e-4


def test_a_constant_feature_has_std_1():
    x = random.normal(size=(30, 3))
    x[:, 1] = 0.1
    examples = load((x, np.arange(30) % 2))
    assert examples.std[1] == 1
    assert examples.batch(torch.arange(5))[0][:, 1].abs().max() < 1e-6
    black = load((np.zeros((30, 4, 4), np.uint8), np.arange(30) % 2))
    assert black.mean.item() == 0 and black.std.item() == 1


def test_float_images_and_bytes_agree():
    x, y = pixels(40, 6, 6, 3), np.arange(40) % 2
    whole = torch.arange(40)
    as_bytes, as_floats = load((x, y)), load((x / 255, y))
    assert as_bytes.inputs.dtype == torch.uint8 and as_floats.inputs.dtype == torch.float32
    torch.testing.assert_close(as_bytes.batch(whole)[0], as_floats.batch(whole)[0], atol=1e-5, rtol=0)


def test_to_moves_all_tensors():
    moved = planted().to("meta")
    assert {t.device.type for t in (moved.inputs, moved.labels, moved.index, moved.mean, moved.std)} == {"meta"}


def test_crop_and_flip_shifts_and_mirrors():
    images, index = torch.from_numpy(pixels(200, 2, 6, 6)), torch.arange(200)
    changed = crop_and_flip(images, index, seed=1, epoch=2)
    assert not torch.equal(changed, crop_and_flip(images, index, seed=1, epoch=3))
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    seen = set()
    for before, after in zip(padded, changed, strict=True):
        ways = [(d, r, f) for d in range(9) for r in range(9) for f in (False, True) if torch.equal(_way(before, d, r, f), after)]
        assert ways
        seen.update(ways)
    assert {d for d, _, _ in seen} == {r for _, r, _ in seen} == set(range(9))


def _way(padded, down, right, flip):
    window = padded[:, down : down + 6, right : right + 6]
    return window.flip(2) if flip else window


def test_augmentation_of_a_table_is_refused():
    examples = load((random.normal(size=(30, 3)), np.arange(30) % 2))
    with pytest.raises(UnseenError, match="needs images"):
        examples.batch(torch.arange(3), augment=(0, 0))


# -- sources


def test_digits():
    examples = load("digits")
    assert examples.shape == (1, 8, 8) and len(examples) == 1797 and examples.classes == tuple("0123456789")
    assert examples.inputs.max() == 255
    assert load(examples) is examples


def test_limit_keeps_the_first_train_examples_and_all_test_examples():
    whole, few = load("digits"), load("digits", limit=50)
    assert few.train.index.tolist() == whole.train.index[:50].tolist()
    assert few.test.index.tolist() == whole.test.index.tolist()
    assert load(whole, limit=50).index.tolist() == few.index.tolist()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(tmp_path, suffix, monkeypatch):
    write_mnist(tmp_path / "mnist", suffix=suffix)
    examples = load("mnist", data_dir=tmp_path)
    assert len(examples.train) == 30 and examples.index.tolist() == list(range(40))
    assert examples.ids[29:31] == ["train/29", "test/0"] and examples.classes == tuple("0123456789")
    assert load("mnist", data_dir=tmp_path, limit=20).index.tolist() == [*range(20), *range(30, 40)]
    monkeypatch.setenv("UNSEEN_DATA", str(tmp_path))
    assert torch.equal(load("mnist").inputs, examples.inputs)
    assert torch.equal(load(tmp_path / "mnist").inputs, examples.inputs)


def test_the_hubs_parquet_layout(tmp_path):
    (tmp_path / "cifar10").mkdir()
    train, arrays = hub_frame(20)
    test, _ = hub_frame(6)
    train.write_parquet(tmp_path / "cifar10" / "train-00000-of-00001.parquet")
    test.write_parquet(tmp_path / "cifar10" / "test-00000-of-00001.parquet")
    examples = load("cifar10", data_dir=tmp_path)
    assert torch.equal(examples.train.inputs, channels_first(torch.from_numpy(arrays)))
    assert examples.classes[3] == "cat" and examples.ids[20] == "test/0" and len(examples.test) == 6


def test_image_folder_without_splits(tmp_path):
    write_images(tmp_path / "pets", sizes=[(9, 7)], each=20)
    examples = load(tmp_path / "pets")
    assert examples.shape == (3, 7, 9) and examples.classes == ("cat", "dog")
    by_index = examples.select(examples.index.argsort())
    assert by_index.ids[0] == "cat/00.png" and by_index.ids[-1] == "dog/19.png"
    whole = np.asarray(Image.open(tmp_path / "pets" / "dog" / "19.png"))
    assert torch.equal(by_index.inputs[-1], torch.from_numpy(whole.copy()).permute(2, 0, 1))


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_image_folder_with_splits_and_several_sizes(tmp_path, test_folder):
    write_images(tmp_path / "train", sizes=[(9, 7), (20, 30)])
    write_images(tmp_path / test_folder, each=2, mode="L")
    examples = load(str(tmp_path))
    assert examples.shape == (3, 32, 32) and len(examples.train) == 8
    assert examples.ids[0] == "train/cat/00.png" and examples.ids[-1] == f"{test_folder}/dog/01.png"
    assert load(tmp_path, image_size=16).shape == (3, 16, 16)


def test_a_late_colour_or_size_changes_the_shape_of_all(tmp_path):
    write_images(tmp_path / "a", each=120, mode="L")
    assert load(tmp_path / "a").shape == (1, 8, 8)
    odd = tmp_path / "a" / "cat" / "01.png"  # not among the 64 that are looked at first
    Image.fromarray(pixels(8, 8, 3)).save(odd)
    assert load(tmp_path / "a").shape == (3, 8, 8)
    Image.fromarray(pixels(9, 8)).save(odd)
    assert load(tmp_path / "a").shape == (1, 32, 32)


def test_numbered_class_folders_are_in_the_order_of_their_numbers(tmp_path):
    write_images(tmp_path / "a", classes=("2", "10", "1"))
    assert load(tmp_path / "a").classes == ("1", "2", "10")


def test_large_image_sets_are_read_per_batch(tmp_path):
    write_images(tmp_path / "a", each=20)
    held, read = load(tmp_path / "a"), load(tmp_path / "a", memory_gib=0)
    assert isinstance(read.inputs, Lazy) and read.shape == held.shape and len(read.inputs) == 40
    positions = torch.tensor([5, 0, 39])
    for augment in (None, (0, 1)):
        for a, b in zip(held.batch(positions, augment), read.batch(positions, augment), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(read.train.select([4]).batch(torch.tensor([0]))[0], held.train.select([4]).batch(torch.tensor([0]))[0])
    (tmp_path / "a" / "cat" / "03.png").write_bytes(b"damaged")
    place = held.ids.index("cat/03.png")
    with pytest.raises(UnseenError, match=r"cat/03\.png"):
        read.batch(torch.tensor([place]))


def test_pictures_above_64_pixels_are_decoded_in_order(tmp_path):
    write_images(tmp_path / "a", sizes=[(80, 70)], each=5)
    examples = load(tmp_path / "a", test_fraction=0)
    for i, name in enumerate(examples.ids):
        assert np.array_equal(examples.inputs[i].permute(1, 2, 0), np.asarray(Image.open(tmp_path / "a" / name)))


def test_csv(tmp_path):
    frame = pl.DataFrame(
        {
            "age": [20.5, 30, 40, 50] * 5,
            "colour": ["red", "blue", "red", "green"] * 5,
            "member": [True, False] * 10,
            "species": ["b", "a"] * 10,
            "index": range(100, 120),
            "name": [f"n{i}" for i in range(20)],
        }
    )
    frame.write_csv(tmp_path / "t.csv")
    examples = load(tmp_path / "t.csv", target="species", id_column="name", test_fraction=0)
    assert examples.shape == (5,) and examples.classes == ("a", "b") and examples.labels[:2].tolist() == [1, 0]
    assert examples.inputs[1].tolist() == [30, 1, 0, 0, 0]  # age, blue, green, red, member
    assert examples.index.tolist() == list(range(100, 120)) and examples.ids[3] == "n3"
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    assert torch.equal(load(tmp_path / "t.tsv", target="species", id_column="name", test_fraction=0).inputs, examples.inputs)
    frame.write_parquet(tmp_path / "t.parquet")
    assert torch.equal(load(tmp_path / "t.parquet", target="species", id_column="name", test_fraction=0).inputs, examples.inputs)


def test_a_parquet_file_of_images(tmp_path):
    frame, arrays = hub_frame(12, "picture")
    frame.with_columns(caption=pl.lit("ignored")).write_parquet(tmp_path / "p.parquet")
    for column in (None, "picture"):
        examples = load(tmp_path / "p.parquet", image_column=column, test_fraction=0)
        assert torch.equal(examples.inputs, channels_first(torch.from_numpy(arrays)))


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("X_train", "y_train"), ("train_images", "train_labels")])
def test_npz(tmp_path, names):
    x, y = pixels(30, 5, 5), np.arange(30)[:, None] % 3
    np.savez(tmp_path / "a.npz", **{names[0]: x, names[1]: y}, index=np.arange(30) * 7, who=np.array([f"w{i}" for i in range(30)]))
    examples = load(tmp_path / "a.npz", id_column="who")
    assert set(examples.index.tolist()) == set(range(0, 210, 7))
    assert all(name == f"w{index // 7}" for name, index in zip(examples.ids, examples.index.tolist(), strict=True))


def test_npz_and_tuples_with_a_test_split(tmp_path):
    parts = {"x_train": pixels(30, 5, 5), "y_train": np.arange(30) % 3, "x_test": pixels(9, 5, 5), "y_test": np.arange(9) % 3}
    np.savez(tmp_path / "a.npz", **parts)
    examples, same = load(tmp_path / "a.npz"), load(tuple(torch.from_numpy(part) for part in parts.values()))
    assert examples.index.tolist() == list(range(39)) and len(examples.test) == 9 and examples.ids[30] == "test/0"
    assert torch.equal(examples.inputs, same.inputs) and torch.equal(examples.labels, same.labels)


def test_hub_objects_of_images():
    frame, arrays = hub_frame(12)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    dataset = datasets.Dataset.from_list(frame.to_dicts(), features=features)
    alone = load(dataset, test_fraction=0)
    assert torch.equal(alone.inputs, channels_first(torch.from_numpy(arrays))) and alone.classes == ("x", "y", "z")
    both = load(datasets.DatasetDict({"train": dataset, "validation": dataset.select(range(4))}))
    assert len(both.train) == 12 and both.index.tolist() == list(range(16))
    lazily = load(dataset.shuffle(seed=0), test_fraction=0, memory_gib=0)
    assert isinstance(lazily.inputs, Lazy) and lazily.labels.tolist() != alone.labels.tolist()


def test_hub_objects_of_features():
    dataset = datasets.Dataset.from_dict({"a": [1.0, 2, 3, 4] * 5, "b": ["u", "v"] * 10, "label": [0, 1, 1, 2] * 5})
    examples = load(dataset, test_fraction=0)
    assert examples.shape == (3,) and examples.classes == ("0", "1", "2")


def test_hub_ids_are_loaded_by_datasets(monkeypatch):
    frame, _ = hub_frame(12)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    dataset = datasets.DatasetDict({"train": datasets.Dataset.from_list(frame.to_dicts(), features=features)})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, revision=None: asked.append(name) or dataset)
    assert load("hf:someone/something").name == "someone/something" and asked == ["someone/something"]


def test_hub_ids_that_cannot_be_had_are_told(monkeypatch):
    def fail(name, revision=None):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert "no network" in refused("Cannot load hf:someone/nothing", "hf:someone/nothing")
    with pytest.raises(UnseenError, match="Cannot fetch ylecun/mnist"):
        download("mnist", "nowhere")
    with pytest.raises(UnseenError, match="Allowed: mnist, fashion-mnist, cifar10"):
        download("imagenet")


def test_download_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    frame, arrays = hub_frame(12)
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    dataset = datasets.Dataset.from_list(frame.to_dicts(), features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(train=dataset, test=dataset))
    assert download("cifar10", tmp_path) == tmp_path / "cifar10"
    assert "Hugging Face hub" in capsys.readouterr().out
    assert torch.equal(load("cifar10", data_dir=tmp_path).train.inputs, channels_first(torch.from_numpy(arrays)))


class LikeTorchvision:
    """A data set with torchvision's attributes, without torchvision."""

    classes = ("zero", "one", "two")

    def __init__(self, count=30, targets=True, size=(6, 6)):
        self.data, self.size, self.reads = pixels(count, *size, 3), size, 0
        if targets:
            self.targets = [i % 3 for i in range(count)]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        self.reads += 1
        return Image.fromarray(self.data[i]), i % 3


@pytest.mark.parametrize("targets", [True, False])
def test_map_style_data_sets(targets):
    dataset = LikeTorchvision(targets=targets)
    examples = load(dataset, test_fraction=0)
    assert torch.equal(examples.inputs, channels_first(torch.from_numpy(dataset.data)))
    assert examples.classes == ("zero", "one", "two") and examples.labels.tolist() == [i % 3 for i in range(30)]
    both = load((dataset, LikeTorchvision(9)))
    assert len(both.test) == 9 and both.index.tolist() == list(range(39)) and both.ids[30] == "test/0"


def test_large_map_style_data_sets_are_read_per_batch():
    dataset = LikeTorchvision(300)
    examples = load(dataset, test_fraction=0, memory_gib=1e-5)
    before = dataset.reads
    assert isinstance(examples.inputs, Lazy)
    x, y, index = examples.batch(torch.tensor([8, 2]))
    assert dataset.reads == before + 2 and index.tolist() == [8, 2] and y.tolist() == [2, 2]
    held = load(dataset, test_fraction=0).batch(torch.tensor([8, 2]))[0]
    torch.testing.assert_close(x, held)


def test_torchs_own_data_sets():
    x, y = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    dataset = TensorDataset(x, y)
    assert torch.equal(load(dataset, test_fraction=0).inputs, x)
    halves = ConcatDataset([Subset(dataset, range(15, 30)), Subset(dataset, range(15))])
    assert torch.equal(load(halves, test_fraction=0).inputs, x.roll(15, 0))


@pytest.mark.parametrize(
    ("shape", "result"),
    [((4, 9), (4, 9)), ((4, 9, 9), (4, 1, 9, 9)), ((4, 9, 9, 3), (4, 3, 9, 9)), ((4, 3, 9, 9), (4, 3, 9, 9)), ((4, 9, 9, 1), (4, 1, 9, 9))],
)
def test_channels_come_first(shape, result):
    assert channels_first(torch.zeros(shape, dtype=torch.uint8)).shape == result


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        ([5, -1, 5, 30], ("-1", "5", "30"), [1, 0, 1, 2]),
        (["b", "a", "b", "c"], ("a", "b", "c"), [1, 0, 1, 2]),
        (["10", "9", "10", "2"], ("2", "9", "10"), [2, 1, 2, 0]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
    ],
)
def test_labels_of_any_kind_become_codes_and_keep_their_names(labels, classes, codes):
    examples = load((pixels(4, 3, 3), labels), test_fraction=0)
    assert examples.classes == classes and examples.labels.tolist() == codes


# -- real data


def test_mnist(data_dir):
    examples = load("mnist", data_dir=data_dir)
    assert len(examples.train) == 60_000 and len(examples.test) == 10_000 and examples.shape == (1, 28, 28)
    assert examples.labels[:5].tolist() == [5, 0, 4, 1, 9] and examples.index[60_000] == 60_000
    assert abs(examples.mean.item() - 0.1307) < 1e-4 and abs(examples.std.item() - 0.3081) < 1e-4


def test_cifar10(data_dir):
    examples = load("cifar10", data_dir=data_dir, limit=500)
    assert len(examples.train) == 500 and len(examples.test) == 10_000 and examples.shape == (3, 32, 32)
    assert examples.classes[examples.labels[0]] == "frog" and examples.index[500] == 50_000


# -- bad input: what is wrong, what is allowed, what to do


def test_labels_outside_the_declared_classes(tmp_path):
    for label in (10, 255):
        write_mnist(folder := tmp_path / str(label) / "mnist")
        labels = np.arange(30) % 10
        labels[17] = label
        write_idx(folder / "train-labels-idx1-ubyte.gz", labels)
        assert "Allowed: 0 to 9" in refused(rf"label of train/17 is .*{label}", "mnist", data_dir=folder.parent)
    negative = LikeTorchvision()
    negative.targets[4] = -1
    refused("label of row/4 is .*-1", negative)


@pytest.mark.parametrize("labels", [[0.0, 1.0, 2.5, 1.0], [0, 1, None, 1], ["a", float("nan"), "b", "a"]])
def test_labels_that_are_not_classes(labels):
    assert "integers or texts" in refused(r"The label of row/", (pixels(4, 3, 3), labels))


def test_labels_of_scores():
    refused("argmax", (pixels(4, 3, 3), np.eye(4) * 3 - 1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite(value):
    x = random.random((20, 5, 5))
    x[7, 2, 3] = value
    assert "(0, 2, 3)" in refused("input of row/7 is (nan|inf)", (x, np.arange(20) % 2))


def test_features_that_are_not_finite(tmp_path):
    (tmp_path / "t.csv").write_text("height,weight,label\n" + "1,2,a\n" * 5 + "1,NaN,b\n" + "2,3,b\n" * 5)
    assert "column 'weight'" in refused("input of row/5 is nan", tmp_path / "t.csv")


def test_missing_values(tmp_path):
    (tmp_path / "t.csv").write_text("height,weight,label\n" + "1,2,a\n" * 5 + "1,,b\n")
    refused("Column 'weight' has a missing value, the first in row 5", tmp_path / "t.csv")


def test_missing_target_column(tmp_path):
    (tmp_path / "t.csv").write_text("height,species\n1,a\n2,b\n")
    assert "Allowed: height, species" in refused("for target", tmp_path / "t.csv")
    refused("no column 'kind' for target", tmp_path / "t.csv", target="kind")
    refused("no column 'kind' for id_column", tmp_path / "t.csv", target="species", id_column="kind")


def test_columns_that_are_no_features(tmp_path):
    rows = [f"{i},text {i},{i % 2}" for i in range(150)]
    (tmp_path / "t.csv").write_text("\n".join(["a,note,label", *rows]))
    assert "up to 100" in refused("Column 'note' has 150 different texts", tmp_path / "t.csv")
    assert load(tmp_path / "t.csv", id_column="note").shape == (1,)
    (tmp_path / "u.csv").write_text(",a,label\n5,5,x\n5,6,y\n")
    refused("without a name", tmp_path / "u.csv")


def test_damaged_tables(tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n1,2\n1,2,3,4\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "t.npz").write_bytes(b"PK not really")
    for name in ("t.csv", "t.parquet", "t.npz"):
        refused(f"Cannot read.*{name}", tmp_path / name)


def test_an_empty_class_folder(tmp_path):
    write_images(tmp_path / "a")
    (tmp_path / "a" / "horse").mkdir()
    refused("class folder .*horse holds no images", tmp_path / "a")
    (tmp_path / "b").mkdir()
    refused("no class folders", tmp_path / "b")


@pytest.mark.parametrize("damage", [lambda data: b"no image", lambda data: data[: len(data) // 2]])
def test_a_corrupt_image_is_named(tmp_path, damage):
    write_images(tmp_path / "a")
    path = tmp_path / "a" / "dog" / "02.png"
    path.write_bytes(damage(path.read_bytes()))
    refused(f"Cannot read the image {path}", tmp_path / "a")


def test_images_of_more_than_8_bits(tmp_path):
    write_images(tmp_path / "a")
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "a" / "cat" / "00.png")
    refused("more than 8 bits", tmp_path / "a")


def test_mismatched_lengths():
    refused("10 inputs and 9 labels", (pixels(10, 3, 3), np.arange(9)))
    refused("Inputs are no array", ([[1], [1, 2]], [0, 1]))
    refused("tuple of 3", (pixels(10, 3, 3), np.arange(10), pixels(10, 3, 3)))
    refused("the same in both", (pixels(9, 3, 3), np.arange(9), pixels(9, 4, 4), np.arange(9)))


@pytest.mark.parametrize(
    ("index", "message"),
    [([0, 1, 1, 2], "index 1 occurs twice"), ([0.0, 1, 2, 3], "float64"), ([-1, 1, 2, 3], "is -1 to 3"), ([0, 1, 2], "3 index")],
)
def test_an_index_that_is_no_key(tmp_path, index, message):
    np.savez(tmp_path / "a.npz", x=pixels(4, 3, 3), y=np.arange(4), index=np.array(index))
    refused(message, tmp_path / "a.npz")


def test_a_float_or_duplicate_index_in_a_table(tmp_path):
    for values, message in (((1.5, 2, 3), "float64"), ((1, 2, 2), "occurs twice")):
        pl.DataFrame({"index": values, "a": [1, 2, 3], "label": [0, 1, 0]}, strict=False).write_csv(tmp_path / "t.csv")
        refused(message, tmp_path / "t.csv")


def test_an_id_that_occurs_twice(tmp_path):
    (tmp_path / "t.csv").write_text("a,who,label\n1,x,0\n2,x,1\n")
    refused("id 'x' occurs twice", tmp_path / "t.csv", id_column="who")


def test_an_unknown_data_set_lists_the_known_ones(tmp_path):
    message = refused("No data set 'minst'", "minst")
    assert "digits, mnist, fashion-mnist, cifar10" in message and "unseen download mnist" in message
    (tmp_path / "a.mat").write_bytes(b"")
    refused("ends in '.mat'", tmp_path / "a.mat")
    refused("Cannot load a int", 7)
    refused("No data set ''", "")


def test_a_named_set_that_is_not_there_names_the_command(tmp_path):
    assert f"unseen download mnist --data-dir {tmp_path}" in refused("'mnist' is not in", "mnist", data_dir=tmp_path)
    (tmp_path / "cifar10").mkdir()
    refused("'cifar10' is not in", "cifar10", data_dir=tmp_path)


def test_one_class_and_no_examples():
    refused("two or more", (pixels(10, 3, 3), np.zeros(10, int)))
    assert "raise it" in refused(r"\[0\]", (pixels(20, 3, 3), np.arange(20) // 10), limit=3, test_fraction=0)
    refused("is empty", (np.zeros((0, 3, 3)), np.zeros(0, int)))
    refused("is empty", LikeTorchvision(0))


@pytest.mark.parametrize("options", [{"limit": 1}, {"limit": -5}, {"limit": 10.0}, {"test_fraction": 1.0}, {"image_size": 0}])
def test_options_that_make_no_sense(options):
    refused(next(iter(options)), "digits", **options)


def test_npz_with_other_names(tmp_path):
    np.savez(tmp_path / "a.npz", foo=np.zeros(3))
    assert "x_train and y_train" in refused("holds foo", tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.array([{}, {}]), y=np.zeros(2))
    refused("Cannot read", tmp_path / "b.npz")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_truncated_idx_files(tmp_path, suffix):
    write_mnist(tmp_path / "mnist", suffix=suffix)
    path = tmp_path / "mnist" / f"train-images-idx3-ubyte{suffix}"
    whole = path.read_bytes()
    for kept in (2, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refused(f"{path.name} is (truncated|not an IDX)", "mnist", data_dir=tmp_path)
    path.unlink()
    refused("lacks train-images", "mnist", data_dir=tmp_path)


def test_data_sets_of_other_things():
    class Dictionaries(LikeTorchvision):
        def __getitem__(self, i):
            return {"x": 1, "y": 2}

    class Words(LikeTorchvision):
        def __getitem__(self, i):
            return "word", 1

    class Sizes(LikeTorchvision):
        def __getitem__(self, i):
            return Image.fromarray(self.data[i][: 5 if i == 1 else 6]), 1

    refused(r"pairs \(x, y\)", Dictionaries())
    refused("Cannot read the image train\\[0\\]|not an image", Words())
    refused(r"train\[1\] has shape", Sizes(300))
    assert load(Sizes(300), image_size=6).shape == (3, 6, 6)


def test_the_module_imports_nothing_heavy():
    heavy = ("polars", "PIL", "datasets", "sklearn", "pandas", "pyarrow")
    command = f"import sys, unseen.data; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_examples_are_frozen_and_print_short():
    examples = planted(test_fraction=0)
    with pytest.raises(AttributeError):
        examples.labels = None
    assert repr(examples) == "<Examples arrays: 40 train, 0 test, shape (1, 8, 8), 4 classes>"
