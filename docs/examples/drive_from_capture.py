"""Drive an avatar by another person's capture: python drive_from_capture.py RUN CAPTURE driven.mp4."""

import sys
from pathlib import Path

import partnerface_ns
from partnerface_ns.driving.load import load_motion
from partnerface_ns.driving.output import write_plan
from partnerface_ns.driving.plan import PlanConfig, make_plan

player = partnerface_ns.load(sys.argv[1], fast=True)
motion = load_motion(Path(sys.argv[2]), player.person.model)
plan = make_plan(player, motion, PlanConfig(transfer="relative", camera="fixed", size=128, max_frames=100))
write_plan(Path(sys.argv[3]), player, plan)
print(f"{len(plan)} frames at {plan.fps:g} per second in {sys.argv[3]}")
