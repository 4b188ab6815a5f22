"""Part deformation against a plain loop over points; initial identity, global baseline and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from partnerface_ns.warp.local_networks import LocalNetworks, RowsByPart
from partnerface_ns.warp.part_assigner import PartWeights
from partnerface_ns.warp.part_deformation import (
    GlobalDeformation,
    PartDeformation,
    PartDeformationConfig,
    equal_width,
)

NUM_PARTS, NUM_FRAMES, SIZE_CODE, SCALE = 4, 3, 7, 0.15


@pytest.fixture(params=[(1, 0), (3, 0), (2, 3)], ids=["shallow", "deep", "bases"])
def config(request) -> PartDeformationConfig:
    num_layers, num_bases = request.param
    return PartDeformationConfig(hidden=9, num_layers=num_layers, num_frequencies=2, num_ambient=2, num_bases=num_bases)


def fill(networks: LocalNetworks) -> None:
    """Randomise the networks, which start at zero."""
    for parameter in networks.parameters():
        torch.nn.init.normal_(parameter, std=0.4)


@pytest.fixture
def deformation(config) -> PartDeformation:
    made = PartDeformation(config, 0.1 * torch.randn(NUM_PARTS, 3), torch.rand(NUM_PARTS, SIZE_CODE), SCALE)
    fill(made.networks)
    return made


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Points, their frames, and the frames' codes."""
    return 0.1 * torch.randn(50, 3), torch.randint(NUM_FRAMES, (50,)), torch.randn(NUM_FRAMES, SIZE_CODE)


def random_parts(num_points: int, top: int) -> PartWeights:
    """Part 2 gets no point."""
    others = [k for k in range(NUM_PARTS) if k != 2]
    index = torch.stack([torch.tensor(others)[torch.randperm(len(others))[:top]] for _ in range(num_points)])
    return PartWeights(index, torch.rand(num_points, top).softmax(1))


def network(deformation: PartDeformation, part: int, point: Tensor, code: Tensor) -> Tensor:
    """One part's network written out for one point."""
    n, encode = deformation.networks, deformation.encoding
    local = encode((point - deformation.seeds[part]) / deformation.scale)
    seen = code * deformation.code_visibility[part]
    mixing = deformation.mixing
    h = n.position[part] @ local + n.bias[part]
    h = F.leaky_relu(h if mixing is not None else h + n.code[part] @ seen, deformation.config.slope)
    for weight, bias in zip(n.layers, n.layer_biases, strict=True):
        h = F.leaky_relu(weight[part] @ h + bias[part], deformation.config.slope)
    out = n.output[part] @ h
    if mixing is None:
        return out
    coefficients = mixing.linear[part] @ seen + mixing.constant[part]
    return sum(a * basis for a, basis in zip(coefficients, out.split(len(out) // len(coefficients)), strict=True))


@pytest.mark.parametrize("top", [1, 2, 3])
def test_sorted_evaluation_equals_a_loop_over_points(deformation, inputs, top):
    points, frame, codes = inputs
    parts = random_parts(len(points), top)
    found = deformation(points, frame, codes, parts)
    for i, point in enumerate(points):
        values = [network(deformation, int(k), point, codes[frame[i]]) for k in parts.index[i]]
        blended = sum(w * v for w, v in zip(parts.weight[i], values, strict=True))
        assert_close(found.ambient[i], blended[3:])
        # Offsets are bounded, so compare what went into the bound.
        bound = deformation.config.offset_scale
        assert_close((found.offset[i] / bound).atanh(), blended[:3], atol=1e-3, rtol=1e-3)


def test_all_parts_equal_the_dense_sum(deformation, inputs):
    """The order in which a point's parts are named does not matter."""
    points, frame, codes = inputs
    weight = torch.randn(len(points), NUM_PARTS).softmax(1)
    index = torch.arange(NUM_PARTS).expand(len(points), -1)
    shuffle = torch.stack([torch.randperm(NUM_PARTS) for _ in points])
    dense = deformation(points, frame, codes, PartWeights(index, weight))
    shuffled = deformation(points, frame, codes, PartWeights(shuffle, weight.gather(1, shuffle)))
    assert_close(dense.offset, shuffled.offset)
    assert_close(dense.ambient, shuffled.ambient)


def test_offsets_are_bounded(deformation, inputs):
    points, frame, codes = inputs
    fill(deformation.networks)
    with torch.no_grad():
        deformation.networks.output.mul_(1e4)
    found = deformation(points, frame, codes, random_parts(len(points), 2))
    assert found.offset.abs().max() <= deformation.config.offset_scale * (1 + 1e-6)


def test_both_deformations_begin_as_the_identity(config, inputs):
    points, frame, codes = inputs
    parts = PartDeformation(config, torch.zeros(NUM_PARTS, 3), torch.ones(NUM_PARTS, SIZE_CODE), SCALE)
    whole = GlobalDeformation(config, NUM_PARTS, SIZE_CODE, SCALE)
    for found in (parts(points, frame, codes, random_parts(50, 2)), whole(points, frame, codes)):
        assert found.offset.shape == (50, 3) and not found.offset.any()
        assert found.ambient.shape == (50, 2) and not found.ambient.any()


def test_invisible_code_entries_do_not_move_a_part(deformation, inputs):
    points, frame, codes = inputs
    deformation.code_visibility[:] = 1.0
    deformation.code_visibility[1, 3] = 0.0
    only = PartWeights(torch.ones(50, 1, dtype=torch.long), torch.ones(50, 1))
    other = codes.clone()
    other[:, 3] += 5
    assert torch.equal(deformation(points, frame, codes, only).offset, deformation(points, frame, other, only).offset)
    seen = PartWeights(torch.zeros(50, 1, dtype=torch.long), torch.ones(50, 1))
    assert not torch.equal(
        deformation(points, frame, codes, seen).offset, deformation(points, frame, other, seen).offset
    )


def test_units_with_negative_inputs_still_learn(deformation, inputs):
    points, frame, codes = inputs
    biases = [deformation.networks.bias, *deformation.networks.layer_biases]
    with torch.no_grad():
        for bias in biases:
            bias.fill_(-100)
    deformation(points, frame, codes, random_parts(50, 2)).ambient.sum().backward()
    assert all(bias.grad[k].any() for bias in biases for k in (0, 1, 3))


def test_only_evaluated_parts_are_trained(deformation, inputs):
    points, frame, codes = inputs
    found = deformation(points, frame, codes, random_parts(50, 2))
    (found.offset.sum() + found.ambient.sum()).backward()
    gradient = deformation.networks.position.grad
    assert gradient.isfinite().all()
    assert not gradient[2].any() and all(gradient[k].any() for k in (0, 1, 3))
    of_code = deformation.networks.code if deformation.mixing is None else deformation.mixing.linear
    assert of_code.grad.any() and deformation.networks.output.grad.any()


def test_gradients_are_those_of_the_loop(deformation, inputs):
    points, frame, codes = inputs
    points, codes = points[:12].clone().requires_grad_(), codes.clone().requires_grad_()
    index, weight = random_parts(12, 2)
    weight.requires_grad_()
    wanted = [points, codes, weight, *deformation.parameters()]
    target = torch.randn(12, 2)
    sorted_way = (deformation(points, frame[:12], codes, PartWeights(index, weight)).ambient * target).sum()
    loop = sum(
        weight[i, j] * (network(deformation, int(index[i, j]), points[i], codes[frame[i]])[3:] * target[i]).sum()
        for i in range(12)
        for j in range(2)
    )
    for found, expected in zip(torch.autograd.grad(sorted_way, wanted), torch.autograd.grad(loop, wanted), strict=True):
        assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_no_points_give_no_offsets(deformation, inputs):
    _, _, codes = inputs
    none = torch.zeros(0, dtype=torch.long)
    found = deformation(torch.zeros(0, 3), none, codes, PartWeights(none[:, None], torch.zeros(0, 1)))
    assert found.offset.shape == (0, 3)


def test_padded_rows_give_the_same_offsets(deformation, inputs):
    points, frame, codes = inputs
    parts = random_parts(len(points), 2)
    exact = deformation(points, frame, codes, parts)
    with torch.autocast("cpu", torch.bfloat16):
        padded = deformation(points, frame, codes, parts)
    assert_close(padded.offset.float(), exact.offset, atol=0.05 * deformation.config.offset_scale, rtol=0)
    assert_close(padded.ambient.float(), exact.ambient, atol=0.05, rtol=0.05)


def test_only_bfloat16_pads_the_rows_of_a_part():
    part = torch.tensor([3, 0, 3, 1, 3])
    rows = RowsByPart.of(part, NUM_PARTS)
    assert rows.run_lengths == [1, 1, 0, 3] and part[rows.row].tolist() == [0, 1, 3, 3, 3]
    with torch.autocast("cpu", torch.bfloat16):
        padded, tiles = RowsByPart.of(part, NUM_PARTS), RowsByPart.of(part, NUM_PARTS, fixed=True)
    assert padded.run_lengths == [512, 512, 0, 512]
    assert len(tiles.row) == len(RowsByPart.of(part, NUM_PARTS, fixed=True).row)
    for sorted_rows in (rows, padded, tiles):
        assert sorted_rows.row[sorted_rows.position].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("num_parts", [1, 4, 8, 16])
def test_the_global_network_is_about_as_large_as_the_parts(num_parts, num_layers):
    config = PartDeformationConfig(num_layers=num_layers)
    size_code = 53
    parts = PartDeformation(config, torch.zeros(num_parts, 3), torch.ones(num_parts, size_code), SCALE)
    whole = GlobalDeformation(config, num_parts, size_code, SCALE)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert abs(count(whole) / count(parts) - 1) < 0.02
    assert count(whole) <= count(parts), "rounded down"


def test_one_part_has_its_own_width():
    assert equal_width(1, size_in=30, hidden=64, num_layers=2, size_out=7) == 64
    assert equal_width(1, size_in=30, hidden=64, num_layers=1, size_out=7) == 64


@pytest.mark.parametrize("top", [1, 2])
def test_values_on_nodes_are_those_of_every_frame(deformation, inputs, top):
    points, _, codes = inputs
    parts = random_parts(len(points), top)
    on_nodes = deformation.on_nodes(points, codes, parts)
    for i in range(len(codes)):
        expected = deformation(points, torch.full((len(points),), i), codes, parts)
        found = deformation.bounded(on_nodes[i])
        assert_close(found.offset, expected.offset)
        assert_close(found.ambient, expected.ambient)
