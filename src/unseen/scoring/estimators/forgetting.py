"""Forgetting events of many networks: counted in each, since the mean of their accuracies dips where one of them forgets."""

import torch
from torch import Tensor


class Forgetting:
    """Which members forget an example that they train on, from one measured epoch to the next (Toneva et al. 2019).

    Args:
        member: bool (K, n), who trains on what.
    """

    def __init__(self, member: Tensor) -> None:
        self.member = member
        self.right, self.ever = torch.zeros_like(member), torch.zeros_like(member)

    def after(self, correct: Tensor) -> dict[str, Tensor]:
        """What an epoch brought.

        Args:
            correct: bool (K, n), whose prediction is the given label.

        Returns:
            Means over the members with the example, float32 (n,): forgotten_seen, the share that was right before and is wrong now;
            learned_seen, the share that was ever right.
        """
        forgotten = self.right & ~correct
        self.right, self.ever = correct, self.ever | correct
        return {f"{name}_seen": self._mean(value) for name, value in (("forgotten", forgotten), ("learned", self.ever))}

    def _mean(self, value: Tensor) -> Tensor:
        return (value & self.member).sum(0) / self.member.sum(0).clamp_min(1)

    def state(self) -> dict[str, Tensor]:
        """What to go on from: (K, n) bits in a byte each."""
        return {"right": self.right, "ever": self.ever}

    def load(self, state: dict[str, Tensor]) -> None:
        """Undo ``state``."""
        self.right, self.ever = state["right"], state["ever"]
