import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import reference_gradients as reference
import unseen
from unseen import TurnOverNet, UnseenError
from unseen.gradients.statistics import batch_gradient, contributions, cosine_matrix, cosine_similarity, gradient_norms, gradient_statistics

IMAGES, FEATURES, TOKENS = (2, 8, 8), (12,), (6,)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tensors are tiny, and threads that wait for each other on a busy machine are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Words(nn.Module):
    """Embedding with a padding token, then a linear layer and a norm on every token."""

    def __init__(self, tied=False, padding=0):
        super().__init__()
        self.table, self.mix, self.norm = nn.Embedding(9, 16, padding_idx=padding), nn.Linear(16, 16), nn.LayerNorm(16)
        self.output = None if tied else nn.Linear(16, 3)

    def forward(self, tokens):
        h = self.norm(torch.tanh(self.mix(self.table(tokens)))).mean(1)
        return F.linear(h, self.table.weight)[:, :3] if self.output is None else self.output(h)


class Repeated(nn.Module):
    """The same layer several times in one forward."""

    def __init__(self, layer, output, times=3):
        super().__init__()
        self.layer, self.output, self.times = layer, output, times

    def forward(self, x):
        for _ in range(self.times):
            x = torch.tanh(self.layer(x))
        return self.output(x.flatten(1))


class Attended(nn.Module):
    """Attention whose weights are not used through modules; ``time_major`` has the examples in the second dimension."""

    def __init__(self, time_major=False):
        super().__init__()
        self.table, self.time_major = nn.Embedding(9, 16), time_major
        self.attention, self.output = nn.MultiheadAttention(16, 2, batch_first=not time_major), nn.Linear(16, 3)

    def forward(self, tokens):
        h = self.table(tokens)
        h = h.transpose(0, 1) if self.time_major else h
        h = self.attention(h, h, h, need_weights=False)[0]
        return self.output(h.mean(0 if self.time_major else 1))


class TimeMajor(nn.Module):
    """The first dimension inside is the time."""

    def __init__(self):
        super().__init__()
        self.table, self.mix, self.output = nn.Embedding(9, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, tokens):
        return self.output(torch.tanh(self.mix(self.table(tokens).transpose(0, 1))).mean(0))


def convolutional(*layers, channels, pixels):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * pixels, 3))


NETS = {
    "mlp": (lambda: unseen.mlp(12, (32, 16), 3), FEATURES),
    "mlp turned": (lambda: TurnOverNet(unseen.mlp(12, (32, 16), 3)), FEATURES),
    "vgg11 turned": (lambda: TurnOverNet(unseen.vgg11(2, 3, width=0.125)), IMAGES),
    "cct turned": (lambda: TurnOverNet(unseen.models.paper.CCT(2, 8, 3, True, dim=32, depth=2)), IMAGES),
    "words": (Words, TOKENS),
    "linear used thrice": (lambda: Repeated(nn.Linear(12, 12), nn.Linear(12, 3)), FEATURES),
    "norm used thrice": (lambda: Repeated(nn.LayerNorm(12), nn.Linear(12, 3)), FEATURES),
    "no bias": (lambda: unseen.mlp(12, (32,), 3, output_bias=False), FEATURES),
    "rms norm, in place": (lambda: nn.Sequential(nn.Linear(12, 16), nn.RMSNorm(16), nn.ReLU(inplace=True), nn.Linear(16, 3)), FEATURES),
    "wide images norm": (lambda: convolutional(nn.Conv2d(2, 4, 3), nn.LayerNorm([4, 6, 6]), nn.ReLU(), channels=4, pixels=36), IMAGES),
    "group norm": (lambda: convolutional(nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), channels=8, pixels=36), IMAGES),
    "batch norm": (lambda: convolutional(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), channels=8, pixels=36), IMAGES),
    "groups, stride": (
        lambda: convolutional(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1, groups=4), channels=8, pixels=9),
        IMAGES,
    ),
    "dilation, mirrored": (
        lambda: convolutional(nn.Conv2d(2, 8, (3, 2), padding=(2, 1), dilation=2, padding_mode="reflect"), channels=8, pixels=64),
        IMAGES,
    ),
    "same padding": (lambda: convolutional(nn.Conv2d(2, 8, (3, 5), padding="same"), nn.ReLU(), channels=8, pixels=64), IMAGES),
    "one dimension": (lambda: convolutional(nn.Flatten(2), nn.Conv1d(2, 8, 5, 3), nn.ReLU(), channels=8, pixels=20), IMAGES),
    "three dimensions": (lambda: convolutional(nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 8, 2), nn.ReLU(), channels=8, pixels=49), IMAGES),
    "frozen front": (lambda: frozen(unseen.mlp(12, (32, 16), 3), "hidden1"), FEATURES),
}
FALLING_BACK = {
    "conv used thrice": (lambda: Repeated(nn.Conv2d(2, 2, 3, padding=1), nn.Linear(128, 3)), IMAGES, r"layer\.weight \(Conv2d\)"),
    "tied table": (lambda: Words(tied=True), TOKENS, r"table\.weight \(Embedding\)"),
    "table renormed": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.PReLU(), nn.Flatten(), nn.Linear(24, 3)),
        TOKENS,
        r"1\.weight \(PReLU\)",
    ),
    "attention": (Attended, TOKENS, r"attention\.in_proj_weight \(MultiheadAttention\)"),
    "time first": (TimeMajor, TOKENS, r"mix\.weight \(Linear\)"),
}


def frozen(net, layer):
    net.get_submodule(layer).requires_grad_(False)
    return net


def make(build, shape, count=10, seed=0):
    """A network and a batch; 10 examples, unless the sequence is to be as long as the batch."""
    torch.manual_seed(seed)
    net = build().train()
    x = torch.randint(9, (count, *shape)) if shape == TOKENS else torch.randn(count, *shape)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    return net, (x, torch.randint(3, (count,)), torch.arange(count) * 11)


def rows_of(net, batch):
    modes = [module.training for module in net.modules()]
    rows = reference.gradients_one_by_one(net, *batch)
    for module, mode in zip(net.modules(), modes, strict=True):
        module.training = mode
    return rows


def parts(batch, size):
    return list(zip(*(part.split(size) for part in batch), strict=True))


def check_all(net, batch):
    """Every statistic against its twin, in two unequal batches."""
    rows, pieces = rows_of(net, batch), parts(batch, 6)
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(gradient_norms(net, pieces), rows.norm(dim=1), **close)
    assert cosine_similarity(net, pieces) == pytest.approx(reference.cosine_similarity(rows), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(contributions(net, pieces, pieces[:1]), reference.contributions(rows, rows[:6]), **close)
    found = gradient_statistics(net, pieces, pieces[1:])
    torch.testing.assert_close(found.contributions, reference.contributions(rows, rows[6:]), **close)
    assert found.coherence == pytest.approx(reference.coherence(rows), rel=1e-4)
    assert found.variance == pytest.approx(reference.variance(rows), rel=1e-4)
    assert found.cosine_similarity == pytest.approx(reference.cosine_similarity(rows), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_rules_equal_formed_gradients(name):
    check_all(*make(*NETS[name]))  # warnings are errors: no fallback


@pytest.mark.parametrize("name", FALLING_BACK)
def test_without_a_rule_falls_back_by_name_and_says_what_it_costs(name):
    build, shape, layer = FALLING_BACK[name]
    net, batch = make(build, shape)
    with pytest.warns(UserWarning, match=f"{layer}.*MiB more memory"):
        cosine_similarity(net, [batch])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_all(net, batch)


def test_turned_networks_fall_back_too():
    with pytest.warns(UserWarning, match=r"net\.1\.weight \(PReLU\)"):
        net, batch = make(lambda: TurnOverNet(nn.Sequential(nn.Linear(12, 16), nn.PReLU(), nn.Linear(16, 3))), FEATURES)
        found = gradient_norms(net, [batch])
    torch.testing.assert_close(found, rows_of(net, batch).norm(dim=1))


def test_time_as_long_as_the_batch_is_not_taken_for_it():
    net, batch = make(TimeMajor, TOKENS, count=6)
    with pytest.warns(UserWarning, match=r"mix\.weight, mix\.bias|mix\.weight \(Linear\), mix\.bias"):
        found = gradient_norms(net, [batch])
    torch.testing.assert_close(found, rows_of(net, batch).norm(dim=1))


@pytest.mark.parametrize("name", ["vgg11 turned", "words"])
def test_in_float64_only_rounding_is_left(name):
    net, batch = make(*NETS[name])
    net, x = net.double(), batch[0].double() if batch[0].is_floating_point() else batch[0]
    exact = reference.cosine_similarity(rows_of(net, (x, *batch[1:])))
    assert cosine_similarity(net, [(x, *batch[1:])]) == pytest.approx(exact, rel=1e-8)


def test_an_example_has_the_gradient_of_its_own_half():
    net, (x, labels, index) = make(*NETS["mlp turned"])
    there, elsewhere = (gradient_norms(net, [(x, labels, i)]) for i in (index, index + 1))
    assert (there != elsewhere).all()
    order = torch.randperm(10)
    torch.testing.assert_close(gradient_norms(net, [(x[order], labels[order], index[order])]), there[order])


def test_formed_twins_agree():
    net, batch = make(*NETS["mlp turned"])
    torch.testing.assert_close(reference.gradients(net, *batch), reference.gradients_one_by_one(net, *batch))


def test_matrix_of_subsets_equals_pairs():
    net, batch = make(*NETS["mlp turned"])
    rows, (easy, difficult) = rows_of(net, batch), parts(batch, 6)
    matrix = cosine_matrix(net, {"easy": [easy], "difficult": [difficult]})
    between = reference.cosine_between(rows[:6], rows[6:])
    expected = [[reference.cosine_similarity(rows[:6]), between], [between, reference.cosine_similarity(rows[6:])]]
    torch.testing.assert_close(matrix, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-6)


def test_examples_are_streamed_and_the_batch_size_does_not_matter(digits):
    examples, net = digits.train.select(range(50)), TurnOverNet(unseen.mlp(64, (64,)))
    whole = gradient_statistics(net, examples, examples)
    streamed = gradient_statistics(net, examples, examples, batch_size=7)
    assert vars(whole).keys() == vars(streamed).keys()
    for name, value in vars(whole).items():
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(getattr(streamed, name)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.contributions, contributions(net, examples, batch_size=7))
    assert cosine_similarity(net, examples) == pytest.approx(whole.cosine_similarity, rel=1e-5)


def test_contributions_of_a_batch_to_itself_have_its_norm_as_mean():
    net, batch = make(*NETS["mlp turned"])
    step = batch_gradient(net, [batch])
    norm = math.sqrt(sum(float(part.square().sum()) for part in step.values()))
    assert float(contributions(net, [batch]).mean()) == pytest.approx(norm, rel=1e-5)


def test_contribution_is_what_a_small_step_gains():
    net, (x, labels, index) = make(*NETS["mlp turned"])
    net, x = net.double(), x.double()
    step, rate = batch_gradient(net, [(x, labels, index)]), 1e-6
    norm = math.sqrt(sum(float(part.square().sum()) for part in step.values()))
    found = contributions(net, [(x, labels, index)])

    def losses():
        return F.cross_entropy(net(x, index), labels, reduction="none").detach()

    before = losses()
    with torch.no_grad():
        for parameter, part in step.items():
            parameter -= rate * part / norm
    torch.testing.assert_close((before - losses()) / rate, found.double(), rtol=1e-3, atol=1e-5)


def test_equal_examples_agree_and_orthogonal_ones_do_not():
    net = nn.Linear(4, 2, bias=False)
    same = (torch.ones(5, 4), torch.zeros(5, dtype=torch.int64), torch.arange(5))
    found = gradient_statistics(net, [same])
    assert (found.cosine_similarity, found.coherence) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))
    assert found.variance == pytest.approx(0, abs=1e-6) and found.contributions is None
    unlike = gradient_statistics(net, [(torch.eye(4), torch.zeros(4, dtype=torch.int64), torch.arange(4))])
    assert unlike.cosine_similarity == pytest.approx(0, abs=1e-6)


def test_an_example_without_gradient_has_no_direction():
    net, (x, labels, index) = make(lambda: nn.Linear(12, 3, bias=False), FEATURES)
    x[3] = 0
    kept = index != 33
    whole, rest = cosine_similarity(net, [(x, labels, index)]), cosine_similarity(net, [(x[kept], labels[kept], index[kept])])
    assert whole == pytest.approx(rest, rel=1e-5)
    assert math.isnan(cosine_similarity(net, [(x[3:4], labels[3:4], index[3:4])]))


def test_the_network_is_left_as_it_was():
    net, batch = make(*NETS["batch norm"])
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradient_statistics(net, [batch], [batch])
    assert net.training and not net[1].training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_bad_input_is_refused():
    net, batch = make(*NETS["mlp"])
    with pytest.raises(UnseenError, match="empty"):
        cosine_similarity(net, [])
    with pytest.raises(UnseenError, match="no trainable parameters"):
        gradient_norms(net.requires_grad_(False), [batch])
    branching, batch = make(Branching, FEATURES)
    with pytest.raises(UnseenError, match=r"scale.*requires_grad_\(False\)"), pytest.warns(UserWarning, match="Branching"):
        cosine_similarity(branching, [batch])


class Branching(nn.Module):
    """vmap cannot look at a number."""

    def __init__(self):
        super().__init__()
        self.scale, self.output = nn.Parameter(torch.ones(12)), nn.Linear(12, 3)

    def forward(self, x):
        return self.output(x * self.scale if float(x.sum()) else x)
