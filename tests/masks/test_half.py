import hashlib

import pytest
import torch

import reference
from unseen.errors import UnseenError
from unseen.hashing import hash64, uniform
from unseen.masks.half import FEW, HalfMask, SharedMask, capacity

WIDTHS = [2, 3, 5, 16, 17, 20, 31, 32, 64, 77, 80, 100, 256, 1000]
LARGE = [0, 1, 2, 8191, 8192, 60_000, 2**31, 2**40 + 7, 2**62 - 1]
GOLDEN = {16: "fd777eb3c85ef892", 77: "5ff371687832db28", 512: "508b1b02d272d748"}
GOLDEN_HASH = [839974675891447898, 3804497842732390391, -4599490490053697672]


@pytest.mark.parametrize("units", WIDTHS)
def test_equals_the_slow_twin(units):
    for seed, layer in ((0, 0), (7, 3), (-5, 1)):
        fast = HalfMask(units, seed, layer)(torch.tensor(LARGE))
        assert fast.tolist() == [reference.mask_of(index, units, seed, layer) for index in LARGE]


@pytest.mark.parametrize("units", WIDTHS)
def test_half_of_the_units_are_on(units):
    on = HalfMask(units)(torch.arange(min(capacity(units), 5000))).sum(1) // 2
    assert set(on.tolist()) <= ({units // 2} if units % 2 == 0 else {units // 2, units // 2 + 1})
    assert abs(on.double().mean() - units / 2) < 0.02


@pytest.mark.parametrize("units", [2, 3, 5, 7, 12, 16, 17, 18])
def test_no_two_examples_share_a_mask_exhaustively(units):
    masks = HalfMask(units, seed=3)(torch.arange(capacity(units)))
    assert len(torch.unique(masks, dim=0)) == capacity(units)


@pytest.mark.parametrize("units", [32, 80, 4096])
def test_no_two_examples_share_a_mask_at_any_distance(units, generator):
    index = torch.cat([torch.randint(0, min(capacity(units), 2**62 - 1), (4000,), generator=generator), torch.arange(4000)]).unique()
    words = HalfMask(units)(index)[:, :80]
    assert len(torch.unique(words, dim=0)) == len(index)


def test_units_are_fair_and_examples_independent():
    masks = HalfMask(256)(torch.arange(20_000)).double() / 2
    assert (masks.mean(0) - 0.5).abs().max() < 5 * 0.5 / 20_000**0.5
    neighbours = ((masks[1:] - 0.5) * (masks[:-1] - 0.5)).mean(0)
    assert neighbours.abs().max() < 5 * 0.25 / 20_000**0.5
    units = torch.corrcoef(masks.T)
    across_words = units - torch.block_diag(*[units[i : i + 16, i : i + 16] for i in range(0, 256, 16)])
    assert across_words.abs().max() < 6 / 20_000**0.5


def test_batch_order_subset_and_shape_do_not_matter():
    mask = HalfMask(100, seed=1, layer=2)
    index = torch.arange(1000)
    whole = mask(index)
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mask(index[shuffled]), whole[shuffled])
    assert torch.equal(mask(index[17:18])[0], whole[17])
    assert torch.equal(mask(torch.tensor(17)), whole[17])


def test_golden_values():
    """Masks are the same bits in every version: a run of last year can be read with this year's library."""
    index = torch.tensor(LARGE)
    digests = {units: hashlib.sha256(bytes(HalfMask(units, 42, 1)(index).flatten().tolist())).hexdigest()[:16] for units in (16, 77, 512)}
    assert digests == GOLDEN
    assert hash64(torch.tensor([0, 1, 2**62]), 0, "golden").tolist() == GOLDEN_HASH


def test_hash_is_uniform():
    draws = uniform(torch.arange(100_000), 0, "test")
    assert ((draws >= 0) & (draws < 1)).all()
    assert abs(draws.mean() - 0.5) < 0.005 and abs(draws.var() - 1 / 12) < 0.002
    assert len(torch.unique(hash64(torch.arange(100_000), 1))) == 100_000


@pytest.mark.parametrize("units", [0, 1])
def test_too_few_units(units):
    with pytest.raises(UnseenError, match=f"at least 2 units, got {units}"):
        HalfMask(units)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_has_the_same_bits():
    index = torch.arange(10_000)
    for units in WIDTHS:
        mask = HalfMask(units, 1, 2)
        assert torch.equal(mask(index), mask.cuda()(index.cuda()).cpu())


@pytest.mark.parametrize("groups", [2, 4, 6, 8])
def test_shared_masks_are_halves_all_equally_likely_and_other_ones_for_each_seed(groups):
    index = torch.arange(70_000)
    one, other = SharedMask(groups, seed=1), SharedMask(groups, seed=2)
    masks, counts = torch.unique(one(index), dim=0, return_counts=True)
    assert len(masks) == len(one.words) == len(torch.unique(one.words, dim=0))
    assert (masks.sum(1) == groups).all()
    assert (counts / len(index) * len(masks) - 1).abs().max() < 0.2
    same = (one.number(index) == other.number(index)).double().mean()
    assert abs(float(same) - 1 / len(masks)) < 0.01
    assert torch.equal(one(index[[5, 3]]), one(index)[[5, 3]])
    assert one.number(torch.tensor([0, 2**62 - 1])).tolist() == SharedMask(groups, seed=1).number(torch.tensor([0, 2**62 - 1])).tolist()


@pytest.mark.parametrize("groups", [1, FEW + 1])
def test_shared_masks_are_of_few_groups(groups):
    with pytest.raises(UnseenError, match="among 2 to 8 groups"):
        SharedMask(groups)
