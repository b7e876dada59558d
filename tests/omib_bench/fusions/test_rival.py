import pytest
import torch
from torch import Tensor

from omib_bench.fusions import RIVALS, build
from omib_bench.fusions._rival import JOINT
from omib_spatial.core import (
    OMIB,
    Batch,
    Classification,
    OMIBTraining,
    OneClass,
    Regression,
    Samples,
    Task,
    predict,
    sample_loader,
    train,
)
from omib_spatial.encoders import MLP

WIDTHS = {"a": 3, "b": 5, "c": 4}
K = 8
NAMES = list(RIVALS)
TASKS: dict[str, Task] = {
    "classes": Classification(3, (16,)),
    "values": Regression(2, (16,)),
    "one class": OneClass(4, (8,)),
}


def codes_of(n: int = 40, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = {name: torch.randn(n, d, generator=generator) for name, d in WIDTHS.items()}
    present = torch.rand(n, len(WIDTHS), generator=generator) < 0.6
    present[present.sum(1) == 0, 0] = True
    return codes, present


def network(name: str, task: Task, seed: int = 1):
    torch.manual_seed(seed)
    return build(RIVALS[name], {m: MLP(d, 6) for m, d in WIDTHS.items()}, task, K)


def batch(task: str, n: int = 40, full: bool = False) -> Batch:
    codes, present = codes_of(n)
    present = torch.ones_like(present) if full else present
    inputs = {name: x[here] for (name, x), here in zip(codes.items(), present.T, strict=True)}
    target = {"classes": torch.arange(n) % 3, "values": torch.randn(n, 2), "one class": None}[task]
    return Batch(inputs, present, target)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_missing_modality_has_no_influence_at_all(name, training):
    codes, present = codes_of()
    torch.manual_seed(1)
    fusion = RIVALS[name](WIDTHS, K).train(training)
    here = dict(zip(WIDTHS, present.T, strict=True)) | {JOINT: torch.ones(len(present), dtype=torch.bool)}
    changed = {m: torch.where(here[m].unsqueeze(1), z, 1e3 * torch.randn_like(z)) for m, z in codes.items()}
    torch.manual_seed(2)
    before = fusion(codes, present)
    torch.manual_seed(2)
    after = fusion(changed, present)
    assert torch.equal(before.xi, after.xi)
    assert before.kl.keys() == after.kl.keys() and before.losses.keys() == after.losses.keys()
    assert all(torch.equal(before.kl[m], after.kl[m]) for m in before.kl)
    assert all(torch.equal(before.losses[m], after.losses[m]) for m in before.losses)
    assert all(torch.equal(before.views[m][here[m]], after.views[m][here[m]]) for m in before.views)
    assert all(before.xi[present.sum(1) == 1].isfinite().all(1))


@pytest.mark.parametrize("name", NAMES)
def test_every_present_modality_has_influence_on_its_own_samples_alone(name):
    codes, present = codes_of()
    torch.manual_seed(1)
    fusion = RIVALS[name](WIDTHS, K).eval()
    xi = fusion(codes, present).xi
    for m, here in zip(WIDTHS, present.T, strict=True):
        moved = (fusion(codes | {m: codes[m] + 1.0}, present).xi != xi).any(1)
        assert torch.equal(moved, here)


@pytest.mark.parametrize("name", NAMES)
def test_equal_inputs_give_equal_outputs_at_inference_whatever_else_is_in_the_batch(name):
    codes, present = codes_of()
    torch.manual_seed(1)
    fusion = RIVALS[name](WIDTHS, K).eval()
    fused = fusion(codes, present)
    some = torch.tensor([3, 17, 5])
    again = fusion({m: z[some] for m, z in codes.items()}, present[some])
    torch.testing.assert_close(again.xi, fused.xi[some])
    assert torch.equal(fusion(codes, present).xi, fused.xi)
    assert fused.losses == {}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_objective_is_the_sum_of_what_the_paper_adds_and_reaches_every_parameter(name, task):
    net, given = network(name, TASKS[task]), batch(task)
    output = net(given)
    losses = net.objective(output, given, 0.3)
    extra = output.fused.losses | net.fusion.judge(output, given, net)
    parts = [losses.task, *(0.3 * v for v in losses.kl.values()), *losses.branches.values(), *extra.values()]
    torch.testing.assert_close(losses.total, torch.stack(parts).sum())
    assert set(losses.branches) == set(net.fusion.views())
    losses.total.backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None]
    assert idle == [] and all(p.grad.isfinite().all() for p in net.parameters())


def test_view_of_a_missing_modality_adds_nothing():
    net, given = network("LMIB", TASKS["classes"]), batch("classes")
    output = net(given)
    got = net.objective(output, given, 0.0).branches["b"]
    here = given.present[:, 1]
    expected = torch.nn.functional.cross_entropy(output.branches["b"][here], given.target[here], reduction="sum")
    torch.testing.assert_close(got, expected / len(here))


@pytest.mark.parametrize("name", NAMES)
def test_learns_what_needs_both_modalities(name):
    generator = torch.Generator().manual_seed(0)
    x = {m: torch.randn(300, 4, generator=generator) for m in ("a", "b")}
    y = ((x["a"][:, 0] + x["b"][:, 0]) > 0).long()
    torch.manual_seed(0)
    net = build(RIVALS[name], {m: MLP(4, 8) for m in x}, Classification(2, (16,)), K)
    given = Batch(x, torch.ones(300, 2, dtype=torch.bool), y)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(120):
        optimiser.zero_grad()
        net.objective(net(given), given, 1e-3).total.backward()
        optimiser.step()
    right = (net.eval()(given).prediction.argmax(1) == y).float().mean()
    best_alone = max(float((x[m][:, 0].gt(0).long() == y).float().mean()) for m in x)
    # MMIBCui's compression has weight 1 whatever beta is, and its draws cost accuracy in so short a training.
    least, beyond = (0.85, 0.05) if name == "MMIBCui" else (0.93, 0.1)
    assert right > least and right > best_alone + beyond


def test_trains_with_the_training_of_omib_and_centres_one_class_on_the_head():
    net, (codes, present) = network("CMIB", OneClass(4, (8,))), codes_of()
    samples = Samples(codes, None, present)
    net.eval()
    expected = (net(samples[list(range(40))]).prediction * present.sum(1, keepdim=True)).sum(0) / present.sum()
    net.train()
    module = OMIBTraining(net, beta=0.0, warmup_epochs=0, learning_rate=0.0, seed=0)
    # Nothing is learned at rate 0; the centre is from a pass in training mode, where codes are drawn.
    train(module, sample_loader(samples, 40, shuffle=False), max_epochs=1, progress_bar=False, accelerator="cpu")
    assert net.task.center.abs().min() >= 0.1
    sign = torch.where(expected.abs() > 0.3, expected.sign(), 0.0)
    assert ((net.task.center.sign() == sign) | (sign == 0)).all()
    assert module.history["task"][0] > 0
    assert predict(net, sample_loader(samples, 7, shuffle=False)).shape == (40,)


def test_fusion_with_losses_of_its_own_is_refused_by_omib():
    encoders = {m: MLP(d, 6) for m, d in WIDTHS.items()}
    model = OMIB(encoders, TASKS["classes"], latent_dim=K, fusion=RIVALS["MISA"](dict.fromkeys(WIDTHS, 6), K))
    with pytest.raises(ValueError, match="MISA has losses of its own"):
        model(batch("classes"))
