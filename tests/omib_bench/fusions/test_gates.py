import torch

from omib_bench.fusions import BiGated, Concat, FiLM

WIDTHS = {"a": 3, "b": 5}
EVERY = torch.ones(6, 2, dtype=torch.bool)


def codes_of() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(6, d) for name, d in WIDTHS.items()}


def test_concatenation_is_a_linear_map():
    codes, fusion = codes_of(), Concat(WIDTHS, 4)
    expected = torch.cat(list(codes.values()), 1) @ fusion.out.weight.T + fusion.out.bias
    torch.testing.assert_close(fusion(codes, EVERY).xi, expected)


def test_gates_are_sigmoids_of_the_other_modality_between_0_and_1():
    codes, fusion = codes_of(), BiGated(WIDTHS, 4)
    gates = fusion.gates(codes, EVERY)
    torch.testing.assert_close(gates[:, 0], fusion.gate["b"](codes["b"]).sigmoid())
    torch.testing.assert_close(gates[:, 1], fusion.gate["a"](codes["a"]).sigmoid())
    extreme = fusion.gates({name: 1e4 * z for name, z in codes.items()}, EVERY)
    assert ((extreme >= 0) & (extreme <= 1)).all() and extreme.min() < 0.01 and extreme.max() > 0.99


def test_two_modalities_gate_each_other():
    codes, fusion = codes_of(), BiGated(WIDTHS, 4)
    a, b = (fusion.value[m](codes[m]) * fusion.gate[o](codes[o]).sigmoid() for m, o in (("a", "b"), ("b", "a")))
    torch.testing.assert_close(fusion(codes, EVERY).xi, fusion.out(a + b))


def test_modality_that_stands_alone_is_not_gated():
    codes, fusion = codes_of(), BiGated(WIDTHS, 4)
    alone = EVERY.clone()
    alone[:, 1] = False
    assert (fusion.gates(codes, alone)[:, 0] == 1).all()
    torch.testing.assert_close(fusion(codes, alone).xi, fusion.out(fusion.value["a"](codes["a"])))


def test_three_modalities_are_gated_by_the_mean_of_the_others_that_are_there():
    torch.manual_seed(0)
    codes = {name: torch.randn(2, 3) for name in "abc"}
    fusion = BiGated(dict.fromkeys("abc", 3), 4)
    gates = fusion.gates(codes, torch.tensor([[True, True, True], [True, True, False]]))
    own = {name: fusion.gate[name](codes[name]).sigmoid() for name in "abc"}
    torch.testing.assert_close(gates[0, 0], (own["b"][0] + own["c"][0]) / 2)
    torch.testing.assert_close(gates[1, 0], own["b"][1])


def test_film_scales_and_shifts_by_the_first_modality():
    codes, fusion = codes_of(), FiLM(WIDTHS, 4)
    delta, beta = fusion.condition(codes["a"]).chunk(2, 1)
    torch.testing.assert_close(fusion(codes, EVERY).xi, fusion.out((1 + delta) * fusion.value["b"](codes["b"]) + beta))


def test_film_modulates_nothing_without_the_first_modality():
    codes, fusion = codes_of(), FiLM(WIDTHS, 4)
    without = EVERY.clone()
    without[:, 0] = False
    torch.testing.assert_close(fusion(codes, without).xi, fusion.out(fusion.value["b"](codes["b"])))
