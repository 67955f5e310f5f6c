"""Corruption: how much changes, where, and that it depends on (seed, index) alone."""

import numpy as np
import pytest
import torch

from unseen.data.images import Lazy
from unseen.data.loading import load
from unseen.data.noise import asymmetric, flip_labels, gaussian_inputs, random_labels, random_pixels, shuffled_pixels
from unseen.errors import UnseenError

COUNT, CLASSES = 4000, 10


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (COUNT, 5, 4, 3), dtype=np.uint8)
    return load((x, np.arange(COUNT) % CLASSES), test_fraction=0.25)


@pytest.fixture(scope="module")
def table():
    random = np.random.default_rng(0)
    return load((random.normal(3, [1, 2, 5], (COUNT, 3)), np.arange(COUNT) % 4))


def uniform_matrix(classes=CLASSES, kept=0.6):
    matrix = torch.full((classes, classes), (1 - kept) / (classes - 1))
    return matrix.fill_diagonal_(kept)


CORRUPTIONS = {
    "random": lambda e: random_labels(e, 1.0, seed=3),
    "random, never the true one": lambda e: random_labels(e, 1.0, seed=3, avoid_true=True),
    "flipped": lambda e: flip_labels(e, uniform_matrix(), seed=3),
    "asymmetric": lambda e: asymmetric(e, 1.0, seed=3),
    "random pixels": lambda e: random_pixels(e, seed=3),
    "shuffled pixels": lambda e: shuffled_pixels(e, seed=3),
    "gaussian": lambda e: gaussian_inputs(e, seed=3),
}
LABELS = ["random", "random, never the true one", "flipped", "asymmetric"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_example_fares_the_same_in_any_subset_and_order(examples, name):
    corrupt = CORRUPTIONS[name]
    positions = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))[:700]
    of_whole, of_part = corrupt(examples).select(positions), corrupt(examples.select(positions))
    assert torch.equal(of_whole.labels, of_part.labels)
    assert torch.equal(of_whole.inputs, of_part.inputs)
    assert torch.equal(of_part.index, examples.index[positions])
    assert of_part.ids == [examples.ids[i] for i in positions] and of_part.split == [examples.split[i] for i in positions]


@pytest.mark.parametrize("name", LABELS)
def test_labels_change_on_the_train_split_only_and_the_truth_is_kept(examples, name):
    noisy = CORRUPTIONS[name](examples)
    assert torch.equal(noisy.true_labels, examples.labels)
    assert torch.equal(noisy.test.labels, examples.test.labels)
    assert not torch.equal(noisy.train.labels, examples.train.labels)
    assert examples.true_labels is None and noisy.inputs is examples.inputs
    twice = CORRUPTIONS[name](noisy)
    assert torch.equal(twice.true_labels, examples.labels)


@pytest.mark.parametrize("amount", [0, 1, 300, 0.1, 1.0])
def test_the_amount_is_exact_where_the_true_label_is_avoided(examples, amount):
    noisy = random_labels(examples, amount, seed=1, avoid_true=True)
    expected = amount if isinstance(amount, int) else round(amount * len(examples.train))
    assert (noisy.labels != noisy.true_labels).sum() == expected


def test_uniform_labels_hit_the_true_one_once_in_c(examples):
    noisy = random_labels(examples, 1.0, seed=1).train
    share = (noisy.labels == noisy.true_labels).double().mean()
    assert abs(share - 1 / CLASSES) < 4 * (0.09 / len(noisy)) ** 0.5
    counts = torch.bincount(noisy.labels, minlength=CLASSES)
    assert (counts - len(noisy) / CLASSES).abs().max() < 4 * (len(noisy) * 0.09) ** 0.5


def test_avoiding_the_true_label_reaches_all_others_alike(examples):
    noisy = random_labels(examples, 1.0, seed=1, avoid_true=True).train
    steps = torch.bincount((noisy.labels - noisy.true_labels) % CLASSES, minlength=CLASSES)
    expected = len(noisy) / (CLASSES - 1)
    assert steps[0] == 0 and (steps[1:] - expected).abs().max() < 4 * expected**0.5


def test_a_larger_amount_changes_the_same_examples_and_more(examples):
    few, many = (random_labels(examples, amount, seed=2, avoid_true=True) for amount in (100, 900))
    changed = few.labels != examples.labels
    assert torch.equal(many.labels[changed], few.labels[changed])


def test_seeds_differ(examples):
    for corrupt in (lambda s: random_labels(examples, 0.5, s).labels, lambda s: random_pixels(examples, s).inputs):
        assert torch.equal(corrupt(1), corrupt(1)) and not torch.equal(corrupt(1), corrupt(2))


def test_flips_follow_the_matrix(examples):
    matrix = torch.zeros(CLASSES, CLASSES)
    matrix[:, 0], matrix[:, 4] = 0.3, 0.7
    matrix[2] = torch.eye(CLASSES)[2]
    noisy = flip_labels(examples, matrix, seed=4).train
    others = noisy.true_labels != 2
    assert (noisy.labels[~others] == 2).all()
    assert set(noisy.labels[others].tolist()) == {0, 4}
    assert abs((noisy.labels[others] == 4).double().mean() - 0.7) < 4 * (0.21 / int(others.sum())) ** 0.5
    assert torch.equal(flip_labels(examples, torch.eye(CLASSES).tolist()).labels, examples.labels)


def test_asymmetric_flips_only_the_classes_of_the_mapping(examples):
    noisy = asymmetric(examples, 0.5, seed=1, mapping={"4": "9", 7: 1}).train
    changed = noisy.labels != noisy.true_labels
    pairs = torch.stack([noisy.true_labels[changed], noisy.labels[changed]], 1).unique(dim=0)
    assert pairs.tolist() == [[4, 9], [7, 1]]
    assert changed.sum() == round(0.5 * int(((noisy.true_labels == 4) | (noisy.true_labels == 7)).sum()))
    assert (asymmetric(examples, 60, seed=1).labels != examples.labels).sum() == 60


def test_asymmetric_knows_lookalikes_by_name_and_else_takes_the_next_class(examples):
    noisy = asymmetric(examples, 1.0).train
    assert torch.equal(noisy.labels, (noisy.true_labels + 1) % CLASSES)
    digits = asymmetric(load("digits"), 1.0).train
    becomes = {4: 9, 7: 1, 3: 8}
    assert digits.labels.tolist() == [becomes.get(label, label) for label in digits.true_labels.tolist()]


def test_random_pixels_move_whole_pixels_each_image_in_its_own_way(examples):
    moved = random_pixels(examples, seed=1)
    before, after = examples.inputs.flatten(2).long(), moved.inputs.flatten(2).long()
    coded = [x[:, 0] * 65536 + x[:, 1] * 256 + x[:, 2] for x in (before, after)]
    assert torch.equal(coded[0].sort(1).values, coded[1].sort(1).values)
    places = _permutations(coded)
    assert len(places.unique(dim=0)) > 0.99 * len(places)
    assert torch.equal(moved.mean, examples.mean) and torch.equal(moved.labels, examples.labels)


def test_shuffled_pixels_move_all_images_in_one_way(examples):
    after = shuffled_pixels(examples, seed=1).inputs.flatten(2)
    before = examples.inputs.flatten(2)
    orders = [next(p for p in range(20) if torch.equal(before[:, :, p], after[:, :, q])) for q in range(20)]
    assert sorted(orders) == list(range(20)) and orders != list(range(20))


def _permutations(coded):
    """Which pixel came to which place, for the images without two equal pixels."""
    before, after = coded
    distinct = torch.tensor([len(set(row)) == len(row) for row in before.tolist()])
    return (before[distinct][:, None, :] == after[distinct][:, :, None]).long().argmax(2)


def test_gaussian_inputs_have_the_moments_of_the_set(examples, table):
    for whole in (examples, table):
        noisy = gaussian_inputs(whole, seed=1)
        x = noisy.batch(torch.arange(len(whole)))[0].double()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() / x.shape[1]
        assert x.mean(axes).abs().max() < 4 / count**0.5
        assert (x.var(axes) - 1).abs().max() < 4 * (2 / count) ** 0.5
        assert noisy.inputs.shape == whole.inputs.shape and noisy.inputs.dtype == torch.float32
        flat = x.flatten(1)
        assert torch.corrcoef(flat.T).fill_diagonal_(0).abs().max() < 5 / len(whole) ** 0.5


@pytest.mark.parametrize("corrupt", [random_pixels, shuffled_pixels, gaussian_inputs])
def test_inputs_that_are_read_per_batch_change_alike(examples, corrupt):
    held = examples.inputs
    whole = torch.arange(len(held))
    lazy = type(examples)(**{**vars(examples), "inputs": Lazy(lambda positions: held[positions], whole, examples.shape)})
    positions = torch.tensor([17, 3, 2222])
    expected = corrupt(examples, 5).batch(positions)[0]
    assert torch.equal(corrupt(lazy, 5).batch(positions)[0], expected)
    assert torch.equal(corrupt(lazy.select(positions), 5).batch(torch.arange(3))[0], expected)


@pytest.mark.parametrize("amount", [-1, COUNT, 1.5, 0.0, True, float("nan")])
def test_amounts_that_make_no_sense(examples, amount):
    with pytest.raises(UnseenError, match="amount of labels"):
        random_labels(examples, amount)


@pytest.mark.parametrize("matrix", [torch.eye(3), torch.ones(10, 10), torch.eye(10) * 2 - 0.1, torch.full((10, 10), float("nan"))])
def test_matrices_that_are_no_distributions(examples, matrix):
    with pytest.raises(UnseenError, match="matrix"):
        flip_labels(examples, matrix)


def test_mappings_to_unknown_classes(examples):
    for mapping in ({"4": "nine"}, {4: 10}, {-1: 2}):
        with pytest.raises(UnseenError, match="No class"):
            asymmetric(examples, 0.5, mapping=mapping)


def test_tables_have_no_pixels(table):
    for corrupt in (random_pixels, shuffled_pixels):
        with pytest.raises(UnseenError, match="gaussian_inputs"):
            corrupt(table)


def test_mnist_keeps_its_noise_when_it_is_cut(data_dir):
    whole, few = (load("mnist", data_dir=data_dir, limit=limit) for limit in (None, 3000))
    noisy, noisy_few = random_labels(whole, 1.0, seed=7), random_labels(few, 1.0, seed=7)
    assert torch.equal(noisy.train.labels[:3000], noisy_few.train.labels)
    assert (random_labels(whole, 20_000, seed=7, avoid_true=True).labels != whole.labels).sum() == 20_000
