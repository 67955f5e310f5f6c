import copy
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F

import reference
import unseen
from unseen import Place, TurnOverNet, UnseenError
from unseen.masks.leaks import advice
from unseen.masks.places import check_capacity, find_places, groups_for
from unseen.models.paper import build, cct2

NETS = {
    "mlp": (lambda: unseen.mlp(12, (32, 64), 3), (12,)),
    "vgg11": (lambda: unseen.vgg11(width=0.125), (3, 32, 32)),
    "vgg11 grey 28": (lambda: unseen.vgg11(1, width=0.125), (1, 28, 28)),
    "resnet10": (lambda: build("resnet10", (3, 32, 32), 10, width=0.125), (3, 32, 32)),
    "cct": (lambda: unseen.models.paper.CCT(1, 8, 3, True, dim=32, depth=2), (1, 8, 8)),
    "functional": (lambda: Functional(), (12,)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(12, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3)), (12,)),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 32, 3), nn.GroupNorm(4, 32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)),
        (1, 8, 8),
    ),
}


class Functional(nn.Module):
    """Activations that are no modules."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x):
        return self.last(F.relu(self.second(F.relu(self.first(x)))))


def make(name, batch=4, **options):
    made, shape = NETS[name]
    torch.manual_seed(0)
    net = TurnOverNet(made(), **options)
    return net, torch.randn(batch, *shape), torch.arange(batch) * 11


@pytest.mark.parametrize("name", NETS)
def test_only_the_output_bias_is_shared(name):
    net, x, index = make(name)
    leaks = unseen.audit(net, x, index % 3, index)
    last = list(net.net.state_dict())[-1]
    assert last.endswith("bias")
    assert {leak.parameter: leak.inner_product for leak in leaks if leak.parameter != last and leak.inner_product != 0.0} == {}
    assert next(leak for leak in leaks if leak.parameter == last).share == 1.0
    assert "output bias" in advice(net, leaks)


@pytest.mark.parametrize("model", ["mlp", "vgg11"])
def test_without_output_bias_nothing_is_shared(model):
    net = TurnOverNet(unseen.models.paper.build(model, (3, 32, 32), 10, (64,), 0.125, output_bias=False))
    leaks = unseen.audit(net, torch.randn(3, 3, 32, 32), torch.arange(3), torch.arange(3))
    assert all(leak.inner_product == 0.0 for leak in leaks)
    assert "Nothing is shared" in advice(net, leaks)


def test_a_layer_left_out_leaks_and_is_named():
    net, x, index = make("mlp", skip=["hidden1"])
    leaks = unseen.audit(net, x, index % 3, index)
    assert {leak.parameter for leak in leaks if leak.share > 0} == {"hidden1.weight", "hidden1.bias", "output.bias"}
    assert "mask 'hidden1'" in advice(net, leaks)


def test_a_step_on_an_example_does_not_move_its_unseen_half():
    net = TurnOverNet(unseen.mlp(12, (32, 64), 3, output_bias=False))
    x, index = torch.randn(1, 12), torch.tensor([5])
    before = net(x, index, "unseen")
    for _ in range(5):
        loss = F.cross_entropy(net(x, index), torch.tensor([1]))
        loss.backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
    assert torch.equal(net(x, index, "unseen"), before)
    assert not torch.equal(net(x, index, "seen"), before)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("fork", [True, False])
def test_forked_sides_equal_separate_passes(name, fork):
    net, x, index = make(name, fork=fork)
    seen, unseen_half, full = net(x, index, "all")
    both = net(x, index, "both")
    for forked, side in ((seen, "seen"), (unseen_half, "unseen"), (full, "full"), (both[0], "seen"), (both[1], "unseen")):
        torch.testing.assert_close(forked, net(x, index, side))
    torch.testing.assert_close(full, net(x))


def test_one_hidden_layer_is_the_average_of_its_halves():
    net = TurnOverNet(unseen.mlp(12, (32,), 3))
    x = torch.randn(5, 12)
    seen, unseen_half, full = net(x, torch.arange(5), "all")
    assert net.is_average_of_halves
    torch.testing.assert_close((seen + unseen_half) / 2, net(x))
    torch.testing.assert_close(full, net(x))
    assert not TurnOverNet(unseen.mlp(12, (32, 32), 3)).is_average_of_halves


@pytest.mark.parametrize("name", NETS)
def test_a_deep_copy_has_masks_of_its_own(name):
    net, x, index = make(name)
    seen = net(x, index)
    twin = copy.deepcopy(net)
    torch.testing.assert_close(twin(x, index), seen, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    torch.testing.assert_close(twin(x, index), seen, rtol=0, atol=0)
    assert not torch.equal(twin(x, index), twin(x, index, "unseen"))
    assert twin.switch is not net.switch


@pytest.mark.parametrize("name", NETS)
def test_the_users_state_dict_keeps_its_keys(name):
    build, _ = NETS[name]
    plain = build()
    keys, weights = list(plain.state_dict()), copy.deepcopy(plain.state_dict())
    unseen.attach(plain)
    assert list(plain.state_dict()) == keys
    plain.load_state_dict(weights, strict=True)


def test_func_transforms():
    net, x, index = make("mlp")
    parameters = dict(net.named_parameters())

    def loss(parameters, x, index):
        return functional_call(net, parameters, (x[None], index[None], "seen")).logsumexp(1).sum()

    per_example = vmap(grad(loss), (None, 0, 0))(parameters, x, index)
    for i in range(len(x)):
        one = grad(loss)(parameters, x[i], index[i])
        for name in parameters:
            torch.testing.assert_close(per_example[name][i], one[name])
    direction = {name: torch.randn_like(value) for name, value in parameters.items()}
    _, slope = jvp(lambda p: loss(p, x[0], index[0]), (parameters,), (direction,))
    torch.testing.assert_close(slope, sum((direction[name] * per_example[name][0]).sum() for name in parameters))
    assert net.switch.index is None


def test_the_switch_is_cleared_after_an_error():
    net, _, index = make("mlp")
    with pytest.raises(RuntimeError):
        net(torch.randn(4, 99), index)
    assert net.switch.index is None and net.switch.side == "full"


@pytest.mark.skipif(
    torch.__version__.startswith("2.6"), reason="PyTorch 2.6 breaks the graph at the choice of the side; it runs, in pieces"
)
def test_compiles_to_one_graph():
    net, x, index = make("mlp")
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for side in ("seen", "unseen", "full"):
        torch.testing.assert_close(compiled(x, index, side), net(x, index, side))
    torch.testing.assert_close(compiled(x, index, "both"), net(x, index, "both"))


def test_autocast_keeps_the_masks():
    net, x, index = make("mlp")
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x, index)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), net(x, index), rtol=0.05, atol=0.05)


def test_memorization_equals_the_slow_twin():
    net, x, index = make("mlp", batch=9)
    labels = index % 3
    fast = unseen.memorization(net, [(x[:5], labels[:5], index[:5]), (x[5:], labels[5:], index[5:])])
    torch.testing.assert_close(fast, reference.memorization_one_by_one(net, x, labels, index))


def test_memorization_of_examples(digits):
    net = TurnOverNet(unseen.mlp(64, (32,), 10))
    few = digits.select(torch.arange(30))
    torch.testing.assert_close(unseen.memorization(net, few, batch_size=7), unseen.memorization(net, [few.batch(torch.arange(30))]))


def test_masks_stand_behind_activation_and_pooling():
    assert [place.module for place in find_places(unseen.vgg11(width=0.125))][:3] == ["pool1", "pool2", "relu3"]
    assert [(place.module, place.input) for place in find_places(Functional())] == [("first", False), ("second", False), ("last", True)]


def test_groups_share_and_ties_repeat():
    net = TurnOverNet(unseen.mlp(4, (64, 32), 2), groups=16, tied=True)
    index = torch.arange(3)
    first, second = (net.net.get_submodule(place.module).turn_over for place in net.masked_layers())
    assert torch.equal(first.mask(index), second.mask(index))
    with net.switch.turned(index, "seen"):
        spread = first(torch.ones(3, 64))
    assert torch.equal(spread.view(3, 16, 4)[:, :, 0], spread.view(3, 16, 4)[:, :, 3])
    untied = TurnOverNet(unseen.mlp(4, (64, 64), 2))
    first, second = (untied.net.get_submodule(place.module).turn_over for place in untied.masked_layers())
    assert not torch.equal(first.mask(index), second.mask(index))


def test_few_groups_are_shared_and_halves_share_no_weight_but_the_output_bias():
    net = TurnOverNet(unseen.vgg11(width=0.125), groups=2, tied=True, scale=2**0.5)
    index = torch.arange(64)
    masks = {place.module: net.net.get_submodule(place.module).turn_over.mask(index) for place in net.masked_layers()}
    assert len(masks) == 9 and all(torch.equal(mask, masks["pool1"]) for mask in masks.values())
    check_capacity(net.masked_layers(), 60_000)
    first = masks["pool1"][:, 0] == masks["pool1"][0, 0]
    x = torch.randn(64, 3, 32, 32)
    nn.functional.cross_entropy(net(x[first], index[first]), torch.zeros(int(first.sum()), dtype=torch.int64)).backward()
    before = net(x[~first], index[~first]).detach()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name != "net.output.bias":
                value -= 0.1 * value.grad
    assert torch.equal(net(x[~first], index[~first]), before)


@pytest.mark.parametrize(("examples", "groups"), [(100, 2), (29_999, 2), (30_000, 4), (100_000, 6), (400_000, 8)])
def test_auto_takes_the_most_groups_that_leave_enough_examples_to_each_mask(examples, groups):
    assert groups_for(unseen.mlp(4, (48, 96), 2), examples) == groups


def test_auto_takes_groups_that_divide_every_width():
    assert groups_for(unseen.mlp(4, (48, 32), 2), 100_000) == 4
    assert groups_for(cct2(), 10**6) == 2  # two heads
    with pytest.raises(UnseenError, match="a layer of 31 units has no two equal groups"):
        groups_for(unseen.mlp(4, (31,), 2), 100)


def test_heads_of_attention_have_the_few_groups_of_the_other_layers():
    net = TurnOverNet(unseen.cct(), groups=2, tied=True)
    assert {place.groups for place in net.masked_layers()} == {2}


@pytest.mark.parametrize(
    ("width", "groups", "advice"),
    [
        (0.25, 16, "(--width 0.5 --groups 32)"),
        (0.3125, 10, "Use more groups: 20 divide every width"),
        (0.5, 16, "Use more groups: 32 divide every width"),
    ],
)
def test_the_advice_for_too_few_groups_works(width, groups, advice):
    """Every number that is named divides all widths, and is enough."""

    def check(width, groups):
        net = TurnOverNet(unseen.vgg11(width=width), groups=groups, tied=True)
        check_capacity(net.masked_layers(), 60_000, width)

    with pytest.raises(UnseenError) as refused:
        check(width, groups)
    assert advice in str(refused.value)
    named = re.search(r"--width ([\d.]+)", str(refused.value))
    check(float(named[1]) if named else width, int(re.search(r"--groups (\d+)", str(refused.value))[1]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TurnOverNet(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), "no hidden layer"),
        (lambda: TurnOverNet(unseen.mlp(4, (8,), 2), only=["conv9"]), "No hidden layer is called 'conv9'.*hidden1"),
        (lambda: TurnOverNet(unseen.mlp(4, (8,), 2), skip=["hidden*"]), "No layer is left"),
        (lambda: TurnOverNet(unseen.mlp(4, (16,), 2), examples=60_000), "Two examples would share a mask.*16 independent units.*60,000"),
        (lambda: TurnOverNet(unseen.mlp(4, (30,), 2), groups=16), "30 units, which do not divide into 16 groups"),
        (lambda: TurnOverNet(TurnOverNet(unseen.mlp(4, (8,), 2)).net), "masks already"),
        (lambda: unseen.attach(unseen.mlp(4, (8,), 2), places=[Place("relu1", "hidden1", 1)]), "at least 2 units"),
    ],
)
def test_bad_networks(build, message):
    with pytest.raises(UnseenError, match=message):
        build()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.arange(4), "left"), "Unknown side 'left'.*seen, unseen"),
        ((None, "seen"), "needs the examples' index"),
        ((torch.arange(3), "seen"), "one entry per example, 4 here"),
        ((torch.arange(4).float(), "seen"), "got torch.float32"),
    ],
)
def test_bad_calls(arguments, message):
    net, x, _ = make("mlp")
    with pytest.raises(UnseenError, match=message):
        net(x, *arguments)


def test_copies_in_threads_are_refused():
    net, x, index = make("mlp")
    net._is_replica = True  # as nn.DataParallel marks its copies
    with pytest.raises(UnseenError, match="nn.DataParallel.*one process per device"):
        net(x, index)
