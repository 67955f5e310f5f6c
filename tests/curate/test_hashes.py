"""Perceptual hashes against a twin by SciPy's cosine transform, and changed copies of photographs that they find."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from torch.nn import functional as F

import unseen
from unseen.curate import duplicates, leaks
from unseen.curate.hashes import can_hash, changed_copies, hashed, picture_hashes


def hash_slowly(picture):
    """Of one picture (3, 32, 32): signs of 63 numbers."""
    grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
    slow = dctn(grey, norm="backward")[:8, :8].flatten()[1:]
    return np.where(slow > np.median(slow), 1, -1)


def test_hashes_are_those_of_the_cosine_transform():
    pictures = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32)).astype(np.uint8)
    expected = np.stack([hash_slowly(picture.astype(float)) for picture in pictures])
    np.testing.assert_array_equal(hashed(torch.from_numpy(pictures)).sign(), expected)
    larger = F.interpolate(torch.from_numpy(pictures).float(), (64, 64), mode="nearest")
    assert ((hashed(larger).sign().numpy() * expected) < 0).sum(1).max() <= 4


def test_a_picture_of_one_colour_is_like_no_other():
    assert (hashed(torch.full((2, 3, 20, 24), 7)) == 0).all()


@pytest.fixture(scope="module")
def pieces():
    """Pieces of 40 x 40 of a photograph of scikit-learn, without those of the sky, which are all alike."""
    from sklearn.datasets import load_sample_image

    picture = load_sample_image("china.jpg")[200:400, :640]
    return picture.reshape(5, 40, 16, 40, 3).swapaxes(1, 2).reshape(80, 40, 40, 3)


def saved_again(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def changed(pixels):
    """Copies: darker, smaller, grey, and of a low quality."""
    picture = Image.fromarray(pixels)
    smaller = np.asarray(picture.resize((20, 20)).resize((40, 40)))
    return [(0.8 * pixels).astype(np.uint8), smaller, np.asarray(picture.convert("L").convert("RGB")), saved_again(pixels, 40)]


def test_changed_copies_are_found_in_a_split_and_between_splits(pieces, tmp_path):
    copies = np.stack([copy for place in (3, 17, 44) for copy in changed(pieces[place])])
    pixels = np.concatenate([pieces, copies]).transpose(0, 3, 1, 2)
    labels = np.arange(len(pixels)) % 2
    run = unseen.score((pixels, labels), estimator="head", test_fraction=0.3, out=tmp_path / "run")
    doubles, leaked = duplicates(run, data=(pixels, labels)), leaks(run, data=(pixels, labels))
    source = dict(zip(range(80, 92), np.repeat([3, 17, 44], 4).tolist(), strict=True))
    same = {
        row["index"]
        for table in (doubles, leaked)
        for row in table.iter_rows(named=True)
        if _source(row["index"], source) == _source(row["other_index"], source)
    }
    assert len(same) >= 12  # of three times five, all but the first of each in its split
    assert len(set(doubles["index"]) - same) <= 8  # roofs and walls that are alike
    assert len(duplicates(run, near=0.99, data=(pixels, labels))) < len(doubles)


def _source(index, source):
    return source.get(index, index)


def test_grey_pictures_and_small_ones_have_no_hashes():
    picture = lambda *shape: unseen.load((torch.rand(20, *shape).numpy(), np.arange(20) % 2), test_fraction=1e-9).train
    assert can_hash(picture(3, 16, 20))
    assert not can_hash(picture(1, 28, 28)) and not can_hash(picture(3, 8, 8)) and not can_hash(picture(30))


def test_pairs_of_hashes_one_by_one(pieces):
    pixels = torch.from_numpy(np.concatenate([pieces, pieces[::7] // 2]).transpose(0, 3, 1, 2).copy())
    examples = unseen.load((pixels.numpy(), np.arange(len(pixels)) % 2), test_fraction=1e-9).train
    hashes = picture_hashes(examples)
    found = changed_copies(torch.rand(len(hashes), 5), hashes)
    apart = (hashes.sign()[:, None] != hashes.sign()).sum(2)
    expected = {(i, j) for i, j in (apart <= 4).nonzero().tolist() if i < j}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    assert len(expected) >= 12
