"""Activation checkpointing computes masked layers again in the backward pass: with the masks of the right forward, or not at all."""

import copy
import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import unseen
from catalogue import bert
from unseen import TurnOverNet, UnseenError


class Checkpointed(nn.Module):
    """Two hidden layers, the second in a checkpoint where ``kind`` is not None: its ``use_reentrant``."""

    def __init__(self, kind=None, dropout=0.0, compiled=False, keeps=False):
        super().__init__()
        self.first, self.second, self.output = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 3)
        self.kind, self.dropout, self.keeps = kind, dropout, keeps
        self.block = torch.compile(self._block, backend="aot_eager") if compiled else self._block

    def _block(self, h):
        return F.dropout(self.second(h).relu(), self.dropout)

    def forward(self, x):
        h = self.first(x).relu()
        h = self.block(h) if self.kind is None else checkpoint(self.block, h, use_reentrant=self.kind)
        self.kept = h if self.keeps else None
        return self.output(h)


class Nested(Checkpointed):
    def _block(self, h):
        return checkpoint(super()._block, h, use_reentrant=self.kind)


class Chain(nn.Module):
    """A chain of which ``checkpoint_sequential`` makes two segments."""

    def __init__(self, kind=None):
        super().__init__()
        self.layers = nn.Sequential(*[part for _ in range(4) for part in (nn.Linear(8, 8), nn.ReLU())], nn.Linear(8, 3))
        self.kind = kind

    def forward(self, x):
        return self.layers(x) if self.kind is None else checkpoint_sequential(self.layers, 2, x, use_reentrant=self.kind)


def made(build, kind):
    torch.manual_seed(0)
    return TurnOverNet(build(kind=kind)).train()


def batch(number=0, rows=16):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(rows, 8, generator=generator).requires_grad_(), torch.arange(rows) + 100 * number


def loss_of(net, number=0, side="seen", rows=16):
    x, index = batch(number, rows)
    out = net(x, index, side)
    outs = out if isinstance(out, tuple) else (out,)
    return sum(F.cross_entropy(one, torch.arange(rows) % 3) * (place + 1) for place, one in enumerate(outs))


def gradients(net, backward):
    net.zero_grad()
    torch.manual_seed(1)
    backward(net)
    return {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}


def one(net):
    loss_of(net).backward()


def two_forwards_then_one_backward(net):
    (loss_of(net, 0) + 2 * loss_of(net, 1, "unseen")).backward()


def backward_in_the_other_order(net):
    first, second, full = loss_of(net, 0), loss_of(net, 1, "unseen", rows=9), loss_of(net, 2, "full")
    first.backward()
    full.backward()
    second.backward()


def both_sides_at_once(net):
    (loss_of(net, side="both") + loss_of(net, 3, side="all")).backward()


def a_measurement_between(net):
    loss = loss_of(net)
    with torch.no_grad():
        net.eval()(*batch(5, rows=16), "all")
    net.train()
    loss.backward()


def backward_inside_another_turn(net):
    loss = loss_of(net)
    with net.switch.turned(torch.arange(16) + 999, "unseen"):
        loss.backward()


def kept_graph_run_twice(net):
    loss = loss_of(net)
    loss.backward(retain_graph=True)
    loss.backward()


def what_never_left_through_the_output(net):
    loss_of(net)
    net.net.kept.square().sum().backward()


def index_changed_in_place(net):
    x, index = batch()
    loss = F.cross_entropy(net(x, index), torch.arange(16) % 3)
    index += 7  # a loader that uses its buffers again
    loss.backward()


def accumulated(net):
    for number in range(3):
        (loss_of(net, number) / 3).backward()


def backward_in_another_thread(net):
    """As on a GPU: the nodes were numbered by this thread, and what is computed again is numbered by the other."""
    loss = loss_of(net, 0) + loss_of(net, 1, "unseen")
    worker = threading.Thread(target=loss.backward)
    worker.start()
    worker.join()


LOOPS = [
    backward_in_another_thread,
    one,
    two_forwards_then_one_backward,
    backward_in_the_other_order,
    both_sides_at_once,
    a_measurement_between,
    backward_inside_another_turn,
    kept_graph_run_twice,
    index_changed_in_place,
    accumulated,
]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [True, False], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("build", [Checkpointed, partial(Checkpointed, dropout=0.3), Chain], ids=["net", "dropout", "sequential"])
def test_gradients_are_those_without_checkpoints(build, loop, kind):
    plain, checkpointed = (gradients(made(build, kind), loop) for kind in (None, kind))
    assert plain.keys() == checkpointed.keys() and len(plain) > 4
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=0, atol=0)
    assert any(
        not torch.equal(value, gradients(made(build, None), lambda net: loss_of(net, 4).backward())[name]) for name, value in plain.items()
    )


@pytest.mark.parametrize("kind", [True, False])
def test_a_tensor_that_was_kept_inside_the_network_is_followed_too(kind):
    plain, checkpointed = (
        gradients(made(partial(Checkpointed, keeps=True), kind), what_never_left_through_the_output) for kind in (None, kind)
    )
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nested_checkpoints_are_refused_in_another_thread_too():
    """There the numbers of nodes that are computed again start from 0, as those of the first forwards do."""
    net, caught = made(Nested, True), []
    for number in range(3):
        loss = loss_of(net, number)

    def backward():
        try:
            loss.backward()
        except UnseenError as error:
            caught.append(str(error))

    worker = threading.Thread(target=backward)
    worker.start()
    worker.join()
    assert len(caught) == 1 and "lies in another" in caught[0]


def test_checkpoints_within_checkpoints():
    plain, inner = (gradients(made(build, kind), two_forwards_then_one_backward) for build, kind in ((Checkpointed, None), (Nested, False)))
    for name, value in plain.items():
        torch.testing.assert_close(inner[name], value, rtol=0, atol=0)
    net = made(Nested, True)
    with pytest.raises(UnseenError, match="use_reentrant=True lies in another.*use_reentrant=False"):
        one(net)
    net.net.kind = False  # and what comes after is as it should be
    torch.testing.assert_close(gradients(net, one), gradients(made(Checkpointed, None), one), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [True, False])
def test_the_network_inside_called_by_itself_is_refused_where_masks_could_be_meant(kind):
    net = made(Checkpointed, kind)
    logits = net.net(batch()[0])
    with pytest.raises(UnseenError, match="never the network inside it"):
        logits.sum().backward()


@pytest.mark.parametrize("kind", [True, False])
def test_a_forward_too_long_ago_is_refused(kind):
    net = made(Checkpointed, kind)
    first = loss_of(net)
    for number in range(300):
        net(*batch(number, rows=2))
    with pytest.raises(UnseenError, match="256 that wait"):
        first.backward()


def test_forwards_of_several_threads_are_refused_where_they_could_be_confused():
    net, losses = made(Checkpointed, True), []
    for number in range(2):  # each thread numbers its nodes from 0
        worker = threading.Thread(target=lambda number=number: losses.append(loss_of(net, number)))
        worker.start()
        worker.join()
    with pytest.raises(UnseenError, match="several threads"):
        losses[0].backward()


@pytest.mark.parametrize("kind", [True, False])
@pytest.mark.parametrize("gates", ["GRU", "LSTM"])
def test_recurrent_layers_that_mask_themselves(kind, gates):
    class Recurrent(nn.Module):
        def __init__(self, kind=None):
            super().__init__()
            self.layer, self.output, self.kind = getattr(nn, gates)(8, 16, batch_first=True), nn.Linear(16, 3), kind

        def forward(self, x):
            read = lambda x: self.layer(x)[0]
            h = read(x[:, None]) if self.kind is None else checkpoint(read, x[:, None], use_reentrant=self.kind)
            return self.output(h[:, -1])

    build = lambda kind: unseen.convert_recurrent(Recurrent(kind))
    plain, checkpointed = (gradients(made(build, kind), two_forwards_then_one_backward) for kind in (None, kind))
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [True, False])
def test_transformers_with_gradient_checkpointing(kind):
    grads = []
    for on in (False, True):
        torch.manual_seed(0)
        model = bert(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
        if on:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": kind})
            model.enable_input_require_grads()
        net = TurnOverNet(model).train()
        words = torch.randint(1, 50, (6, 9), generator=torch.Generator().manual_seed(2))

        def loop(net, words=words):
            losses = [F.cross_entropy(net({"input_ids": words}, torch.arange(6) + at), torch.arange(6) % 3) for at in (0, 50)]
            sum(losses).backward()

        grads.append(gradients(net, loop))
    assert len(grads[0]) == len(grads[1]) > 20
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=1e-5, atol=1e-7)


def test_a_copy_has_no_forwards_of_the_original():
    net = made(Checkpointed, True)
    loss_of(net)
    twin = copy.deepcopy(net)
    torch.testing.assert_close(gradients(twin, one), gradients(made(Checkpointed, None), one), rtol=0, atol=0)
    assert len(net.switch._forwards) == 1


@pytest.mark.filterwarnings("default")
def test_compiled_layers_in_a_checkpoint_have_their_masks():
    def loop(net):
        net.net(batch(7)[0])  # compiled without masks first, in training: not what a recomputation may take
        net(batch(7)[0])
        two_forwards_then_one_backward(net)

    plain, compiled = (gradients(made(partial(Checkpointed, compiled=kind), kind or None), loop) for kind in (False, True))
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value)


@pytest.mark.skipif(
    torch.__version__.startswith("2.6"), reason="PyTorch 2.6 breaks the graph at the choice of the side; it runs, in pieces"
)
def test_the_whole_network_compiled_with_a_checkpoint_inside():
    plain = gradients(made(Checkpointed, None), two_forwards_then_one_backward)
    net = made(Checkpointed, False)
    compiled = torch.compile(net, backend="aot_eager")
    net.zero_grad()
    (_loss(compiled, 0) + 2 * _loss(compiled, 1, "unseen")).backward()
    for name, value in net.named_parameters():
        torch.testing.assert_close(value.grad, plain[name])


def _loss(compiled, number, side="seen"):
    x, index = batch(number)
    return F.cross_entropy(compiled(x, index, side), torch.arange(16) % 3)
