"""What only a graphics card can show. Skipped by name where there is none."""

import pytest
import torch

import unseen
from unseen.config import Config
from unseen.data import load
from unseen.masks import HalfMask
from unseen.scoring.estimators import ESTIMATORS
from unseen.training import make_fabric, make_optimizer, membership, new_members, take_steps, train_members
from unseen.training.replay import replay_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")


@pytest.mark.parametrize("units", [2, 7, 64, 100, 4096])
def test_masks_are_the_same_bits(units):
    index = torch.randint(0, 2**62, (1000,), generator=torch.Generator().manual_seed(units))
    assert torch.equal(HalfMask(units, 3, 1)(index), HalfMask(units, 3, 1).cuda()(index.cuda()).cpu())


@pytest.mark.parametrize("options", [{"model": "mlp", "hidden": (64,)}, {"model": "vgg11", "width": 0.125, "groups": 2, "tied": True}])
def test_replayed_steps_give_the_losses_of_the_cpu(options):
    from lightning_fabric import Fabric

    torch.backends.cudnn.allow_tf32 = False
    settings = Config.of(batch_size=32, epochs=4, lr=0.01, precision="32", **options).resolved()
    examples, losses = load("digits").train.select(torch.arange(330)), []
    for fabric in (Fabric(accelerator="cpu"), make_fabric(1, "32")):
        there = examples.to(fabric.device)
        net = ESTIMATORS["turnover"].network(settings, there, settings.network.model, 0)
        model, optimizer = fabric.setup(net, make_optimizer(net, settings.training))
        assert (replay_of(model, optimizer, there, settings.training, fabric) is not None) == (fabric.device.type == "cuda")
        losses += [take_steps(model, optimizer, there, settings.training, 0, epoch, (0, 11), fabric).cpu() for epoch in (1, 2)]
    torch.testing.assert_close(torch.cat(losses[2:]), torch.cat(losses[:2]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", ["cct2", "vgg11"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_members_learn_as_on_the_cpu(model, precision):
    from lightning_fabric import Fabric

    torch.backends.cudnn.allow_tf32 = False
    settings = Config.of(model=model, width=0.125, batch_size=32, epochs=2, lr=0.01, precision=precision).resolved()
    examples, losses = load("digits").train.select(torch.arange(320)), []
    who = membership(examples.index, 0, 3, 0.7)
    for fabric in (Fabric(accelerator="cpu", precision="32-true" if precision == "32" else "bf16-mixed"), make_fabric(1, precision)):
        members = new_members(settings.network, examples, [1, 2, 3])
        losses.append([epoch.losses for epoch in train_members(members, examples, settings.training, who, 0, fabric)][-1])
    within = 1e-2 if precision == "32" else 0.2
    torch.testing.assert_close(losses[1], losses[0], rtol=within, atol=within)


def test_a_stopped_run_goes_on_to_the_same_scores(tmp_path, monkeypatch):
    import unseen.scoring.estimators.one_network as one_network

    options = {"model": "mlp", "hidden": (64,), "epochs": 4, "estimator": "turnover", "precision": "32"}
    whole = unseen.score("digits", out=tmp_path / "whole", **options)
    real, calls = one_network.measure, []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(one_network, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        unseen.score("digits", out=tmp_path / "cut", **options)
    cut = unseen.score("digits", out=tmp_path / "cut", resume=True, **options)
    for one, other in zip(whole.scores["memorization"], cut.scores["memorization"], strict=True):
        assert one == pytest.approx(other, abs=1e-3)
