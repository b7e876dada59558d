import torch
from torch import nn

from omib_spatial.core.branch import TaskRelevanceBranch


def test_head_reads_the_code_first_and_its_companion_second():
    branch = TaskRelevanceBranch(nn.Linear(5, 2))
    z, companion = torch.randn(7, 3), torch.randn(7, 2)
    weight = branch.head.weight
    expected = z @ weight[:, :3].T + companion @ weight[:, 3:].T + branch.head.bias
    torch.testing.assert_close(branch(z, companion), expected)


def test_gradient_reaches_the_code_and_its_companion():
    branch = TaskRelevanceBranch(nn.Linear(5, 2))
    z, companion = torch.randn(7, 3, requires_grad=True), torch.randn(7, 2, requires_grad=True)
    branch(z, companion).sum().backward()
    torch.testing.assert_close(z.grad, branch.head.weight[:, :3].sum(0).expand(7, 3))
    torch.testing.assert_close(companion.grad, branch.head.weight[:, 3:].sum(0).expand(7, 2))
