"""Language models: which documents does a causal model know by heart? Memorization per document and per token, in nats per token."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unseen.errors import UnseenError
from unseen.hashing import hash64
from unseen.masks import TurnOverNet, evaluating
from unseen.runs import Run

if TYPE_CHECKING:
    import polars as pl

IGNORED = -100  # Hugging Face's label for places that do not count
BYTES = 256
END = BYTES  # the token that begins every document


@dataclass(frozen=True)
class Documents:
    """Documents as tokens.

    Attributes:
        tokens: int64 (documents, length), each begun by ``END`` and padded by it.
        lengths: int64 (documents,), tokens to predict.
        index: int64 (documents,), of the first document with the same text: copies are one example, trained as often as it occurs, as
            otherwise the unseen half of a copy would know it from the other.
        texts: the documents.
    """

    tokens: Tensor
    lengths: Tensor
    index: Tensor
    texts: list[str]


def read_documents(path: str | Path, longest: int = 128) -> Documents:
    """Documents of a text file, UTF-8: its paragraphs where it has empty lines, else its lines; cut after ``longest`` bytes.

    Raises:
        UnseenError: a file that is not there or is no UTF-8, or fewer than two documents.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnseenError(f"Cannot read {path} ({error}). Allowed: a text file in UTF-8. Convert it.") from error
    parts = text.split("\n\n") if "\n\n" in text.strip() else text.splitlines()
    return documents([part.strip() for part in parts if part.strip()], longest)


def documents(texts: Sequence[str], longest: int = 128) -> Documents:
    """Texts as bytes: any language, no vocabulary. Raises UnseenError where there are fewer than two, or an empty one."""
    pieces = [list(text.encode()[:longest]) for text in texts]
    if len(pieces) < 2 or not all(pieces):
        raise UnseenError(
            f"Got {len(pieces)} documents. Allowed: at least two, none empty: a line each, or paragraphs between empty lines."
        )
    tokens = torch.full((len(pieces), 1 + max(map(len, pieces))), END)
    for row, piece in enumerate(pieces):
        tokens[row, 1 : 1 + len(piece)] = torch.tensor(piece)
    first: dict[str, int] = {}
    index = torch.tensor([first.setdefault(text, row) for row, text in enumerate(texts)])
    return Documents(tokens, torch.tensor([len(piece) for piece in pieces]), index, list(texts))


def token_losses(logits: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Cross entropy of each token given those before it, in nats: (documents, length - 1); 0 behind a document's end."""
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none")
    places = torch.arange(losses.shape[1], device=losses.device)
    return losses * (places < lengths[:, None])


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the next token, for ``audit``: labels int64 (documents, length), ``IGNORED`` where none counts."""
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def train_language(
    net: TurnOverNet, data: Documents, epochs: int = 10, lr: float = 1e-3, batch_size: int = 32, seed: int = 0
) -> Iterable[float]:
    """Train on all documents by Adam, each in its own seen half; yields each epoch's loss in nats per token.

    Raises UnseenError for a loss that is not finite.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for epoch in range(epochs):
        total = torch.zeros(())
        for positions in torch.argsort(hash64(torch.arange(len(data.texts)), seed, "order", epoch)).split(batch_size):
            tokens, lengths = _cut(data, positions)
            losses = token_losses(net(tokens, data.index[positions]), tokens, lengths)
            loss = losses.sum() / lengths.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += losses.detach().sum()
        mean = float(total / data.lengths.sum())
        if not math.isfinite(mean):
            raise UnseenError(f"The loss became {mean} in epoch {epoch + 1}. Lower the learning rate (--lr {lr:g} now).")
        yield mean


@torch.no_grad()
def document_table(net: TurnOverNet, data: Documents, batch_size: int = 64, per_token: bool = False) -> "pl.DataFrame":
    """A row per different document: index, copies, tokens, loss_seen, loss_unseen, memorization (their difference), nats per token; text.

    Args:
        net: trained on ``data`` with turn-over masks.
        data: the documents.
        batch_size: documents at a time.
        per_token: also token_memorization, a list per document.
    """
    import polars as pl

    copies = torch.bincount(data.index, minlength=len(data.texts))
    rows: list[dict[str, Any]] = []
    with evaluating(net):
        for positions in data.index.unique().split(batch_size):
            tokens, lengths = _cut(data, positions)
            seen, unseen = (token_losses(logits, tokens, lengths) for logits in net(tokens, positions, "both"))
            for row, position in enumerate(positions.tolist()):
                found = _document(seen[row], unseen[row], int(lengths[row]), per_token)
                rows.append({"index": position, "copies": int(copies[position])} | found | {"text": data.texts[position]})
    return pl.DataFrame(rows)


def _document(seen: Tensor, unseen: Tensor, count: int, per_token: bool) -> dict[str, Any]:
    """What its tokens' losses say of a document."""
    means = [float(losses.sum()) / count for losses in (seen, unseen)]
    found = {"tokens": count, "loss_seen": means[0], "loss_unseen": means[1], "memorization": means[1] - means[0]}
    return found | ({"token_memorization": (unseen - seen)[:count].tolist()} if per_token else {})


def _cut(data: Documents, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and lengths of some documents, as long as the longest of them."""
    lengths = data.lengths[positions]
    return data.tokens[positions, : 1 + int(lengths.max())], lengths


def small_gpt2(seed: int = 0, width: int = 128, layers: int = 2, heads: int = 4, longest: int = 128) -> nn.Module:
    """A GPT-2 of bytes with fresh weights, from ``transformers``; without dropout, as the masks regularise.

    Raises UnseenError where ``transformers`` is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UnseenError("Language models need the package transformers: pip install transformers.") from error
    config = transformers.GPT2Config(
        vocab_size=BYTES + 1, n_embd=width, n_layer=layers, n_head=heads, n_positions=longest + 1, bos_token_id=END, eos_token_id=END,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.GPT2LMHeadModel(config)


def write_documents(table: "pl.DataFrame", path: Path) -> None:
    """Write ``document_table`` as Parquet, whole or not at all, with what its columns mean."""
    Run(path.parent).write_table(path.stem, table)
