"""Names of deformation parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.warp.part_assigner import seed_parts
from partnerface_ns.warp.part_names import name_parts


@pytest.fixture(scope="module")
def model():
    return load_open_head()


@pytest.mark.parametrize("num", [1, 8, 16, 40])
def test_every_part_has_a_name_of_its_own(model, num):
    names = name_parts(model, model.template, seed_parts(model, model.template, num))
    assert len(names) == len(set(names)) == num
    assert num == 1 or names[0].startswith("mouth"), "the first part is the mouth's"


def test_names_say_where_a_part_is(model):
    at = lambda name, side=0: (  # noqa: E731
        (where := model.regions[name] > 0.5) & ((side * model.template[:, 0] > 0) if side else torch.ones_like(where))
    )
    centres = [model.template[at("eyelids", side)].mean(0) for side in (1, -1)]
    centres += [model.template[at("lips")].mean(0), model.template[model.template[:, 1].argmax()]]
    assert name_parts(model, model.template, torch.stack(centres)) == ["left eye", "right eye", "mouth", "crown"]
    assert name_parts(model, model.template, torch.stack(centres[:1] * 2)) == ["left eye 1", "left eye 2"]


def test_a_head_without_such_regions_has_numbers(model):
    nowhere = model.regions | {"lips": torch.zeros_like(model.regions["lips"])}
    assert name_parts(replace(model, regions=nowhere), model.template, model.template[:2]) == ["part 1", "part 2"]
