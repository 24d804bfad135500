"""The study of fusion: its modules by hand, and planted modalities."""

import numpy as np
import pytest
import torch

from blemore.errors import ValidationError
from blemore_baselines.models.heads import seeded
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.studies.fusion import GATED, Gated, LowRank, fusion, mean_gates

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Recipe(3e-3, 1e-3, 32, 8, 8)


def test_gates_sum_to_one_and_follow_the_logits():
    module = seeded(lambda: Gated([3, 2, 4], hidden=5), seed=0)
    outputs = module(torch.randn(7, 9, generator=torch.Generator().manual_seed(1)))
    assert outputs.shape == (7, 6 + 3)
    gates = outputs[:, 6:].detach().numpy()
    assert gates.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-6) and (gates > 0).all()


def test_gated_attention_by_hand():
    """One unit per modality: relu(2·x) and relu(3·y), gates 3/4 and 1/4, the logits their mean times 1 … 6."""
    module = Gated([1, 1], hidden=1)
    with torch.no_grad():
        for project, weight in zip(module.project, (2.0, 3.0)):
            project.weight.fill_(weight), project.bias.zero_()
        module.gate.weight.zero_(), module.gate.bias.copy_(torch.tensor([np.log(3.0), 0.0]))
        module.out.weight.copy_(torch.arange(1.0, 7.0)[:, None]), module.out.bias.zero_()
    outputs = module(torch.tensor([[1.0, 2.0], [1.0, -2.0]])).detach().numpy()
    assert outputs[0] == pytest.approx([*((0.75 * 2 + 0.25 * 6) * np.arange(1, 7)), 0.75, 0.25], rel=1e-6)
    assert outputs[1] == pytest.approx([*(0.75 * 2 * np.arange(1, 7)), 0.75, 0.25], rel=1e-6)


def test_a_tensor_of_rank_one_is_the_product():
    """(relu(x)·a + b)(relu(y)·c + d) + e for each logit."""
    module = LowRank([1, 1], hidden=1, rank=1)
    rng = np.random.default_rng(0)
    (a, b), (c, d), e = rng.normal(size=(2, 6)), rng.normal(size=(2, 6)), rng.normal(size=6)
    with torch.no_grad():
        for project, factor, values in zip(module.project, module.factors, ((a, b), (c, d))):
            project.weight.fill_(1.0), project.bias.zero_()
            factor.copy_(torch.tensor(np.array([values])))
        module.bias.copy_(torch.tensor(e))
    outputs = module(torch.tensor([[2.0, 3.0], [-1.0, 3.0]])).detach().numpy()
    assert outputs[0] == pytest.approx((2 * a + b) * (3 * c + d) + e, rel=1e-5)
    assert outputs[1] == pytest.approx(b * (3 * c + d) + e, rel=1e-5)


def test_a_tensor_of_any_rank_is_the_full_tensor_of_outer_products():
    """Liu et al. 2018: the low-rank product is the full weight tensor, applied to the modalities' outer product."""
    module = seeded(lambda: LowRank([3, 2, 4], hidden=5, rank=3), seed=2).double()
    X = torch.randn(4, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z = [
        torch.nn.functional.pad(torch.relu(project(x)), (0, 1), value=1.0)
        for project, x in zip(module.project, X.split([3, 2, 4], dim=1))
    ]
    weights = torch.einsum("rik,rjk,rlk->ijlk", *module.factors)
    expected = torch.einsum("ni,nj,nl,ijlk->nk", *z, weights) + module.bias
    assert module(X).detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-9)


def test_mean_gates_by_hand(tiny):
    dataset = tiny.dataset
    gates = np.where(dataset.targets[:, 0] > 0, 0.25, 0.75)
    means = mean_gates(np.stack([gates, 1 - gates], axis=1), dataset)
    assert means["anger"][0].value == pytest.approx(0.25) and means["anger"][1].value == pytest.approx(0.75)
    assert means["all"][0].value == pytest.approx(gates.mean()) and means["neutral"][0].value == pytest.approx(0.75)


def test_a_source_of_noise_is_gated_away(planted):
    dataset, sources = planted(noise=(0.1, None))
    study = fusion(dataset, ["told", "noise"], sources, RECIPE, "mlp256", 0, "signature")
    gates = study.values["gates"]["all"]
    assert gates["noise"]["high"] < 0.35 < 0.65 < gates["told"]["low"]
    assert gates["told"]["value"] + gates["noise"]["value"] == pytest.approx(1, abs=1e-6)
    assert study.values["fusions"][GATED]["score"] > 0.4
    # The columns of both, and a bias, to each hidden unit; a projection of its own for each way but the first.
    assert study.values["fusions"]["concatenation"]["parameters"] == (16 + 1) * 256 + 257 * 6
    assert study.values["fusions"][GATED]["parameters"] == 2 * (8 + 1) * 256 + (2 * 256 + 1) * 2 + 257 * 6
    assert study.values["fusions"]["low-rank tensor"]["parameters"] == 2 * (8 + 1) * 256 + 2 * 4 * 257 * 6 + 6
    assert set(study.figures) == {"gained", "gates"}


def test_one_source_and_a_head_without_a_hidden_layer_are_refused(tiny):
    sound, look = tiny.read(tiny.sound), tiny.read(tiny.look)
    with pytest.raises(ValidationError, match="1 source; expected at least two"):
        fusion(tiny.dataset, ["sound"], [sound], RECIPE, "mlp256", 0, "")
    with pytest.raises(ValidationError, match="linear has no hidden layer"):
        fusion(tiny.dataset, ["sound", "look"], [sound, look], RECIPE, "linear", 0, "")
