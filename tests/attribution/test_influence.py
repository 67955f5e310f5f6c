import copy

import polars as pl
import pytest
import torch
from torch import nn

import unseen
from reference_influence import gradient_influence_one_by_one, influence_one_by_one, sorted_extremes
from unseen import TurnOverNet, UnseenError
from unseen.attribution.gradient import factors, gradient_influence, inverse_curvature
from unseen.attribution.job import influence as run_influence
from unseen.attribution.queries import parse_queries
from unseen.attribution.ranking import extremes, influence_table
from unseen.attribution.turnover import LastLayerTiles, PairTiles, influence_of_shifts, influence_tile, query_tiles, top_influence
from unseen.cli import main
from unseen.scoring.inputs import run_examples
from unseen.training.members import membership, new_members, small


@pytest.fixture(scope="module")
def train_index():
    return torch.arange(40) * 7919 + 3


def queries(shape, classes, count=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *shape, generator=generator), torch.arange(count) % classes


def network(kind):
    torch.manual_seed(0)
    if kind == "vgg11":
        return TurnOverNet(unseen.vgg11(channels=1, classes=3, width=0.25), groups=16, scale=2**0.5), (1, 32, 32), 3
    if kind == "two masks":
        return TurnOverNet(unseen.mlp(12, (32, 20), 5)), (12,), 5
    if kind == "no fork":
        return TurnOverNet(unseen.mlp(12, (32, 20), 5), fork=False), (12,), 5
    if kind == "second only":
        return TurnOverNet(unseen.mlp(12, (32, 20), 5), only=["hidden2"]), (12,), 5
    if kind == "two linear layers":
        net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 9), nn.Linear(9, 5))
        return TurnOverNet(net, only=["0"]), (12,), 5
    options = {"grouped": {"groups": 8}, "odd": {}}.get(kind, {})
    classes = 2 if kind == "two classes" else 5
    return TurnOverNet(unseen.mlp(12, (33 if kind == "odd" else 32,), classes), **options), (12,), classes


FAST = ("one mask", "two classes", "grouped", "odd", "second only", "two linear layers")
GENERAL = ("two masks", "no fork", "vgg11")


@pytest.mark.parametrize("kind", FAST + GENERAL)
def test_a_tile_is_a_forward_per_pair(kind, train_index):
    net, shape, classes = network(kind)
    for parameter in net.parameters():
        parameter.data *= 1.5  # influences far above rounding
    x, labels = queries(shape, classes)
    few = train_index[:5] if kind == "vgg11" else train_index
    assert isinstance(query_tiles(net, x, labels), LastLayerTiles if kind in FAST else PairTiles)
    tile, slow = influence_tile(net, x, labels, few), influence_one_by_one(net.eval(), x, labels, few)
    assert slow.std() > 1e-3
    torch.testing.assert_close(tile, slow, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", FAST)
def test_both_paths_agree(kind, train_index):
    net, shape, classes = network(kind)
    x, labels = queries(shape, classes, 700)  # more than one tile of queries
    pairs = PairTiles(net, x, labels, activations=2**16)(train_index)
    torch.testing.assert_close(influence_tile(net, x, labels, train_index), pairs, atol=1e-4, rtol=1e-4)


def test_more_training_examples_than_a_tile():
    net, shape, classes = network("one mask")
    x, labels = queries(shape, classes, 2)
    index = torch.arange(1500)
    whole = influence_tile(net, x, labels, index)
    torch.testing.assert_close(whole[:, 1400:], influence_tile(net, x, labels, index[1400:]))


@pytest.mark.parametrize("size", [1.0, 30.0, 300.0])
def test_large_shifts_do_not_overflow(size, generator):
    shifts = torch.randn(4, 3, 5, generator=generator) * size
    log_odds = torch.randn(4, 3, 1, generator=generator) * size
    losses = [
        torch.cat((torch.zeros(1, 3, 5).double(), log_odds.double() + part)).logsumexp(0) for part in (-shifts.double(), shifts.double())
    ]
    torch.testing.assert_close(influence_of_shifts(shifts, log_odds), (losses[0] - losses[1]).float(), rtol=1e-4, atol=1e-5)


def test_a_tiny_influence_is_not_rounded_away():
    shifts, log_odds = torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), -25.0)
    exact = torch.exp(torch.tensor(-24.5).double()) - torch.exp(torch.tensor(-25.5).double())
    assert influence_of_shifts(shifts, log_odds).item() == pytest.approx(-exact.item(), rel=1e-4)


def test_bf16_keeps_the_order(train_index):
    net, shape, classes = network("one mask")
    x, labels = queries(shape, classes)
    rounded, exact = (influence_tile(net, x, labels, train_index, precision) for precision in ("bf16", "32"))
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_memorization_is_the_influence_on_oneself(digits):
    net = TurnOverNet(unseen.mlp(64, (64,)))
    train = digits.train.select(range(30))
    x, labels, index = train.batch(torch.arange(30))
    gaps = unseen.memorization(net, [(x, labels, index)])
    torch.testing.assert_close(influence_tile(net, x, labels, index).diagonal(), gaps, atol=1e-5, rtol=1e-4)


def test_the_network_is_left_as_it_was(train_index):
    for kind in ("one mask", "two masks"):
        net, shape, classes = network(kind)
        net.train()
        before = net.net(queries(shape, classes)[0])
        influence_tile(net, *queries(shape, classes), train_index)
        assert net.training and torch.equal(net.net(queries(shape, classes)[0]), before)
        assert net.switch.index is None


@pytest.mark.parametrize("top", [1, 7, 50])
def test_streamed_extremes_are_a_full_sort(top, generator):
    influence, index = torch.randn(5, 50, generator=generator), torch.randperm(50, generator=generator) * 3
    streamed = extremes(zip(index.split(8), influence.split(8, 1), strict=True), top)
    fields = (streamed.top, streamed.top_index, streamed.bottom, streamed.bottom_index)
    for found, expected in zip(fields, sorted_extremes(influence, index, top), strict=True):
        assert torch.equal(found, expected)


def test_top_influence_in_rounds_and_its_table(digits):
    nets = [TurnOverNet(unseen.mlp(64, (64,)), seed=seed) for seed in (0, 1)]
    train, asked = digits.train.select(range(3, 60)), digits.test.select(range(9))
    x, labels, _ = asked.batch(torch.arange(9))
    mean = torch.stack([influence_tile(net, x, labels, train.index) for net in nets]).mean(0)
    whole = top_influence(nets, train, asked, 4, precision="32")
    for memory in (0.0318, 0.0325):  # one query at a time, and several
        rounds = top_influence(nets, train, (x, labels), 4, memory_gib=memory, precision="32")
        torch.testing.assert_close(rounds.top, whole.top)
        assert torch.equal(rounds.bottom_index, whole.bottom_index)
    torch.testing.assert_close(whole.top, mean.topk(4, 1).values)
    table = influence_table(whole, train, asked)
    assert table.columns == ["query_index", "query_id", "rank", "side", "train_index", "train_id", "influence"]
    assert len(table) == 9 * 2 * 4
    row = table.filter((pl.col("query_index") == asked.index[2].item()) & (pl.col("side") == "bottom") & (pl.col("rank") == 1)).row(
        0, named=True
    )
    assert row["influence"] == pytest.approx(mean[2].min().item(), abs=1e-5)
    assert row["train_index"] == train.index[mean[2].argmin()] and row["train_id"] == train.ids[mean[2].argmin()]
    assert influence_table(rounds, train, (x, labels))["query_id"][8] == "query/1"


def test_too_little_memory_and_nothing_to_compare(digits):
    net = TurnOverNet(unseen.mlp(64, (64,)))
    with pytest.raises(UnseenError, match="does not hold one query"):
        top_influence(net, digits.train, digits.test, memory_gib=0.01)
    with pytest.raises(UnseenError, match="top of 1 or more"):
        top_influence(net, digits.train, digits.test, top=0)


@pytest.mark.parametrize(
    ("text", "split", "positions"),
    [("test[:3]", "test", [0, 1, 2]), ("train[5]", "train", [5]), ("train[10:12]", "train", [10, 11]), ("test[:1]", "test", [0])],
)
def test_queries_by_position(digits, text, split, positions):
    assert parse_queries(text, digits).index.tolist() == getattr(digits, split).index[positions].tolist()


@pytest.mark.parametrize(("text", "expected"), [("17,3,1440", [17, 3, 1440]), ("3", [3])])
def test_queries_by_index(digits, text, expected):
    assert parse_queries(text, digits).index.tolist() == expected


def test_all_test_examples(digits):
    assert len(parse_queries("test", digits)) == len(digits.test) == len(parse_queries("test[:]", digits))


@pytest.mark.parametrize("text", ["tset", "test[]", "test[-3:]", "1,,2", "", "test[1:2:3]", "train[:5]x"])
def test_what_does_not_name_queries(digits, text):
    with pytest.raises(UnseenError, match="does not name queries"):
        parse_queries(text, digits)


@pytest.mark.parametrize(
    ("text", "match"),
    [("test[5:5]", "names no example"), ("train[99999]", "names no example"), ("3,99999", "No example has the index 99999")],
)
def test_queries_that_are_not_there(digits, text, match):
    with pytest.raises(UnseenError, match=match):
        parse_queries(text, digits)


def saved_epochs(net, count=2):
    for number in range(count):
        state = copy.deepcopy(net.state_dict())
        yield {name: value * (1 + 0.3 * number) for name, value in state.items()}, 0.1 / (1 + number)


def small_convolution():
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 10)]
    return TurnOverNet(nn.Sequential(*parts))


@pytest.mark.parametrize("side", ["full", "seen"])
@pytest.mark.parametrize("kind", ["mlp", "convolution"])
def test_gradient_influence_is_the_product_of_formed_gradients(digits, kind, side):
    net = TurnOverNet(unseen.mlp(64, (24, 20))) if kind == "mlp" else small_convolution()
    train, asked = digits.train.select(range(7)), digits.test.select(range(4))
    for normalise in ("none", "both"):
        fast = gradient_influence(net, train, asked, saved_epochs(net), damping=None, normalise=normalise, side=side, batch_size=3)
        slow = gradient_influence_one_by_one(copy.deepcopy(net), train, asked, saved_epochs(net), side, normalise == "both")
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_the_metric_is_the_kronecker_product(digits):
    """K-FAC by factors against the dense inverse of A ⊗ S, layer by layer."""
    net, train, asked = unseen.mlp(64, (12,)), digits.train.select(range(40)), digits.test.select(range(3))
    (x, labels, index), batch = asked.batch(torch.arange(3)), train.batch(torch.arange(40))
    fast = gradient_influence(net, train, asked, [(net.state_dict(), 1.0)], damping=0.5, normalise="none")
    ours, theirs = factors(net, (x, labels, index)), factors(net, batch)
    slow = 0
    for q_part, part in zip(ours.parts, theirs.parts, strict=True):
        moments = [matrix.T @ matrix / 40 for matrix in part]
        damped = [moment + 0.5 * moment.diagonal().mean() * torch.eye(len(moment)) for moment in moments]
        metric = torch.kron(*damped) if len(damped) == 2 else damped[0]
        q_rows, rows = (torch.einsum("na,nb->nab", *side).flatten(1) if len(side) == 2 else side[0] for side in (q_part, part))
        slow = slow + q_rows @ torch.linalg.solve(metric.double(), rows.T.double()).float()
    torch.testing.assert_close(fast, slow, rtol=2e-3, atol=1e-3 * slow.abs().max().item())
    cosines = gradient_influence(net, train, train, [(net.state_dict(), 1.0)], damping=0.5, normalise="both")
    torch.testing.assert_close(cosines.diagonal(), torch.ones(40), rtol=1e-4, atol=1e-4)


def test_wide_parts_get_a_number_for_a_metric(digits, monkeypatch):
    monkeypatch.setattr("unseen.attribution.gradient.WIDEST", 12)
    net = unseen.mlp(64, (12,))
    inverses = inverse_curvature(net, digits.train.select(range(20)), 1.0)
    assert [[inverse.dim() for inverse in part] for part in inverses] == [[0, 2], [2], [2, 2], [2]]
    assert gradient_influence(net, digits.train.select(range(5)), digits.test.select(range(2)), [(net.state_dict(), 1.0)]).isfinite().all()


def test_gradients_need_epochs_of_this_network(digits):
    net = unseen.mlp(64, (12,))
    with pytest.raises(UnseenError, match="saved epochs"):
        gradient_influence(net, digits.train, digits.test, [])
    with pytest.raises(UnseenError, match="not this network's"):
        gradient_influence(net, digits.train, digits.test, [(unseen.mlp(64, (13,)).state_dict(), 1.0)])


@pytest.mark.parametrize("method", ["turnover", "gradient"])
def test_influence_of_a_run(digits, tmp_path, method):
    run = unseen.score("digits", hidden=(64,), epochs=2, limit=300, null_fraction=0.1, estimator="turnover", out=tmp_path / "run")
    table = run_influence(run, "test[:5]", 3, method)
    written = run.table("influence")
    assert written.equals(table) and len(table) == 5 * 2 * 3
    untrained = set(run.scores.filter(pl.col("trained").not_())["index"])
    assert untrained and not untrained & set(table["train_index"])
    own = table.filter((pl.col("side") == "top") & (pl.col("rank") == 1)).join(
        run.examples.select(train_index="index", label="given_label"), on="train_index"
    )
    asked = own.join(run.examples.select(query_index="index", query_label="given_label"), on="query_index")
    if method == "gradient":
        assert (asked["label"] == asked["query_label"]).mean() >= 0.8  # what helps most is of the same class


def test_influence_is_computed_in_the_runs_precision_unless_told_otherwise(tmp_path, capsys):
    def influences(run, **options):
        return run_influence(run, "test[:20]", 200, **options).sort("query_index", "side", "train_index")["influence"].to_numpy()

    run = unseen.score("digits", hidden=(64,), epochs=2, limit=100, estimator="turnover", precision="32", out=tmp_path / "run")
    own, exact, rounded = influences(run), influences(run, precision="32"), influences(run, precision="bf16")
    assert (own == exact).all() and (own != rounded).any()
    assert main(["influence", str(run.path), "--queries", "test[:20]", "--top", "200", "--precision", "bf16"]) == 0
    assert (run.table("influence").sort("query_index", "side", "train_index")["influence"].to_numpy() == rounded).all()
    with pytest.raises(UnseenError, match="--precision is '16'"):
        run_influence(run, "test[:2]", precision="16")


def test_influence_of_averaged_weights_is_of_what_was_scored(tmp_path):
    run = unseen.score("digits", hidden=(64,), epochs=3, average=2, limit=60, precision="32", out=tmp_path / "run")
    table = run_influence(run, "train", 60, precision="32").filter(
        (pl.col("query_index") == pl.col("train_index")) & (pl.col("side") == "top")
    )
    both = table.join(run.scores.select(train_index="index", memorization="memorization"), on="train_index")
    assert len(both) == 60
    assert (both["influence"] - both["memorization"]).abs().max() < 1e-4


def test_influence_of_a_run_of_other_data(digits, tmp_path):
    run = unseen.score(digits, hidden=(32,), epochs=1, estimator="turnover", out=tmp_path / "run")
    with pytest.raises(UnseenError):
        run_influence(run, "test[:5]")
    assert len(run_influence(run, "test[:5]", 2, data=digits)) == 20
    with pytest.raises(UnseenError, match="was made of"):
        run_influence(run, "test[:5]", 2, data=digits.select(range(100)))


def test_influence_of_a_run_of_members(tmp_path):
    """Against each member alone, by the definition."""
    options = {"hidden": (64,), "epochs": 3, "lr": 0.1, "batch_size": 32, "limit": 120, "precision": "32", "null_fraction": 0.1}
    run = unseen.score("digits", estimator="members", members=6, out=tmp_path / "run", **options)
    config, examples = run_examples(run)
    kept = examples.train.select(torch.isin(examples.train.index, torch.tensor(run.scores.filter("trained")["index"].to_list())))
    table = run_influence(run, "test[:3]", top=len(kept))
    member = membership(kept.index, 0, 6, config.members.fraction)
    net, tensors = new_members(small(config, len(kept)).network, kept, [0]).shell[0], run.read_tensors("seed-0")[0]
    x, labels, index = examples.test.batch(torch.arange(3))
    losses = []
    for k in range(6):
        net.load_state_dict({name.removeprefix("net."): value[k] for name, value in tensors.items()})
        losses.append(torch.nn.functional.cross_entropy(net(x), labels, reduction="none").detach())
    for query in range(3):
        for row in table.filter((pl.col("query_index") == int(index[query])) & (pl.col("side") == "top")).iter_rows(named=True):
            inside = member[:, kept.index == row["train_index"]].flatten()
            own = torch.stack(losses)[:, query]
            assert row["influence"] == pytest.approx(float(own[~inside].mean() - own[inside].mean()), abs=1e-4)
    with pytest.raises(UnseenError, match="--estimator turnover"):
        run_influence(run, "test[:3]", method="gradient")
