"""What a run will take is said before it starts, and pictures are read once."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

import unseen
from unseen.data import inspect, opened, sample
from unseen.scoring import chosen, estimate, settings_of


def photographs(folder, count=80, size=(150, 150), mode="RGB"):
    """Pictures that are larger than what is read of them, of two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / ("cat", "dog")[number % 2] / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        grey = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(grey).convert(mode).save(place)
    return folder


def estimated(data, **options):
    source = opened(data, **{name: value for name, value in options.items() if name in ("text", "target")})
    settings = chosen(settings_of("data", "mlp", options), sample(source))
    return estimate(source, inspect(source), settings), settings


@pytest.fixture
def decoded(monkeypatch):
    """Names of the pictures that were decoded, one after the other."""
    from unseen.data import picturing

    seen, decode = [], picturing.decode
    monkeypatch.setattr(picturing, "decode", lambda item, name, form: (seen.append(name), decode(item, name, form))[1])
    return seen


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_read_once_whatever_is_chosen(tmp_path, decoded, mode):
    """A head sees larger pictures and holds none out: it is chosen from a few of them."""
    photographs(tmp_path / "p", mode=mode)
    options = {"features": "pixels"} if mode == "RGB" else {"hidden": (16,), "epochs": 1}
    run = unseen.score(str(tmp_path / "p"), out=tmp_path / "run", **options)
    assert run.config.estimator == ("head" if mode == "RGB" else "members")
    assert run.config.data.image_size == (128 if mode == "RGB" else None)
    assert len(decoded) == 64 + 80


def test_a_colour_picture_behind_those_that_are_looked_at_counts(tmp_path):
    photographs(tmp_path / "p", count=300, size=(12, 12), mode="L")
    Image.new("RGB", (12, 12), (9, 200, 9)).save(tmp_path / "p" / "cat" / "002.png")
    run = unseen.score(str(tmp_path / "p"), features="pixels", out=tmp_path / "run")
    assert run.config.estimator == "head" and "test" not in run.examples["split"].to_list()


def test_the_time_of_reading_is_said_before_all_pictures_are_read(tmp_path, monkeypatch):
    from unseen.data import picturing

    order, chunks = [], picturing._chunks
    monkeypatch.setattr(picturing, "PATIENCE", -1.0)
    monkeypatch.setattr(picturing, "LARGEST_UNSAID", 0)
    monkeypatch.setattr(picturing, "_chunks", lambda pictures, where, seen: (order.append(len(where)), chunks(pictures, where, seen))[1])
    monkeypatch.setattr("unseen.scoring.engine._say", order.append)
    photographs(tmp_path / "p")
    unseen.score(str(tmp_path / "p"), estimator="turnover", hidden=(16,), epochs=1, out=tmp_path / "run", progress=True)
    few, said, all_of_them = order
    assert (few, all_of_them) == (64, 80) and said.startswith("Reading 80 pictures takes about")


def test_estimates_follow_the_estimator_that_is_taken(tmp_path):
    found, settings = estimated("digits")
    assert found.estimator == settings.estimator == "members" and found.features is None and settings.data.held_out == 0.2
    assert 0 < found.seconds < 600 and found.memory_bytes > 2**20
    found, settings = estimated(photographs(tmp_path / "p"), features="pixels")
    assert found.estimator == settings.estimator == "head" and found.features == "pixels"
    assert settings.data.held_out == 0 and settings.data.image_size == 128


def test_estimates_grow_with_the_data(tmp_path):
    random = np.random.default_rng(0)
    times = []
    for count in (200, 200_000):
        frame = pl.DataFrame({**{f"x{column}": random.normal(size=count) for column in range(20)}, "label": random.integers(0, 3, count)})
        times.append(estimated(frame)[0])
    assert times[1].seconds > times[0].seconds and times[1].memory_bytes > times[0].memory_bytes + 8 * 20 * 199_000
