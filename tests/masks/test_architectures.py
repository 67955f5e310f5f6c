import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unseen
from catalogue import CATALOGUE, CLASSES, BagClassifier, RecurrentClassifier, resnet, words
from run_readme import python_blocks
from test_layout import ROOT
from unseen import TurnOverNet, UnseenError, leak_of_a_step
from unseen.masks.leaks import advice

BY_NAME = {architecture.name: architecture for architecture in CATALOGUE}


def wrapped(name, seed=0):
    architecture = BY_NAME[name]
    torch.manual_seed(seed)
    net = TurnOverNet(architecture.build(), **architecture.options)
    return architecture, net, architecture.inputs(6), torch.arange(6) % CLASSES, torch.arange(6) * 7


@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_is_shared_but_the_named_parameters(name):
    architecture, net, x, labels, index = wrapped(name)
    leaks = unseen.audit(net, x, labels, index, architecture.loss)
    assert {leak.parameter for leak in leaks if leak.inner_product != 0.0} == set(architecture.shared)
    assert sum(leak.of_step for leak in leaks) < 1


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_step_changes_beside_the_named_parameters(name):
    architecture, net, x, labels, index = wrapped(name)
    for parameter_name, parameter in net.net.named_parameters():
        if parameter_name in architecture.shared:
            parameter.requires_grad_(False)
    leak = leak_of_a_step(net, x, labels, index, loss=architecture.loss, examples=3)
    assert (leak > 1e-3) == architecture.leaky and (leak < 1e-9) != architecture.leaky, leak
    assert ("convert_batch_norm" in advice(net, [])) == architecture.leaky


@pytest.mark.parametrize("name", BY_NAME)
def test_sides_together_equal_sides_alone(name):
    _, net, x, _, index = wrapped(name)
    net.eval()
    with torch.no_grad():
        seen, unseen_half, full = net(x, index, "all")
        for together, side in ((seen, "seen"), (unseen_half, "unseen"), (full, "full")):
            torch.testing.assert_close(together, net(x, index, side), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(seen, unseen_half)


def test_a_residual_stream_keeps_one_mask_from_end_to_end():
    net = TurnOverNet(resnet("group"))
    masks = {}
    for place in net.masked_layers():
        name = "turn_over_input" if place.input else "turn_over"
        masks.setdefault(place.units, []).append(net.net.get_submodule(place.module).get_submodule(name).mask(torch.arange(5)))
    assert len(masks) == 4 and all(torch.equal(mask, same[0]) for same in masks.values() for mask in same)


def test_converted_batch_norm_keeps_what_it_can():
    net = resnet().eval()
    x = torch.randn(2, 3, 16, 16)
    net.bn1.weight.data.uniform_()
    frozen = unseen.convert_batch_norm(copy.deepcopy(net), "frozen").train()
    torch.testing.assert_close(frozen(x), net(x))
    assert frozen.state_dict().keys() == net.state_dict().keys() and frozen.bn1.running_mean.eq(0).all()
    group = unseen.convert_batch_norm(copy.deepcopy(net))
    assert isinstance(group.layer4[1].bn2, nn.GroupNorm) and torch.equal(group.bn1.weight, net.bn1.weight)
    with pytest.raises(UnseenError, match="group or frozen; got 'layer'"):
        unseen.convert_batch_norm(net, "layer")
    with pytest.raises(UnseenError, match="masks already"):
        unseen.convert_batch_norm(TurnOverNet(resnet()).net)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_converted_recurrent_layer_is_the_same_without_masks(kind, bidirectional):
    net = RecurrentClassifier(kind, bidirectional)
    twin = unseen.convert_recurrent(copy.deepcopy(net))
    assert twin.state_dict().keys() == net.state_dict().keys()
    h = net.embedding(words(4))
    for ours, theirs in zip(twin.recurrent(h), net.recurrent(h), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_pytorch_encoder_keeps_its_masks_in_evaluation():
    _, net, x, _, index = wrapped("nn.TransformerEncoderLayer")
    net.eval()
    with torch.no_grad():
        assert not torch.allclose(net(x, index, "seen"), net(x, index, "unseen"))


@pytest.mark.parametrize("name", ["MLP", "ResNet-18, group norm", "BERT classifier", "GRU, converted"])
def test_grouped_masks_share_nothing_either(name):
    architecture, _, x, labels, index = wrapped(name)
    net = TurnOverNet(architecture.build(), groups=8)
    leaks = unseen.audit(net, x, labels, index, architecture.loss)
    assert {leak.parameter for leak in leaks if leak.inner_product != 0.0} == set(architecture.shared)
    assert leak_of_a_step(net, x, labels, index, examples=2) < 0.5


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(32, CLASSES), nn.Linear(12, 32)

    def forward(self, x):
        return self.head(F.relu(self.body(x)))


def test_an_output_layer_registered_first_is_found_out_and_can_be_named():
    x, labels = torch.randn(4, 12), torch.arange(4) % CLASSES
    with pytest.raises(UnseenError, match="Logits of HeadFirst are masked.*output=NAME"):
        unseen.audit(TurnOverNet(HeadFirst()), x, labels, torch.arange(4))
    leaks = unseen.audit(TurnOverNet(HeadFirst(), output="head"), x, labels, torch.arange(4))
    assert [leak.parameter for leak in leaks if leak.inner_product] == ["head.bias"]


class TwoBatches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.second(self.first(x.view(-1, 6)).view(len(x), -1, 8).mean(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TurnOverNet(nn.Sequential(nn.Embedding(9, 8), nn.LSTM(8, 8), nn.Linear(8, 2))), "batch_first=True"),
        (lambda: unseen.convert_recurrent(nn.LSTM(8, 8)), "batch_first=True"),
        (lambda: TurnOverNet(BagClassifier(), output="head"), "No layer is called 'head'.*hidden, output"),
        (lambda: TurnOverNet(TwoBatches())(torch.randn(4, 12), torch.arange(4)), "'first' gives .8, 8., where a mask of 8 units"),
        (lambda: TurnOverNet(RecurrentClassifier(nn.LSTM))({"y": torch.arange(4)}, torch.arange(3)), "one entry per example, 4 here"),
    ],
)
def test_nets_that_cannot_be_masked_are_refused(build, message):
    with pytest.raises(UnseenError, match=message):
        build()


def test_the_documented_network_runs(capsys):
    (block,) = python_blocks((ROOT / "docs" / "networks.md").read_text(encoding="utf-8"))
    exec(compile(block, "docs/networks.md", "exec"), {"__name__": "__main__"})
    assert "5.bias" in capsys.readouterr().out


def test_the_table_in_the_docs_has_every_architecture():
    rows = (ROOT / "docs" / "results" / "architectures.md").read_text(encoding="utf-8").splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows if row.startswith("| ")][1:] == list(BY_NAME)
