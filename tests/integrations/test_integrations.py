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
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset

import unseen
from catalogue import bert
from run_readme import python_blocks
from test_layout import ROOT
from unseen import Recorder, TurnOverNet, UnseenError, with_index
from unseen.integrations.huggingface import RecorderCallback, indexed
from unseen.integrations.lightning import RecorderCallback as LightningRecorder

SAME = [
    "loss_seen",
    "loss_unseen",
    "loss_full",
    "memorization",
    "cumulative_loss",
    "aum",
    "confidence",
    "unseen_loss_mean",
    "head_memorization",
]

pytestmark = pytest.mark.filterwarnings("default")  # what these packages warn of is theirs


@pytest.fixture(autouse=True)
def a_precision_of_its_own():
    """Older Trainers leave theirs to the next one, in the environment and in accelerate's state."""
    yield
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    AcceleratorState._reset_state(reset_partial_state=True)


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


def trained(path, model=None, resume=False, epochs=2, masks=True, dataset=None, saving=None, **options):
    recorder = Recorder(examples=40)
    callback = RecorderCallback(recorder, path / "run", **saving or {})
    batch = {"per_device_train_batch_size": 8} | options
    arguments = transformers.TrainingArguments(
        str(path), num_train_epochs=epochs, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", report_to="none", use_cpu=True,
        disable_tqdm=True, max_grad_norm=0.0, save_strategy="epoch", dataloader_pin_memory=False, **batch,
    )  # fmt: skip
    order = []
    model = indexed(model or plain_bert(), recorder, masks=masks)
    update = recorder.update
    recorder.update = lambda index, logits, labels: (order.append(index.clone()), update(index, logits, labels))
    dataset = with_index(rows()) if dataset is None else dataset
    trainer = transformers.Trainer(model, arguments, train_dataset=dataset, callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return callback.run, order, trainer


def by_hand(path, order, epochs=2, accumulate=1):
    """The same batches through a plain loop."""
    net = TurnOverNet(plain_bert())
    recorder = Recorder(examples=40, net=net)
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


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_under_the_trainer_changes_nothing(tmp_path, reentrant):
    whole, order, trainer = trained(tmp_path / "whole")
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
    again, same, checkpointed = trained(tmp_path / "again", **options)
    assert checkpointed.model.is_gradient_checkpointing and torch.equal(torch.cat(order), torch.cat(same))
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(checkpointed.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert difference(whole, again) < 1e-5


@pytest.mark.parametrize("how", ["smoothing", "a loss of one's own"])
def test_labels_that_the_trainer_keeps_to_itself_are_those_of_the_data_set(tmp_path, how):
    """Label smoothing and compute_loss_func take the labels out of the batch before the model sees it."""
    model, order, labels = plain_bert(), [], torch.tensor(rows()["labels"][:])
    recorder, callback = Recorder(examples=40), None
    callback = RecorderCallback(recorder, tmp_path / "run")
    options = {"label_smoothing_factor": 0.1} if how == "smoothing" else {}
    own = {} if options else {"compute_loss_func": lambda out, labels, num_items_in_batch: F.cross_entropy(out.logits, labels)}
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=8, optim="sgd", learning_rate=0.1, report_to="none", use_cpu=True,
        disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False, **options,
    )  # fmt: skip
    update = recorder.update
    recorder.update = lambda index, logits, given: (order.append((index.clone(), given.clone())), update(index, logits, given))
    trainer = transformers.Trainer(indexed(model, recorder), arguments, train_dataset=with_index(rows()), callbacks=[callback], **own)
    trainer.train()
    for index, given in order:
        assert torch.equal(given, labels[index])
    assert len(order) == 10 and callback.run.scores["given_label"].to_list() == labels.tolist()
    assert callback.run.scores["memorization"].is_finite().all() and model.unseen_labels is None


def test_a_data_set_without_an_index_is_refused_at_the_first_batch(tmp_path):
    with pytest.raises(UnseenError, match="no index.*with_index"):
        trained(tmp_path, dataset=rows())
    model = indexed(plain_bert(), Recorder()).eval()
    model(input_ids=torch.randint(1, 50, (4, 9)))  # in evaluation nothing is recorded


def test_outputs_without_names_are_refused():
    model = indexed(plain_bert(), Recorder()).train()
    words, index = torch.randint(1, 50, (4, 9)), torch.arange(4)
    with pytest.raises(UnseenError, match="return_dict=True"):
        model(input_ids=words, labels=index % 3, index=index, return_dict=False)


@pytest.mark.parametrize("options", [{"max_steps": 3}, {"dataloader_drop_last": True, "per_device_train_batch_size": 12, "epochs": 1}])
def test_a_trainer_that_leaves_examples_out_saves_the_others(tmp_path, options):
    with pytest.warns(UserWarning, match="of 40 examples never came"):
        run, order, _ = trained(tmp_path, **options)
    came = torch.cat(order).unique().tolist()
    assert len(came) < 40 and run.scores["index"].to_list() == came and run.scores["memorization"].is_finite().all()


def test_ids_that_are_too_few_are_refused_before_the_training(tmp_path):
    with pytest.raises(UnseenError, match="39 ids for 40 examples"):
        trained(tmp_path, saving={"ids": ["a"] * 39})
    with pytest.raises(UnseenError, match="39 ids for 40 examples"):
        fitted(tmp_path, Classifier(), ids=["a"] * 39)


@pytest.mark.parametrize("fault", ["a folder of other files", "too few classes"])
def test_a_training_whose_run_cannot_be_saved_is_kept(tmp_path, fault):
    saving = {"classes": ["a", "b"]} if fault == "too few classes" else {}
    if not saving:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.warns(UserWarning, match="training is done, but its run was not saved.*run-recorder.safetensors"):
        run, _, trainer = trained(tmp_path, epochs=1, saving=saving)
    assert run is None and trainer.state.global_step == 5
    recorder = Recorder()
    recorder.load_state_dict(load_file(tmp_path / "run-recorder.safetensors"))
    whole, _, _ = trained(tmp_path / "twin", epochs=1)
    assert difference(recorder.save(tmp_path / "second"), whole) < 1e-6


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
    assert done.stdout.count("checked") == 2, done.stderr[:4000]


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


def fitted(path, module, epochs=2, checkpoint=None, indexed_set=True, loading=None, trainer=None, **saving):
    generator = torch.Generator().manual_seed(0)
    dataset = TensorDataset(torch.randn(40, 20, generator=generator), torch.arange(40) % 3)
    loader = DataLoader(with_index(dataset) if indexed_set else dataset, **{"batch_size": 8, "shuffle": True} | (loading or {}))
    callback = LightningRecorder(path / "run", **saving)
    options = {"max_epochs": epochs} | (trainer or {})
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=path, **options,
        callbacks=[callback, lightning.pytorch.callbacks.ModelCheckpoint(path, filename="last")],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, loader, ckpt_path=checkpoint)
    return callback.run, dataset


def test_lightning_gives_the_scores_of_a_plain_loop_on_the_same_batches(tmp_path):
    module = Classifier()
    run, dataset = fitted(tmp_path, module)
    x, labels = dataset.tensors
    plain = Classifier()
    recorder = Recorder(examples=40, net=plain.net)
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


@pytest.mark.parametrize(
    ("loading", "trainer", "rows"),
    [
        ({"batch_size": 16, "drop_last": True, "shuffle": False}, {}, 32),
        ({}, {"limit_train_batches": 2}, None),
        ({}, {"limit_train_batches": 0.5, "max_epochs": 1}, 16),
        ({}, {"fast_dev_run": True}, 8),
        ({}, {"max_steps": 3, "max_epochs": -1}, 24),
        ({"sampler": RandomSampler(range(40), replacement=True), "shuffle": None}, {}, None),
        ({"sampler": SubsetRandomSampler(range(10, 30)), "shuffle": None}, {}, 20),
    ],
    ids=["drop_last", "limit_train_batches", "half of an epoch", "fast_dev_run", "max_steps", "with replacement", "a subset"],
)
def test_lightning_runs_that_leave_examples_out_have_a_row_for_each_that_came(tmp_path, loading, trainer, rows):
    module = Classifier()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run, _ = fitted(tmp_path, module, loading=loading, trainer=trainer)
    came = torch.cat(module.order).unique().tolist()
    assert run.scores["index"].to_list() == came and (rows is None or len(came) == rows)
    assert run.scores["memorization"].is_finite().all() and len(run.table("unseen_probabilities")) == len(came)
    lines = [str(warning.message) for warning in caught if "halves of" in str(warning.message)]
    line = f"The halves of {40 - len(came)} examples were measured that were never recorded: they have no row."
    assert lines == [line] * (len(came) < 40)


def test_the_documented_examples_run_and_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks((ROOT / "docs" / "integrations.md").read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "docs/integrations.md", "exec"), namespace)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"plain", "trainer", "lightning"}
    trainer = blocks[1].partition("recorder = ")[2]
    assert len(trainer.splitlines()) < 15 and len([line for line in blocks[2].splitlines() if line.strip()]) <= 16
