"""The task-relevance branch: it makes each modality's code say what it can about the task by itself."""

import torch
from torch import Tensor, nn


class TaskRelevanceBranch(nn.Module):
    """``yhat_i = Dec_i([z_i, e_i])``, equation (3); after warm-up ``yhat_i = Dec_i([z_i, xi])``, equation (9).

    During warm-up ``e_i ~ N(0, I_k)`` is drawn afresh for each sample, so the head must live on ``z_i``; afterwards
    the fused code xi takes its place, so that ``z_i`` is left with what xi does not hold yet.

    Parameters
    ----------
    head
        Maps (N, d + k) to the task's output.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, z: Tensor, companion: Tensor) -> Tensor:
        """Predict from the code ``z`` (N, d) and its ``companion`` (N, k): noise, or xi."""
        return self.head(torch.cat([z, companion], -1))
