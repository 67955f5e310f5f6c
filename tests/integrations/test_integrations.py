import copy
import os
import subprocess
import sys
import warnings

import datasets
import lightning
import pytest
import torch
import transformers
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import unseen
from catalogue import bert
from run_readme import python_blocks
from test_layout import ROOT
from unseen import Recorder, TurnOverNet, UnseenError, with_index
from unseen.integrations.huggingface import RecorderCallback, indexed
from unseen.integrations.lightning import RecorderCallback as LightningRecorder

SAME = ["loss_seen", "loss_unseen", "loss_full", "memorization", "cumulative_loss", "aum", "confidence", "unseen_loss_mean"]

pytestmark = pytest.mark.filterwarnings("default")  # what these packages warn of is theirs


def plain_bert():
    torch.manual_seed(0)
    net = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    net.accepts_loss_kwargs = (
        False  # BERT's loss ignores the number of items, so that the Trainer would add up, not average, what it accumulates
    )
    return net


def rows():
    words = torch.randint(1, 50, (40, 9), generator=torch.Generator().manual_seed(1))
    return datasets.Dataset.from_dict({"text": ["…"] * 40, "input_ids": words.tolist(), "labels": [i % 3 for i in range(40)]})


def trained(path, model=None, resume=False, epochs=2, masks=True, **options):
    recorder = Recorder(examples=40)
    callback = RecorderCallback(recorder, path / "run")
    batch = {"per_device_train_batch_size": 8} | options
    arguments = transformers.TrainingArguments(
        str(path), num_train_epochs=epochs, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", report_to="none", use_cpu=True,
        disable_tqdm=True, max_grad_norm=0.0, save_strategy="epoch", dataloader_pin_memory=False, **batch,
    )  # fmt: skip
    order = []
    model = indexed(model or plain_bert(), recorder, masks=masks)
    update = recorder.update
    recorder.update = lambda index, logits, labels: (order.append(index.clone()), update(index, logits, labels))
    trainer = transformers.Trainer(model, arguments, train_dataset=with_index(rows()), callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return callback.run, order, trainer


def by_hand(path, order, epochs=2, accumulate=1):
    """The same batches through a plain loop."""
    net, recorder = TurnOverNet(plain_bert()), Recorder(examples=40)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    table = rows().with_format("torch")
    words, labels = table["input_ids"][:], table["labels"][:]
    for steps in torch.tensor_split(torch.arange(len(order)), epochs):
        for group in steps.split(accumulate):
            optimizer.zero_grad()
            for step in group.tolist():
                index = order[step]
                logits = net({"input_ids": words[index]}, index)
                (F.cross_entropy(logits, labels[index]) / len(group)).backward()
                recorder.update(index, logits, labels[index])
            optimizer.step()
        everything = torch.arange(40)
        recorder.end_epoch(unseen.measure_batches(net, [({"input_ids": words}, labels, everything)]))
    return recorder.save(path)


def difference(one, other):
    return float((one.scores.select(SAME) - other.scores.select(SAME)).to_numpy().__abs__().max())


@pytest.mark.parametrize("accumulate", [1, 5])
def test_the_trainer_gives_the_scores_of_a_plain_loop_on_the_same_batches(tmp_path, accumulate):
    run, order, _ = trained(tmp_path / "hf", gradient_accumulation_steps=accumulate)
    assert sorted(torch.cat(order[:5]).tolist()) == list(range(40)) and torch.cat(order[:5]).tolist() != list(range(40))
    assert difference(run, by_hand(tmp_path / "plain", order, accumulate=accumulate)) < 1e-4


def test_a_resumed_trainer_has_the_scores_of_an_uninterrupted_one(tmp_path):
    whole, _, _ = trained(tmp_path / "whole")
    trained(tmp_path / "stopped", epochs=1)
    import shutil

    shutil.rmtree(tmp_path / "stopped" / "run")
    resumed, order, _ = trained(tmp_path / "stopped", resume=True)
    assert len(order) == 5 and difference(whole, resumed) < 1e-5


def test_bf16_and_ordinary_networks_are_recorded(tmp_path):
    run, _, trainer = trained(tmp_path / "bf16", epochs=1, bf16=True)
    assert run.scores["memorization"].is_finite().all()
    assert "turn_over" not in " ".join(trainer.model.state_dict())
    ordinary, _, _ = trained(tmp_path / "ordinary", epochs=1, masks=False)
    assert "memorization" not in ordinary.scores.columns and ordinary.history.height == 40


def test_an_indexed_model_is_copied_with_masks_of_its_own():
    model = indexed(plain_bert())
    twin = copy.deepcopy(model)
    words, index = torch.randint(1, 50, (4, 9)), torch.arange(4)
    assert torch.equal(twin.train()(input_ids=words, index=index).logits, model.train()(input_ids=words, index=index).logits)
    assert twin.unseen_switch is not model.unseen_switch
    assert not torch.equal(model(input_ids=words, index=index).logits, model(input_ids=words).logits)
    with pytest.raises(UnseenError, match="needs the labels"):
        indexed(plain_bert(), Recorder()).train()(input_ids=words, index=index)


WORKER = """
import sys, torch, unseen
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
recorder = unseen.Recorder(examples=5)
for epoch in range(2):
    share = torch.tensor([[0, 2, 4], [1, 3, 0]][rank])  # padded: example 0 comes twice
    recorder.update(share, torch.eye(5)[share] * (1 + rank), share)
    recorder.end_epoch()
run = recorder.save(sys.argv[1])
torch.distributed.barrier()
assert run.scores.height == 5 and run.history.height == 10 and run.scores["correctness"].to_list() == [1.0] * 5
print("checked")
"""


def test_distributed_recorders_gather_and_padding_counts_once(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "worker.py"), str(tmp_path / "run")], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.stdout.count("checked") == 2, done.stderr[-2000:]


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.order = TurnOverNet(unseen.mlp(20, (32,), 3)), []

    def training_step(self, batch, batch_idx):
        x, labels, index = batch
        self.order.append(index.clone())
        logits = self.net(x, index)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Forgetful(Classifier):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)["loss"]


def fitted(path, module, epochs=2, checkpoint=None, indexed_set=True):
    generator = torch.Generator().manual_seed(0)
    dataset = TensorDataset(torch.randn(40, 20, generator=generator), torch.arange(40) % 3)
    loader = DataLoader(with_index(dataset) if indexed_set else dataset, 8, shuffle=True)
    callback = LightningRecorder(path / "run")
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=path,
        callbacks=[callback, lightning.pytorch.callbacks.ModelCheckpoint(path, filename="last")],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader, ckpt_path=checkpoint)
    return callback.run, dataset


def test_lightning_gives_the_scores_of_a_plain_loop_on_the_same_batches(tmp_path):
    module = Classifier()
    run, dataset = fitted(tmp_path, module)
    x, labels = dataset.tensors
    plain, recorder = Classifier(), Recorder(examples=40)
    optimizer = plain.configure_optimizers()
    for epoch in (module.order[:5], module.order[5:]):
        for index in epoch:
            logits = plain.net(x[index], index)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[index]).backward()
            optimizer.step()
            recorder.update(index, logits, labels[index])
        recorder.end_epoch(unseen.measure_batches(plain.net, [(x, labels, torch.arange(40))]))
    assert difference(run, recorder.save(tmp_path / "plain")) < 1e-5


def test_a_resumed_lightning_training_keeps_what_was_recorded(tmp_path):
    fitted(tmp_path / "first", Classifier(), epochs=1)
    run, _ = fitted(tmp_path / "second", Classifier(), epochs=2, checkpoint=tmp_path / "first" / "last.ckpt")
    assert run.history["epoch"].unique().to_list() == [1, 2] and run.history.height == 80


def test_lightning_modules_that_cannot_be_recorded_are_told_what_to_change(tmp_path):
    with pytest.raises(UnseenError, match="training_step must return"):
        fitted(tmp_path, Forgetful())
    with pytest.raises((UnseenError, ValueError), match="index|unpack"):
        fitted(tmp_path, Classifier(), indexed_set=False)


def test_the_documented_examples_run_and_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks((ROOT / "docs" / "integrations.md").read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "docs/integrations.md", "exec"), namespace)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"plain", "trainer", "lightning"}
    trainer = blocks[1].partition("recorder = ")[2]
    assert len(trainer.splitlines()) < 15 and len([line for line in blocks[2].splitlines() if line.strip()]) <= 16
