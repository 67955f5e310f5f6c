"""Planted duplicates and canaries in a language model's training text: does memorization rank them first?

python benchmarks/language.py --data shared/data/sst2/train.tsv
"""

import argparse
import json
import time
from pathlib import Path

import torch
from sklearn.metrics import average_precision_score

from unseen import TurnOverNet
from unseen.hashing import hash64, uniform
from unseen.language import document_table, documents, next_token_loss, small_gpt2, train_language
from unseen.masks import leaks as audit


def planted_corpus(path: Path, count: int, planted: int, times: int, seed: int) -> tuple[list[str], set[str]]:
    """Sentences; half of the planted ones are sentences that come ``times`` times, half canaries: strings of letters drawn at random."""
    lines = dict.fromkeys(line.split("\t")[-1].strip() for line in path.read_text(encoding="utf-8").splitlines())
    texts = list(lines)[:count]
    chosen = torch.argsort(hash64(torch.arange(count), seed, "planted"))[:planted].tolist()
    for number, place in enumerate(chosen):
        if number % 2:
            letters = (uniform(torch.arange(40), seed, "canary", number) * 26).long()
            texts[place] = "the code is " + "".join(chr(97 + int(letter)) for letter in letters)
    copies = [texts[place] for place in chosen for _ in range(times - 1)]
    return texts + copies, {texts[place] for place in chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    for name, value in {"count": 2000, "planted": 50, "times": 8, "epochs": 8, "lr": 0.002, "width": 128, "longest": 96, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts, planted = planted_corpus(options.data, options.count, options.planted, options.times, options.seed)
    data = documents(texts, options.longest)
    net = TurnOverNet(small_gpt2(options.seed, options.width, longest=options.longest), seed=options.seed, examples=len(texts))
    leaks = audit(net, data.tokens[:2], data.tokens[:2], data.index[:2], next_token_loss)
    print(json.dumps({"leak": sum(leak.inner_product for leak in leaks), "documents": len(texts)}), flush=True)
    start = time.process_time()
    for epoch, loss in enumerate(train_language(net, data, options.epochs, options.lr, seed=options.seed), 1):
        if epoch % 2 == 0 or epoch == options.epochs:
            table = document_table(net, data)
            wanted = table["text"].is_in(list(planted)).to_numpy()
            scores = {name: table[name].to_numpy() for name in ("memorization", "loss_unseen")} | {
                "-loss_seen": -table["loss_seen"].to_numpy()
            }
            precision = {name: round(float(average_precision_score(wanted, score)), 4) for name, score in scores.items()}
            print(
                json.dumps({"epoch": epoch, "loss": loss, "average_precision": precision, "cpu_s": round(time.process_time() - start)}),
                flush=True,
            )


if __name__ == "__main__":
    main()
