"""The progress bar of a training run; silent where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from torch import Tensor


@contextmanager
def counter(total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar over ``total`` things (None: nobody knows how many); yields what to call with the number done."""
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", disable=None, leave=False) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


class Bar:
    """Loss, accuracies of both halves, examples per second and time left, over all epochs of a seed."""

    def __init__(self, name: str, total: int, done: int, show: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=total, initial=done, desc=name, unit=" examples", unit_scale=True, disable=None if show else True, leave=False
        )
        self.notes: dict[str, Any] = {}
        self.steps = 0

    def step(self, examples: int, loss: Tensor) -> None:
        """After every step; the loss is read now and then only, since reading it waits for the device."""
        self.steps += 1
        self.bar.update(examples)
        if not self.bar.disable and self.steps % 50 == 0:
            self.notes["loss"] = f"{float(loss) * examples / max(examples, 1):.3f}"
            self.bar.set_postfix(self.notes, refresh=False)

    def accuracies(self, measured: dict[str, Tensor]) -> None:
        """After a measurement; of the examples that it was of."""
        if not self.bar.disable:
            sides = [name for name in measured if name.startswith("correct_")]
            self.notes |= {name.removeprefix("correct_"): f"{float(measured[name].mean()):.1%}" for name in sides}
            self.bar.set_postfix(self.notes, refresh=False)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()
