"""How far a page's view is from the training views."""

from __future__ import annotations

import math

import pytest
import torch

from partnerface_ns.capture.load import load_capture
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.plugin.training_views import TrainingViews


@pytest.fixture(scope="module")
def views(subject, head):
    capture = load_capture(subject)
    return TrainingViews(capture, ShapedHead.of(head, torch.zeros(head.num_identity)))


def place_at(head, degrees, distance=1.0, upwards=False):
    face = head.template[head.regions["face"] > 0.5].mean(0)
    angle = math.radians(degrees)
    side = torch.tensor([0.0, math.sin(angle), math.cos(angle)] if upwards else [math.sin(angle), 0.0, math.cos(angle)])
    return face + distance * side


@pytest.mark.parametrize("upwards", [False, True])
@pytest.mark.parametrize("degrees", [0, 40, 90, 180])
def test_the_angle_is_that_to_the_nearest_training_camera(views, head, degrees, upwards):
    rest = HeadState.neutral(head.num_expr, (1,))
    angle = views.degrees_from(place_at(head, degrees, upwards=upwards), rest)
    assert angle == pytest.approx(degrees, abs=12), "the capture's head turns a few degrees"


def test_a_head_that_turns_away_is_seen_from_the_side(views, head):
    rest = HeadState.neutral(head.num_expr, (1,))
    turned = HeadState(
        rest.expression, torch.tensor([[0.0, math.pi / 2, 0.0]]), rest.neck, rest.jaw, rest.eyes, rest.translation
    )
    face = head.template[head.regions["face"] > 0.5].mean(0)
    assert views.degrees_from(face + torch.tensor([0.0, 0.0, 3.0]), turned) > 70


def test_the_front_is_straight_before_the_face(views, head):
    rest = HeadState.neutral(head.num_expr, (1,))
    place, face, up = views.front(0.7, rest)
    torch.testing.assert_close(place - face, torch.tensor([0.0, 0.0, 0.7]), atol=1e-4, rtol=0)
    torch.testing.assert_close(up, torch.tensor([0.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    turned = HeadState(
        rest.expression, torch.tensor([[0.0, math.pi / 2, 0.0]]), rest.neck, rest.jaw, rest.eyes, rest.translation
    )
    place, face, _ = views.front(0.7, turned)
    torch.testing.assert_close(place - face, torch.tensor([0.7, 0.0, 0.0]), atol=1e-4, rtol=0)
