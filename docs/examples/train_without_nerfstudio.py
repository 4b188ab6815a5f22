"""Train an avatar in plain PyTorch: python train_without_nerfstudio.py CAPTURE avatar.pt [MINUTES]."""

import sys
from pathlib import Path

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.file_format import AvatarInfo, save_avatar
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.training.loop import FitConfig, fit
from partnerface_ns.training.presets import lite
from partnerface_ns.training.rays import TrainingImages
from partnerface_ns.training.region_boxes import region_boxes

folder, output = Path(sys.argv[1]), Path(sys.argv[2])
capture, model = load_with_head_model(folder)
preset = lite()
avatar = Avatar(preset.avatar, AvatarInit.of(capture, model))

frames = capture.frames_of("train")
images = [load_image(frame, capture.background or (1.0, 1.0, 1.0)) for frame in frames]
head = ShapedHead.of(model, capture.identity, capture.static_offset)
boxes = region_boxes(head, capture.track, frames)
training_set = TrainingImages([rgb for rgb, _ in images], [mask for _, mask in images], frames, boxes)

config = FitConfig(sampler=preset.sampler)
config.schedule.max_minutes = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
steps = fit(avatar, training_set, capture.track, config)
save_avatar(output, avatar, AvatarInfo.of(capture, model, capture.head_model.path or "open-head"))
print(f"{steps} steps, avatar in {output}")
