"""Features in memory and in files: what is kept, what is found again, what never is mistaken for something else."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from unseen.data import Lazy, load
from unseen.errors import UnseenError
from unseen.features import Landmarks, extract, make_extractor, missing_weights
from unseen.features.cache import digest_of


def whole(data, **options):
    """All examples of a data set as train examples, in the order of their index."""
    examples = load(data, **options).joined()
    return examples.select(examples.index.argsort())


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, 3, 20, 24), generator=generator, dtype=torch.uint8)
    return whole((x, torch.arange(40) % 4))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    words = ["good film", "bad plot", "fine actors", "dull scenes", "great music"]
    rows = {"text": [f"{words[i % 5]} {words[(i * i + 1) % 5]} number {i}" for i in range(60)], "label": [i % 2 for i in range(60)]}
    pl.DataFrame(rows).write_csv(path)
    return whole(path, text="text")


def files(folder):
    return sorted(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("kind", ["pixels", "patches", "gradients", "patches+gradients"])
def test_chunks_do_not_matter(pictures, kind):
    at_once = extract(pictures, kind)
    small = extract(pictures, make_extractor(kind, pictures), chunk=7)
    assert len(at_once) == len(small) == 40
    assert at_once.tensor().shape == (40, at_once.dimensions)
    assert torch.allclose(at_once.tensor(), small.tensor(), atol=2e-3)
    assert torch.isfinite(at_once.tensor()).all()


def test_files_hold_what_memory_holds_and_are_found_again(pictures, tmp_path, monkeypatch):
    done = []
    written = extract(pictures, "gradients", cache=tmp_path, chunk=16, progress=lambda *at: done.append(at))
    assert done == [(16, 40), (32, 40), (40, 40)]
    assert len(files(tmp_path)) == 3
    assert torch.equal(written.tensor(), extract(pictures, "gradients", chunk=16).tensor())
    extractor = make_extractor("gradients", pictures)
    refuses = replace(extractor, embed=lambda some: pytest.fail("computed again"))
    assert torch.equal(extract(pictures, refuses, cache=tmp_path, chunk=16).tensor(), written.tensor())


def test_rows_are_read_from_their_files_in_any_order(pictures, tmp_path):
    written = extract(pictures, "gradients", cache=tmp_path, chunk=7)
    some = torch.tensor([39, 0, 7, 6, 21, 0])
    assert torch.equal(written.lazy().select(torch.arange(39, -1, -1)).gather(some), written.tensor().flip(0)[some])
    halves = [extract(pictures, "gradients", cache=tmp_path / "shared", chunk=7, share=(k, 2)) for k in range(2)]
    assert [len(half) for half in halves] == [21, 19] and len(files(tmp_path / "shared")) == 6


def test_a_killed_run_goes_on(pictures, tmp_path):
    extractor, chunks = make_extractor("gradients", pictures), []

    def dies(some):
        chunks.append(len(some))
        if len(chunks) == 2:
            raise KeyboardInterrupt
        return extractor.embed(some)

    with pytest.raises(KeyboardInterrupt):
        extract(pictures, replace(extractor, embed=dies), cache=tmp_path, chunk=10)
    assert len(files(tmp_path)) == 1
    chunks = [0, 0]
    found = extract(pictures, replace(extractor, embed=dies), cache=tmp_path, chunk=10)
    assert chunks[2:] == [10, 10, 10]
    assert torch.equal(found.tensor(), extract(pictures, "gradients", chunk=10).tensor())


def test_other_data_and_other_extractors_have_other_files(pictures, tmp_path):
    extract(pictures, "gradients", cache=tmp_path)
    changed = pictures.inputs.clone()
    changed[17, 1, 3, 3] ^= 255
    other = extract(replace(pictures, inputs=changed), "gradients", cache=tmp_path)
    assert len(files(tmp_path)) == 2
    assert torch.equal(other.tensor(), extract(replace(pictures, inputs=changed), "gradients").tensor())
    extract(pictures, "patches", cache=tmp_path)
    assert len({file.parent for file in files(tmp_path)}) == 2
    extract(replace(pictures, labels=pictures.labels.flip(0)), "gradients", cache=tmp_path)  # labels are not looked at
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("damage", [lambda raw: raw[:-40], lambda raw: raw[:-4] + b"abcd", lambda raw: b"nothing"])
def test_a_damaged_file_is_made_again_with_a_warning(pictures, tmp_path, damage):
    right = extract(pictures, "gradients", cache=tmp_path).tensor()
    [file] = files(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged"):
        again = extract(pictures, "gradients", cache=tmp_path)
    assert torch.equal(again.tensor(), right)
    file.write_bytes(b"gone since")
    with pytest.warns(UserWarning), pytest.raises(UnseenError, match="Run the command again"):
        again.tensor()


def test_pictures_that_are_read_when_asked_for(pictures):
    lazy = replace(pictures, inputs=Lazy(lambda where: pictures.inputs[where], torch.arange(40), pictures.shape))
    assert torch.equal(extract(lazy, "patches", chunk=16).tensor(), extract(pictures, "patches", chunk=16).tensor())


def test_arrays_functions_and_columns(pictures, tmp_path):
    vectors = torch.arange(80.0).view(40, 2)
    assert torch.equal(extract(pictures, vectors, chunk=9).tensor(), vectors)
    shuffled = pictures.select(torch.arange(39, -1, -1))
    table = pl.DataFrame({"v": vectors.tolist()})
    assert torch.equal(extract(shuffled, "column:v", table=table, chunk=9).tensor(), vectors.flip(0))
    pl.DataFrame({"v": [str(row) for row in vectors.tolist()]}).write_csv(tmp_path / "v.csv")
    assert torch.equal(extract(pictures, "column:v", table=tmp_path / "v.csv").tensor(), vectors)
    assert torch.equal(extract(pictures, lambda x: x.float().mean((2, 3))).tensor(), pictures.inputs.float().mean((2, 3)))
    extract(pictures, lambda x: x.float().mean((2, 3)), cache=tmp_path / "none")
    assert not (tmp_path / "none").exists()  # nobody knows what a function depends on


def test_texts(sentences):
    words = extract(sentences, "tfidf")
    assert words.tensor().shape[0] == len(sentences) and not words.bends
    twins = words.tensor() @ words.tensor().T
    assert torch.allclose(twins.diagonal(), torch.ones(len(sentences)), atol=0.15)
    lengths = extract(sentences, lambda texts: np.array([[float(len(text))] for text in texts]))
    assert lengths.tensor()[:, 0].tolist() == [len(text) for text in sentences.texts]


def test_texts_of_the_same_words_have_other_files(sentences, tmp_path):
    order = lambda texts: torch.tensor([[float(text.index("film") if "film" in text else -1)] for text in texts])
    extractor = replace(make_extractor(order, sentences), identity="order of words", embed=lambda some: order(some.texts))
    extract(sentences, extractor, cache=tmp_path)
    turned = replace(sentences, texts=[" ".join(reversed(text.split())) for text in sentences.texts])
    assert torch.equal(extract(turned, extractor, cache=tmp_path).tensor(), order(turned.texts))


def test_features_can_be_trained_on(pictures):
    weights = torch.zeros(extract(pictures, "gradients").dimensions, 2, requires_grad=True)
    (extract(pictures, "gradients").tensor() @ weights).sum().backward()
    assert weights.grad.abs().sum() > 0


def test_auto_says_what_an_installation_would_gain(pictures, sentences, monkeypatch):
    monkeypatch.setattr("unseen.features.pretrained.find_spec", lambda name: None)
    found = extract(pictures, "auto")
    assert found.kind == "patches+gradients" and "unseen[vision]" in found.advice
    assert extract(sentences, "auto").kind == "tfidf" and "unseen[text]" in missing_weights(sentences)
    assert extract(whole("digits", limit=50), "auto").advice == ""
    table = whole((torch.randn(30, 4), torch.arange(30) % 2))
    assert (extract(table).kind, extract(table).advice) == ("pixels", "")


def test_floats_as_pictures_are_scaled_by_the_data(pictures):
    scaled = replace(pictures, inputs=pictures.inputs.float() * 7 - 3, mean=pictures.mean * 255 * 7 - 3, std=pictures.std * 255 * 7)
    found = extract(scaled, "gradients").tensor()
    assert torch.isfinite(found).all() and found.std(0).max() > 0


BAD = {
    "an unknown kind": ("sift", "There are no features 'sift'"),
    "texts asked of pictures": ("tfidf", "describe texts"),
    "a column without a table": ("column:v", "need a table"),
    "too few rows": (torch.zeros(3, 2), r"\(3, 2\) for 40 examples"),
    "a number": (3, "Features are a int"),
    "NaN": (lambda x: x.float().flatten(1) * torch.nan, "hold a NaN"),
    "no row for each": (lambda x: x.float().mean(0), "one row for each"),
    "a function that fails": (lambda x: x.nothing, "AttributeError"),
    "no such folder": ("hf:nobody/nothing", "hf download nobody/nothing"),
    "no timm": ("timm:resnet18", "pip install timm"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_features_are_refused(pictures, name, monkeypatch):
    kind, message = BAD[name]
    with pytest.raises(UnseenError, match=message):
        extract(pictures, kind)


def test_bad_columns_are_refused(pictures, tmp_path):
    for table, message in (
        (pl.DataFrame({"w": [1]}), "There is no column 'v'"),
        (pl.DataFrame({"v": [[1.0]] * 5}), "5 rows"),
        (pl.DataFrame({"v": [[1.0]] * 39 + [[1.0, 2.0]]}), "1 to 2 numbers"),
        (pl.DataFrame({"v": ["a"] * 40}), "lists of numbers"),
        (tmp_path / "none.csv", "There is no file"),
    ):
        with pytest.raises(UnseenError, match=message):
            extract(pictures, "column:v", table=table)


def test_pictures_asked_of_a_table():
    table = whole((torch.randn(30, 4), torch.arange(30) % 2))
    with pytest.raises(UnseenError, match="look at pictures"):
        extract(table, "patches")


def test_digests_change_with_everything():
    x = torch.arange(6.0)
    digests = [
        digest_of(x),
        digest_of(x.view(2, 3)),
        digest_of(x.int()),
        digest_of("x"),
        digest_of("x", "y"),
        digest_of("xy"),
        digest_of(x, x),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of(x) == digest_of(x.clone())


def test_landmarks_are_the_kernel_on_themselves():
    x = torch.randn(80, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 10, 0.1, 1, 0.0]) + 3
    landmarks = Landmarks.learned(x)
    scaled = ((x - x.mean(0)) / x.std(0))[:, :4]
    kernel = (-landmarks.gamma * torch.cdist(scaled, scaled).square()).exp()
    found = landmarks(x)
    assert torch.allclose(found @ found.T, kernel, atol=1e-3)
    few = Landmarks.learned(x, 20)(x)
    assert few.shape[1] <= 20 and float((few @ few.T - kernel).abs().mean()) < 0.15


def test_a_head_of_landmarks_sees_a_ring():
    from unseen.training import fit_head

    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    labels = (x.norm(dim=1) > 1.18).long()
    examples = whole((x, labels))
    features = extract(examples)
    _, found = fit_head(features.head_map()(features.tensor()), examples.labels, 2, standardise=False)
    _, straight = fit_head(features.tensor(), examples.labels, 2)
    right = lambda one: float((one.unseen.argmax(1) == examples.labels).double().mean())
    assert right(found) > 0.9 > 0.7 > right(straight)
