"""Folders of pictures: every file is read, or named as not read."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from builders import CASES, classes, counts, picture, skipped
from PIL import Image, ImageOps

from unseen.data.decoding import FORMATS
from unseen.data.folders import HIDDEN, NO_CLASS, NO_PICTURE, OTHER_FOLDER, is_picture
from unseen.data.loading import load
from unseen.data.split_names import split_of, split_of_file
from unseen.errors import UnseenError

# -- splits


@pytest.mark.parametrize(
    ("train", "others"),
    [
        ("train", ["test"]),
        ("Training", ["Testing"]),
        ("train", ["val", "test"]),
        ("train", ["dev"]),
        ("train", ["Val"]),
        ("TRAIN", ["VALID", "TEST"]),
        ("seg_train", ["seg_test"]),
        ("trainset", ["validation_set"]),
        ("train_images", ["test images"]),
        ("training-data", ["Eval"]),
    ],
)
def test_every_split_is_read_however_it_is_spelled(tmp_path, train, others):
    classes(tmp_path / train, each=5)
    for number, name in enumerate(others):
        classes(tmp_path / name, each=2 + number)
    examples = load(tmp_path)
    measured = sum(2 + number for number in range(len(others)))
    assert examples.classes == ("cat", "dog")
    assert counts(examples) == {("train", "cat"): 5, ("train", "dog"): 5, ("test", "cat"): measured, ("test", "dog"): measured}
    assert examples.ids[0] == f"{train}/cat/00.png"
    assert examples.reading.found == len(examples) and not examples.reading.skipped
    assert examples.reading.sources == {train: 10} | {name: 2 * (2 + number) for number, name in enumerate(others)}


def test_test_stands_before_validation(tmp_path):
    for name in ("train", "val", "test"):
        classes(tmp_path / name, each=2)
    assert [name.split("/")[0] for name in load(tmp_path).ids] == ["train"] * 4 + ["test"] * 4 + ["val"] * 4


@pytest.mark.parametrize("name", ["cat", "trainer", "pretrained", "testament", "valley", "training shoes", "device"])
def test_other_names_are_no_splits(name):
    assert split_of(name) is None


def test_names_of_files_say_their_split_anywhere():
    names = ("train-00000-of-00002", "my_train", "Validation", "test_set_v2", "prices", "train_and_test")
    assert [split_of_file(name) for name in names] == ["train", "train", "val", "test", None, None]


@pytest.mark.parametrize("word", ["train", "test", "valid", "Training"])
def test_a_class_may_be_called_as_a_split(tmp_path, word):
    classes(tmp_path, names=("bus", "car", word), each=4)
    examples = load(tmp_path, test_fraction=0)
    assert counts(examples) == {("train", name): 4 for name in ("bus", "car", word)}
    assert set(examples.classes) == {"bus", "car", word}


def test_a_split_beside_folders_that_may_be_classes_is_refused(tmp_path):
    classes(tmp_path / "train")
    classes(tmp_path, names=("bus",))
    with pytest.raises(UnseenError, match=r"'train' with folders in it, like a split, and 'bus', like a class"):
        load(tmp_path)


@pytest.mark.parametrize("names", [("valid", "test"), ("train", "test1"), ("Training", "Testing")])
def test_splits_without_classes_or_without_train_are_no_classes(tmp_path, names):
    for name in names:
        if "train" in "".join(names).lower():
            classes(tmp_path, names=(name,))
        else:
            classes(tmp_path / name)
    with pytest.raises(UnseenError, match="names of splits"):
        load(tmp_path)


def test_an_unlabelled_test_folder_is_named(tmp_path):
    classes(tmp_path / "train")
    for number in range(7):
        picture(tmp_path / "test" / f"{number}.jpg", number)
    examples = load(tmp_path, test_fraction=0)
    assert len(examples) == 10 and skipped(examples) == {OTHER_FOLDER: 7}


@pytest.mark.parametrize("place", ["", "archive", "chest_xray/chest_xray"])
def test_an_unpacked_archive_is_looked_into(tmp_path, place):
    for name in ("train", "test"):
        classes(tmp_path / place / name, each=3)
    examples = load(tmp_path)
    assert counts(examples) == {(split, name): 3 for split in ("train", "test") for name in ("cat", "dog")}
    assert examples.ids[0] == "/".join(filter(None, (place, "train/cat/00.png")))


def test_a_split_with_its_name_twice_and_a_test_split_of_one_class(tmp_path):
    classes(tmp_path / "seg_train" / "seg_train")
    classes(tmp_path / "seg_test" / "seg_test", names=("dog",))
    (tmp_path / "seg_pred").mkdir()
    picture(tmp_path / "seg_pred" / "1.jpg")
    (tmp_path / "seg_test" / "seg_test" / "dog" / "more").mkdir()
    picture(tmp_path / "seg_test" / "seg_test" / "dog" / "more" / "1.png", 7)
    examples = load(tmp_path)
    assert counts(examples) == {("train", "cat"): 5, ("train", "dog"): 5, ("test", "dog"): 6}
    assert skipped(examples) == {OTHER_FOLDER: 1}


def test_a_class_that_only_the_test_split_has_is_said(tmp_path):
    classes(tmp_path / "train")
    classes(tmp_path / "test", names=("cat", "emu"), each=2)
    assert any("'emu' is only in a split that is not trained on" in note for note in load(tmp_path).reading.notes)


# -- files


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".JPG", "JPEG"),
        ("", "JPEG"),
        ("", "PNG"),
        (".dat", "WEBP"),
        (".image", "TIFF"),
        (".PNG", "PNG"),
    ],
)
def test_what_a_file_is_is_decided_by_its_content(tmp_path, suffix, form):
    classes(tmp_path)
    expected = picture(tmp_path / "cat" / f"odd{suffix}", 77, form=form)
    examples = load(tmp_path, test_fraction=0)
    assert counts(examples) == {("train", "cat"): 6, ("train", "dog"): 5}
    place = examples.ids.index(f"cat/odd{suffix}")
    with Image.open(tmp_path / "cat" / f"odd{suffix}") as image:
        assert np.array_equal(examples.inputs[place].permute(1, 2, 0), np.asarray(image)) and expected.shape == (6, 8, 3)


def test_avif_where_pillow_has_it(tmp_path):
    if "AVIF" not in Image.SAVE and "AVIF" not in (Image.init() or Image.SAVE):
        pytest.skip("this Pillow has no AVIF")
    picture(tmp_path / "x", 1, size=(16, 16), form="AVIF")
    assert is_picture(tmp_path / "x") and "AVIF" in FORMATS


def test_system_files_are_skipped_and_counted(tmp_path):
    classes(tmp_path)
    for name in ("cat/._00.png", "cat/.DS_Store", "dog/Thumbs.db", "desktop.ini", "__MACOSX/cat/._1.png", "@eaDir/x.jpg", ".git/a/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    picture(tmp_path / "cat" / ".ipynb_checkpoints" / "00-checkpoint.png")
    picture(tmp_path / ".ipynb_checkpoints" / "00-checkpoint.png")
    examples = load(tmp_path, test_fraction=0)
    assert len(examples) == 10 and skipped(examples) == {HIDDEN: 9} and examples.reading.found == 19


def test_every_other_file_is_counted_with_an_example(tmp_path):
    classes(tmp_path / "train")
    classes(tmp_path / "test", each=2)
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "train" / "cat" / "00.xml").write_text("<box/>")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.txt").write_text("0 0.5")
    (tmp_path / "train" / "cat" / "raw.heic").write_bytes(b"\0\0\0\x18ftypheic")
    picture(tmp_path / "top.png")
    picture(tmp_path / "train" / "split.png")
    examples = load(tmp_path)
    assert skipped(examples) == {NO_PICTURE: 4, NO_CLASS: 2}
    assert examples.reading.found == len(examples) + examples.reading.left_out == 20
    assert any("4 files not read: not a picture that Pillow can read, such as README.md." in line for line in examples.reading.lines())


def test_a_class_of_files_that_cannot_be_read_is_refused(tmp_path):
    classes(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "1.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UnseenError, match="class folder .*emu holds no images"):
        load(tmp_path)


def test_links_to_folders_are_followed_where_classes_stand(tmp_path):
    classes(tmp_path / "far", names=("cat",))
    classes(tmp_path / "near", names=("dog",))
    os.symlink(tmp_path / "far" / "cat", tmp_path / "near" / "cat")
    os.makedirs(tmp_path / "near" / "dog" / "deep")
    os.symlink(tmp_path, tmp_path / "near" / "dog" / "deep" / "loop")
    examples = load(tmp_path / "near", test_fraction=0)
    assert counts(examples) == {("train", "cat"): 5, ("train", "dog"): 5} and sum(skipped(examples).values()) == 1


# -- damaged pictures


def damage(folder):
    """Three damaged pictures: empty, cut off, no picture."""
    (folder / "cat" / "00.png").write_bytes(b"")
    whole = (folder / "cat" / "01.png").read_bytes()
    (folder / "cat" / "01.png").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "03.png").write_text("<html>not found</html>")


@pytest.mark.parametrize("memory_gib", [4.0, 0.0])
@pytest.mark.parametrize("each", [5, 60])
def test_all_damaged_pictures_are_in_one_message_or_skipped(tmp_path, memory_gib, each):
    classes(tmp_path, each=each)
    damage(tmp_path)
    if memory_gib:
        with pytest.raises(UnseenError, match=r"Cannot read 3 images: .*cat/00\.png, .*cat/01\.png, .*dog/03\.png.*--skip-damaged"):
            load(tmp_path)
    examples = load(tmp_path, skip_damaged=True, test_fraction=0, memory_gib=memory_gib)
    assert counts(examples) == {("train", "cat"): each - 2, ("train", "dog"): each - 1} and skipped(examples) == {"damaged": 3}
    assert "cat/00.png" not in examples.ids and len(examples.ids) == len(examples.index) == 2 * each - 3
    x, labels, index = examples.batch(torch.arange(len(examples)))
    for place in (0, len(examples) - 1):
        with Image.open(tmp_path / examples.ids[place]) as image:
            raw = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        torch.testing.assert_close(examples.standardise(raw[None])[0], x[place])
    assert index[0] == 2 and labels[0] == 0  # positions are those of the whole folder


# -- what pictures become


def test_transparent_pictures_are_put_on_white(tmp_path):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:4] = 255
    alpha[5] = 128
    for name, pixels in (("a", np.zeros((8, 8, 3), np.uint8)), ("b", np.full((8, 8, 3), (200, 0, 0), np.uint8))):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / name / f"{number}.png")
    examples = load(tmp_path, test_fraction=0)
    icon = examples.inputs[examples.ids.index("a/0.png")]
    assert icon[:, 0, 0].tolist() == [255] * 3 and icon[:, 2, 0].tolist() == [0] * 3 and icon[0, 5, 0] in (126, 127, 128)
    assert "Transparent pictures are put on white." in examples.reading.notes


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_grey_and_palette_transparency(tmp_path, mode):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            shade = np.full((4, 4, 4), (0, 0, 0, 255), np.uint8)
            shade[0] = 0
            image = Image.fromarray(shade)
            image = image.convert("LA") if mode == "LA" else image.quantize(4)
            image.save(tmp_path / name / f"{number}.png")
    examples = load(tmp_path, test_fraction=0)
    assert examples.inputs[0, :, 0].unique().tolist() == [255] and examples.inputs[0, :, 1:].unique().tolist() == [0]
    assert examples.shape[0] == (1 if mode == "LA" else 3)


def test_white_drawings_are_put_on_black(tmp_path):
    drawing = np.full((6, 6, 4), 255, np.uint8)
    drawing[:3, :, 3] = 0
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(drawing).save(tmp_path / name / f"{number}.png")
    examples = load(tmp_path, test_fraction=0)
    assert examples.inputs[0, :, 0].unique().tolist() == [0] and examples.inputs[0, :, 5].unique().tolist() == [255]
    assert any("black" in note for note in examples.reading.notes)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_as_pillow_does_it(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        for number in range(3):
            picture(tmp_path / name / f"{number}.jpg", number, size=(12, 7), exif=exif, quality=95)
    examples = load(tmp_path, test_fraction=0)
    with Image.open(tmp_path / "a" / "0.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(examples.inputs[0].permute(1, 2, 0), expected)
    assert examples.shape == (3, *expected.shape[:2])
    assert any("EXIF" in note for note in examples.reading.notes) == (orientation != 1)


def test_exif_rotation_of_some_among_upright_ones(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(4):
        picture(tmp_path / "a" / f"{number}.jpg", number, size=(10, 6), exif=exif)  # lying: 6 wide, 10 high
        picture(tmp_path / "b" / f"{number}.jpg", number, size=(6, 10))
    examples = load(tmp_path, test_fraction=0)
    assert examples.shape == (3, 10, 6) and examples.reading.sizes == {"6 x 10": 8}


def test_large_pictures_of_one_size_are_made_small_and_that_is_said(tmp_path):
    classes(tmp_path, each=2, size=(400, 300))
    examples = load(tmp_path, test_fraction=0)
    assert examples.shape == (3, 32, 32)
    assert any("400 x 300 pixels; each is squeezed to 32 x 32. --image-size N" in note for note in examples.reading.notes)
    assert load(tmp_path, test_fraction=0, image_size=64).shape == (3, 64, 64)


def test_mixed_sizes_are_said(tmp_path):
    classes(tmp_path, names=("cat",), size=(20, 30))
    classes(tmp_path, names=("dog",), size=(9, 7))
    examples = load(tmp_path, test_fraction=0)
    assert examples.shape == (3, 32, 32) and examples.reading.sizes == {"20 x 30": 5, "9 x 7": 5}
    assert any("several sizes, 9 x 7 to 20 x 30 pixels; each is squeezed to 32 x 32" in note for note in examples.reading.notes)


def test_pictures_up_to_128_pixels_keep_their_size_without_a_word(tmp_path):
    classes(tmp_path, each=2, size=(128, 128))
    examples = load(tmp_path, test_fraction=0)
    assert examples.shape == (3, 128, 128) and not examples.reading.notes


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_large_photographs_are_the_same_as_resized_in_one_step(tmp_path, form):
    """Decoding at a reduced scale is the fast path; its twin decodes the whole and resizes."""
    ramp = np.linspace(0, 255, 1600)[None, :, None] * np.linspace(0, 1, 1200)[:, None, None] * np.array([1.0, 0.5, 0.2])
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / name / f"{number}.{form.lower()}", form)
    examples = load(tmp_path, test_fraction=0)
    with Image.open(tmp_path / "a" / f"0.{form.lower()}") as image:
        slow = np.asarray(image.convert("RGB").resize((32, 32)))
    assert np.abs(examples.inputs[0].permute(1, 2, 0).numpy().astype(int) - slow).max() <= 4


def test_classes_keep_their_names_with_blanks_and_numbers(tmp_path):
    classes(tmp_path, names=("10", "2", "1"), each=3)
    examples = load(tmp_path, test_fraction=0)
    assert examples.classes == ("1", "2", "10") and examples.reading.classes == {"1": 3, "2": 3, "10": 3}
    classes(tmp_path / "b", names=("cat", "cat ", "Dog"), each=3)
    examples = load(tmp_path / "b", test_fraction=0)
    assert set(examples.classes) == {"cat", "cat ", "Dog"}
    assert "'cat '" in " ".join(examples.reading.lines()) and any(
        "differ in capitals or blanks alone" in note for note in examples.reading.notes
    )


# -- the cases of real users


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not on this machine")
@pytest.mark.parametrize(
    ("case", "train", "test", "left_out"),
    [
        ("img_split_Training_Testing", 40, 12, 0),
        ("img_split_train_val_test", 40, 22, 0),
        ("img_jfif", 24, 0, 0),
        ("img_class_called_train", 60, 0, 0),
        ("img_mac_sidecar", 40, 0, 6),
        ("img_checkpoints_inside", 40, 0, 2),
        ("img_modes", 36, 0, 0),
        ("img_numbers", 60, 0, 0),
        ("img_csv_of_paths", 40, 0, 0),
        ("img_exif", 40, 0, 0),
        ("img_transparent_icons", 40, 0, 0),
        ("img_photo_size", 14, 0, 0),
    ],
)
def test_cases(case, train, test, left_out):
    examples = load(CASES / case / "data", test_fraction=0)
    assert (len(examples.train), len(examples.test), examples.reading.left_out) == (train, test, left_out)
    assert examples.shape == ((3, 32, 32) if case == "img_photo_size" else (3, 16, 16))
    assert examples.inputs.float().std() > 1 or case == "img_photo_size"  # its pictures are all black


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not on this machine")
def test_the_case_of_several_damaged_pictures():
    with pytest.raises(UnseenError, match=r"Cannot read 3 images: .*bar/04\.jpg, .*bar/05\.jpg, .*circle/03\.jpg"):
        load(CASES / "img_corrupt_several" / "data")
    assert len(load(CASES / "img_corrupt_several" / "data", skip_damaged=True)) == 37


# -- photographs


def test_photographs_are_read_a_few_at_a_time_and_small(tmp_path):
    """60 pictures of 12 megapixels, 36 MB each once decoded: the memory of the process grows by a fraction of that."""
    ramp = np.linspace(0, 255, 4000)[None, :, None] * np.linspace(0, 1, 3000)[:, None, None] * np.ones(3)
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "one.jpg")
    for number in range(60):
        (tmp_path / "set" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / "one.jpg", tmp_path / "set" / "ab"[number % 2] / f"{number}.jpg")
    command = (
        "import resource, sys, unseen, PIL.Image, numpy; used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "unseen.load('digits', limit=20); before = used(); examples = unseen.load(sys.argv[1]); print(len(examples), used() - before)"
    )
    answer = subprocess.run([sys.executable, "-c", command, str(tmp_path / "set")], capture_output=True, text=True, check=True)
    count, mebibytes = answer.stdout.split()
    assert int(count) == 60 and float(mebibytes) < 600


def test_long_readings_are_said_before_they_start(tmp_path, monkeypatch):
    classes(tmp_path, each=3, size=(300, 200))
    said = []
    load(tmp_path, say=said.append)
    assert not said  # short ones are not
    monkeypatch.setattr("unseen.data.picturing.LARGEST_UNSAID", 0)
    monkeypatch.setattr("unseen.data.picturing.PATIENCE", 0.0)
    load(tmp_path, say=said.append)
    assert len(said) == 1 and said[0].startswith("Reading 6 pictures takes about ") and "MiB of memory" in said[0]


@pytest.mark.parametrize("places", [("images/train", "images/test", "masks/train"), ("a/train", "b/other")])
def test_splits_that_other_folders_hold_are_refused(tmp_path, places):
    for place in places:
        classes(tmp_path / place, each=2)
    inside = tmp_path / places[0].split("/")[0]
    with pytest.raises(UnseenError, match=f"{inside} holds a train split, and the folder .* stands beside it.*Give {inside} alone"):
        load(tmp_path)


def test_train_and_validation_together(tmp_path):
    for name in ("train_val", "test"):
        classes(tmp_path / name, each=3)
    assert counts(load(tmp_path)) == {(split, name): 3 for split in ("train", "test") for name in ("cat", "dog")}


def test_a_test_split_beside_a_folder_of_unknown_name_is_refused(tmp_path):
    for name in ("gallery", "test"):
        classes(tmp_path / name, each=3)
    with pytest.raises(UnseenError, match="gallery, test with folders in them; some are named as splits, and none as train"):
        load(tmp_path)
