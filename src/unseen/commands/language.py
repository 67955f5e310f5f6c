"""Language models."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from unseen.commands.following import following
from unseen.errors import UnseenError


@dataclass(frozen=True)
class Language:
    """Train a small language model on the bytes of a text file, and say which documents it knows by heart."""

    file: Positional[Path]
    """text file in UTF-8: a document per line, or per paragraph where there are empty lines"""
    out: Path | None = None
    """table to write; default: FILE-memorization.parquet"""
    epochs: int = 10
    """passes over the documents"""
    lr: float = 0.001
    """learning rate of Adam"""
    width: int = 128
    """units of the residual stream"""
    layers: int = 2
    """transformer blocks"""
    longest: int = 128
    """bytes of a document to read"""
    seed: int = 0
    """seed of masks, weights and order"""
    per_token: bool = False
    """also keep the memorization of each token (byte)"""
    top: int = 20
    """documents to print"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> str | None:
        """Train, write the table, print its head."""
        from unseen import language
        from unseen.commands.terminal import print_table
        from unseen.masks import TurnOverNet
        from unseen.training import counter

        out = self.out or self.file.with_name(f"{self.file.stem}-memorization.parquet")
        if out.suffix != ".parquet":
            raise UnseenError(f"--out is {out}; it must end in .parquet.")
        if out.exists():
            raise UnseenError(f"{out} is there already. Choose another --out, or delete it.")
        if self.epochs < 1 or self.lr <= 0 or self.width % 4 or self.width < 8 or self.layers < 1 or self.longest < 2:
            raise UnseenError(
                "Allowed: --epochs and --layers at least 1, --lr above 0, --width a multiple of 4 from 8, --longest at least 2."
            )
        data = language.read_documents(self.file, self.longest)
        model = language.small_gpt2(self.seed, self.width, self.layers, longest=self.longest)
        net = TurnOverNet(model, seed=self.seed, examples=len(data.texts))
        with counter(self.epochs, "epochs") as advance:
            for _ in language.train_language(net, data, self.epochs, self.lr, seed=self.seed):
                advance(1)
        table = language.document_table(net, data, per_token=self.per_token).sort("memorization", descending=True)
        language.write_documents(table, out)
        print_table(
            table.select("index", "memorization", "text", "copies", "loss_unseen", "loss_seen").head(self.top).to_dicts(), self.json
        )
        if self.json:
            return None
        print(out)
        return following("which other flags it has", "language", "--help")
