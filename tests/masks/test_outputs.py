"""A network's output at its first batch: what works as logits, what is refused by name, and what is warned of."""

import collections
import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import unseen
from unseen import TurnOverNet, UnseenError
from unseen.masks import classifier, first_rows, logits_of, two_logits, warn_of_probabilities
from unseen.training import new_network

N = 48
LABELS = torch.arange(N) % 3
INPUTS = torch.randn(N, 8, generator=torch.Generator().manual_seed(0)) + LABELS[:, None]
OPTIONS = {"epochs": 2, "lr": 0.1, "batch_size": 16, "precision": "32", "seeds": 1}
FEW = INPUTS[: len(first_rows(N, 3))]


def mlp(out=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, out))


class After(nn.Module):
    """A network and what it does to its logits."""

    def __init__(self, post, out=3):
        super().__init__()
        self.net, self.post = mlp(out), post

    def forward(self, x):
        return self.post(self.net(x))


class Chosen(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x, mask):
        return self.net(x * mask)


Named = collections.namedtuple("Named", ["logits", "aux"])


def same(z):
    return z


@pytest.fixture
def scored(tmp_path):
    def scored(net, labels=LABELS, estimator="turnover", **options):
        name = f"run-{len(list(tmp_path.iterdir()))}"
        return unseen.score((INPUTS, labels), net, out=tmp_path / name, estimator=estimator, **OPTIONS | options)

    scored.folder = tmp_path
    return scored


WORK = {
    "dict": lambda z: {"loss": z.sum(), "logits": z},
    "tuple": lambda z: (z, z.sum()),
    "list": lambda z: [z],
    "namespace": lambda z: SimpleNamespace(logits=z, hidden=z),
    "named tuple": lambda z: Named(z, z * 2),
}


@pytest.mark.parametrize("estimator", ["turnover", "members", "plain"])
@pytest.mark.parametrize("kind", WORK)
def test_outputs_that_hold_logits_score_as_the_logits_do(scored, kind, estimator):
    options = {"estimator": estimator} | ({"members": 4} if estimator == "members" else {})
    plain, held = (scored(After(post), **options).scores for post in (same, WORK[kind]))
    names = [name for name in ("loss_full", "memorization", "cumulative_loss") if name in plain.columns]
    assert (plain.select(names) - held.select(names)).to_numpy() == pytest.approx(0, abs=1e-6)


class Padded(nn.Module):
    """The slow twin of one logit: a network that computes (0, z) itself."""

    def __init__(self, post):
        super().__init__()
        self.net, self.post = mlp(1), post

    def forward(self, x):
        z = self.post(self.net(x)).reshape(-1, 1)
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.mark.parametrize("estimator", ["turnover", "members", "plain"])
@pytest.mark.parametrize(
    "post", [same, lambda z: z[:, 0], lambda z: (z,), lambda z: {"logits": z.squeeze(1)}], ids=["column", "1-D", "tuple", "dict"]
)
def test_one_logit_is_a_network_of_two_classes(scored, post, estimator):
    labels = (LABELS > 0).long()
    options = {"estimator": estimator, "labels": labels} | ({"members": 4} if estimator == "members" else {})
    one, two = scored(After(post, 1), **options), scored(Padded(same), **options)
    names = [name for name in ("loss_full", "memorization", "probability_full") if name in two.scores.columns]
    assert (one.scores.select(names) - two.scores.select(names)).to_numpy() == pytest.approx(0, abs=1e-5)
    if estimator != "plain":
        assert one.probabilities() == pytest.approx(two.probabilities(), abs=1e-5)
        assert one.probabilities().shape == (len(one.scores), 2)


def test_one_logit_of_a_plain_chain_trains_and_its_influence_is_that_of_two(scored):
    labels = (LABELS > 0).long()
    run = scored(mlp(1), labels=labels, epochs=30)
    assert run.summary["accuracy_full"] > 0.8
    net = classifier(mlp(1), FEW, 2)
    wrapped = TurnOverNet(net)
    assert not wrapped.is_average_of_halves  # so that influence takes the general path
    seen, unseen_half = wrapped(INPUTS, torch.arange(N), "both")
    assert seen.shape == (N, 2) and torch.equal(seen[:, 0], torch.zeros(N)) and not torch.equal(seen, unseen_half)
    assert copy.deepcopy(wrapped)(INPUTS).shape == (N, 2)


def lazy():
    return nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(3))


def frozen():
    return mlp().requires_grad_(False)


def only_unused():
    net = After(same)
    net.net.requires_grad_(False)
    net.spare = nn.Linear(2, 2)
    return net


REFUSED = {
    "2 of 3 classes": (lambda: mlp(2), r"gives \(16, 2\) for 16 examples of 3 classes. Allowed: \(16, 3\).*3 outputs"),
    "10 of 3 classes": (lambda: mlp(10), r"gives \(16, 10\) .*3 outputs"),
    "one of 3 classes": (lambda: mlp(1), r"gives \(16, 1\) .*3 outputs"),
    "squeezed, 3 classes": (lambda: After(lambda z: z[:, 0]), r"gives \(16,\) .*3 outputs"),
    "3 dimensions": (lambda: After(lambda z: z[..., None]), r"gives \(16, 3, 1\).*One row|gives \(16, 3, 1\).*one row"),
    "transposed": (lambda: After(lambda z: z.T), r"gives \(3, 16\).*transposed"),
    "mean over the batch": (lambda: After(lambda z: z.mean(0)), r"gives \(3,\)"),
    "dict without logits": (lambda: After(lambda z: {"scores": z}), "a dict with scores, in which no logits"),
    "nothing": (lambda: After(lambda z: None), "a NoneType, in which no logits"),
    "a tuple of a tuple": (lambda: After(lambda z: ((z,),)), "a tuple, in which no logits"),
    "class numbers": (lambda: After(lambda z: z.argmax(1, keepdim=True).expand(-1, 3)), "gives torch.int64.*argmax"),
    "detached": (lambda: After(lambda z: z.detach()), "No gradient comes back.*detach"),
    "only a layer that is not used trains": (only_unused, "No gradient comes back"),
    "nan": (lambda: After(lambda z: z / 0 * 0), "gives nan for example 0"),
    "lazy": (lazy, "0.weight has no shape yet.*net\\(x\\)"),
    "float64": (lambda: mlp().double(), "0.weight is torch.float64.*net.float"),
    "bf16": (lambda: mlp().bfloat16(), "0.weight is torch.bfloat16"),
    "half of it in half": (lambda: nn.Sequential(mlp(), nn.Linear(3, 3).half()), "1.weight is torch.float16"),
    "frozen": (frozen, "All 4 parameters of the network are frozen"),
    "no parameters": (lambda: nn.Sequential(nn.Flatten()), "has no parameters"),
    "script": (lambda: torch.jit.script(mlp()), "TorchScript"),
    "traced": (lambda: torch.jit.trace(mlp(), FEW), "TorchScript"),
    "an extra argument": (lambda: Chosen(), r"called as net\(x\) with torch.float32 \(16, 8\): TypeError.*'mask'"),
    "inputs of another width": (
        lambda: nn.Sequential(nn.Linear(9, 32), nn.Linear(32, 3)),
        r"fails at its first batch.*\(16, 8\): RuntimeError",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("estimator", ["turnover", "members", "plain"])
@pytest.mark.parametrize("kind", REFUSED)
def test_others_are_refused_before_anything_is_written(scored, kind, estimator):
    build, message = REFUSED[kind]
    with pytest.raises(UnseenError, match=message):
        scored(build(), estimator=estimator)
    assert not list(scored.folder.iterdir())


WARNED = {
    "softmax": (nn.Softmax(1), "sum to 1, as behind a softmax"),
    "sigmoid": (nn.Sigmoid(), "between 0 and 1, as behind a sigmoid"),
    "softmax in a dict": (lambda z: {"logits": z.softmax(1)}, "softmax"),
    "softmax in bf16": (lambda z: z.softmax(1).bfloat16().float(), "softmax"),
}


@pytest.mark.parametrize("kind", WARNED)
def test_probabilities_are_warned_of(scored, kind):
    post, message = WARNED[kind]
    with pytest.warns(UserWarning, match=f"probabilities, not logits.*{message}.*Leave out") as caught:
        scored(After(post))
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_sigmoid_of_one_logit_is_warned_of():
    with pytest.warns(UserWarning, match="sigmoid"):
        warn_of_probabilities(classifier(nn.Sequential(mlp(1), nn.Sigmoid()), FEW, 2), FEW)


@pytest.mark.parametrize("post", [same, nn.LogSoftmax(1), nn.ReLU(), lambda z: z * 1e-3, lambda z: z * 0])
def test_logits_of_any_size_are_not_and_log_softmax_is_the_same_to_cross_entropy(post):
    net = classifier(After(post), FEW, 3)
    assert not net._forward_hooks and not gives_warning(net)


def gives_warning(net):
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_probabilities(net, FEW)
    return caught


def test_frozen_layers_stay_frozen_in_members_too(scored):
    net = mlp()
    net[0].requires_grad_(False)
    run = scored(net, estimator="members", members=4)
    weights, _ = run.read_tensors("seed-0")
    first, last = weights["net.0.weight"], weights["net.2.weight"]
    seeds = [unseen.hashing.key(0, "member", number) % 2**31 for number in range(4)]
    starts = [new_network(run.config.network, unseen.load((INPUTS, LABELS)), seed, net, anew=True) for seed in seeds]
    for number, start in enumerate(starts):
        assert torch.equal(first[number], start[0].weight) and not torch.equal(last[number], start[2].weight)


def test_the_look_leaves_modes_and_weights_as_they_were():
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)).train()
    net[1].eval()
    before = copy.deepcopy(net.state_dict())
    classifier(net, FEW, 3)
    assert [module.training for module in net] == [True, False, True, True] and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_pieces():
    z = torch.tensor([[1.0], [2.0]])
    assert two_logits(z).tolist() == two_logits(z[:, 0]).tolist() == [[0, 1], [0, 2]]
    assert two_logits(torch.eye(3)) is not None and torch.equal(two_logits(torch.eye(3)), torch.eye(3))
    assert torch.equal(logits_of({"logits": z, "loss": 0}), z) and torch.equal(logits_of(Named(z, 0)), z)
    assert len(first_rows(100, 16)) == 15 and len(first_rows(100, 3)) == 16 and len(first_rows(2, 2)) == 1


def test_transformers_outputs(scored):
    import transformers

    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=3,
    )
    torch.manual_seed(0)
    words = torch.randint(1, 50, (N, 6))
    net = classifier(transformers.BertForSequenceClassification(config), words[:16], 3)
    assert net(words).shape == (N, 3)
    with pytest.raises(UnseenError, match="last_hidden_state, pooler_output, in which no logits"):
        classifier(transformers.BertModel(config), words[:16], 3)
