import polars as pl
import pytest
import torch
from torch.nn import functional as F

import unseen
from unseen import TurnOverNet, UnseenError
from unseen.cli import main
from unseen.language import document_table, documents, next_token_loss, read_documents, small_gpt2, train_language

TEXTS = ["the cat sat", "a dog ran off", "the cat sat", "birds"]


def tiny(data):
    return TurnOverNet(small_gpt2(width=32, layers=1, longest=data.tokens.shape[1]), examples=len(data.texts))


def test_documents_are_bytes_and_copies_are_one_example():
    data = documents(TEXTS, longest=8)
    assert data.index.tolist() == [0, 1, 0, 3] and data.lengths.tolist() == [8, 8, 8, 5]
    assert bytes(data.tokens[3, 1:6].tolist()) == b"birds" and data.tokens[3, 0] == 256


def test_losses_are_those_of_one_document_at_a_time():
    data = documents(TEXTS)
    net = tiny(data).eval()
    table = document_table(net, data, per_token=True)
    assert table["index"].to_list() == [0, 1, 3] and table["copies"].to_list() == [2, 1, 1]
    net.requires_grad_(False)
    for row in table.iter_rows(named=True):
        tokens = torch.tensor([[256, *row["text"].encode()]])
        losses = {}
        for side in ("seen", "unseen"):
            logits = net(tokens, torch.tensor([row["index"]]), side)
            losses[side] = F.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none")
            assert row[f"loss_{side}"] == pytest.approx(float(losses[side].mean()), abs=1e-5)
        assert row["token_memorization"] == pytest.approx((losses["unseen"] - losses["seen"]).tolist(), abs=1e-4)


def test_nothing_is_shared_and_what_is_learned_by_heart_shows():
    rare = "xq zjv kkw qpz"
    data = documents(["a cat", "a dog", "a bird", "a fish", *[rare] * 6])
    net = tiny(data)
    assert all(leak.inner_product == 0 for leak in unseen.audit(net, data.tokens[:2], data.tokens[:2], data.index[:2], next_token_loss))
    losses = list(train_language(net, data, epochs=30, lr=0.01, batch_size=4))
    assert losses[-1] < losses[0] / 2
    assert document_table(net, data).sort("memorization")["text"][-1] == rare


def test_the_command_writes_a_table_and_refuses_to_replace_it(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("\n".join(TEXTS))
    command = ["language", str(tmp_path / "notes.txt"), "--epochs", "1", "--width", "16", "--layers", "1", "--top", "2"]
    assert main(command) == 0
    assert "memorization" in capsys.readouterr().out
    table = pl.read_parquet(tmp_path / "notes-memorization.parquet")
    assert table.height == 3 and "nats" in pl.read_parquet_metadata(tmp_path / "notes-memorization.parquet")["memorization"]
    assert main(command) == 2 and "is there already" in capsys.readouterr().err


def test_what_is_no_text_file_is_named(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "one").write_text("only one line")
    (tmp_path / "paragraphs").write_text("one\nof two\n\nthe other\n")
    for name, message in (("bytes", "Cannot read.*UTF-8"), ("none", "Cannot read"), ("one", "Got 1 documents")):
        with pytest.raises(UnseenError, match=message):
            read_documents(tmp_path / name)
    assert read_documents(tmp_path / "paragraphs").texts == ["one\nof two", "the other"]
