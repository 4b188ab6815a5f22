"""The whole person as one triangle mesh (skin, eyes, teeth, hair, glasses, shirt), and its rendered image.

`DemoScene.create` runs once for a person, `DemoScene.image` once for each frame. Arrays are numpy, metres, world frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import csr_matrix

from partnerface_ns.demo import materials, props, shading
from partnerface_ns.demo.appearance import Appearance, paint_skin
from partnerface_ns.demo.eyes_and_mouth import TeethRow, fibre_ring
from partnerface_ns.demo.face_map import Anchors, smoothstep
from partnerface_ns.demo.materials import Material
from partnerface_ns.demo.posed_person import PosedPerson, move
from partnerface_ns.demo.props import Mesh
from partnerface_ns.demo.shading import Surface, normalize
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.open_head import OPEN_HEAD_PARTS, open_head_parts
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rasterizer import Visible, project, rasterize

SKIN, TEETH_UPPER, TEETH_LOWER, TONGUE, EYE_LEFT, EYE_RIGHT = range(len(OPEN_HEAD_PARTS))
FRAME, HAIR, SHIRT = range(len(OPEN_HEAD_PARTS), len(OPEN_HEAD_PARTS) + 3)
"""Parts of the person: those of the open head, then glasses, hair and shirt."""

_SAMPLES = 2
"""Samples per pixel along each side."""
_UNDER_SHIRT = 0.87
"""Skin with a larger root weight is always hidden by the shirt and left out."""
_LENS_CLEARNESS = 0.93


@dataclass(frozen=True)
class DemoScene:
    """A person with all meshes and materials."""

    worn: tuple[Mesh, Mesh, Mesh]
    """Frame, hair and shirt in the person's rest frame."""
    lenses: Mesh
    faces: Int[np.ndarray, "faces 3"]
    """Opaque triangles over the vertices of head, frame, hair and shirt, in this order."""
    parts: Int[np.ndarray, "faces"]
    casts: Bool[np.ndarray, "faces"]
    """Whether a triangle casts a shadow."""
    occlusion: Float[np.ndarray, "verts"]
    """Share of the sky visible from each vertex."""
    materials: tuple[Material, ...]
    """One for each part."""

    @staticmethod
    def create(head: ShapedHead, look: Appearance, rng: np.random.Generator) -> DemoScene:
        """Create meshes and materials for a person on the open head."""
        anchors = Anchors.measure(head.model, head.verts_rest.numpy())
        style = props.HAIR_STYLES[look.hair_style % len(props.HAIR_STYLES)]
        root_weights = head.model.skinning_weights[:, Joint.ROOT].numpy()
        frame, lenses = props.glasses(anchors, look.lens_roundness)
        hair = props.hair(head.model, head.verts_rest.numpy(), anchors, style, rng)
        shirt = props.shirt(head.verts_rest.numpy(), root_weights, rng)
        worn = (frame, hair, shirt)
        faces, parts = _triangles(head, worn)
        open_mouth = _open_jaw(head)
        still = np.concatenate([open_mouth, *(mesh.verts for mesh in worn)])
        return DemoScene(
            worn=worn,
            lenses=lenses,
            faces=faces,
            parts=parts,
            casts=np.isin(parts, (SKIN, FRAME, HAIR, SHIRT)),
            occlusion=shading.ambient_occlusion(still, _normals(still, faces), faces),
            materials=_materials(head, look, worn, style, rng),
        )

    def image(
        self, pose: PosedPerson, camera: Camera
    ) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """Colours over white, and the share of each pixel that the person covers, 0 to 255."""
        width, height = camera.width * _SAMPLES, camera.height * _SAMPLES
        fine = camera.resize(width, height).intrinsics
        viewpoint = camera.T_world_camera[:3, 3].astype(np.float32)

        def render(verts: np.ndarray, faces: np.ndarray) -> Visible:
            return rasterize(*project(verts, fine, camera.T_world_camera), faces, width, height)

        verts = self._place(pose)
        seen = render(verts, self.faces)
        linear = self._colour(seen, verts, pose, viewpoint)
        glass = move(pose.T_world_skull @ pose.T_skull_glasses, self.lenses.verts).astype(np.float32)
        self._add_lenses(linear, seen, render(glass, self.lenses.faces), glass, viewpoint)

        colours = np.full((height * width, 3), 255, dtype=np.uint8)
        colours[seen.samples] = shading.to_srgb(linear)
        covered = np.zeros(height * width, dtype=np.uint8)
        covered[seen.samples] = 255
        return _average(colours.reshape(height, width, 3)), _average(covered.reshape(height, width))

    def _place(self, pose: PosedPerson) -> np.ndarray:
        """World vertices of all opaque meshes."""
        T_world_glasses = pose.T_world_skull @ pose.T_skull_glasses
        transforms = (T_world_glasses, pose.T_world_skull, pose.T_world_torso)
        worn = (move(T, mesh.verts) for T, mesh in zip(transforms, self.worn, strict=True))
        return np.concatenate([pose.skin, *worn]).astype(np.float32)

    def _colour(self, seen: Visible, verts: np.ndarray, pose: PosedPerson, viewpoint: np.ndarray) -> np.ndarray:
        """Linear colours of all covered samples."""
        normals = _normals(verts, self.faces)
        attributes = seen.interpolate(np.concatenate([verts, normals, self.occlusion[:, None]], -1))
        points, normals = attributes[:, :3], normalize(attributes[:, 3:6])
        shadows = shading.Shadows.cast(verts, self.faces[self.casts])
        surface = Surface(
            normals, normalize(viewpoint - points), attributes[:, 6], shadows.lit(points + 0.002 * normals)
        )
        part, colour = self.parts[seen.triangles], np.empty((len(points), 3), dtype=np.float32)
        for number, material in enumerate(self.materials):
            index = np.flatnonzero(part == number)
            colour[index] = material.shade(seen[index], surface[index], pose)
        return colour

    def _add_lenses(
        self, linear: np.ndarray, seen: Visible, lens: Visible, glass: np.ndarray, viewpoint: np.ndarray
    ) -> None:
        """Darken the samples behind the lenses and add the reflection of the lenses, in place."""
        behind = np.searchsorted(seen.samples, lens.samples).clip(max=len(seen.samples) - 1)
        front = np.flatnonzero((seen.samples[behind] == lens.samples) & (lens.nearness > seen.nearness[behind]))
        lens, behind = lens[front], behind[front]
        normals = normalize(lens.interpolate(_normals(glass, self.lenses.faces)))
        view = normalize(viewpoint - lens.interpolate(glass))
        linear[behind] = _LENS_CLEARNESS * linear[behind] + shading.lens_glint(normals, view)[:, None]


def _triangles(head: ShapedHead, worn: Sequence[Mesh]) -> tuple[np.ndarray, np.ndarray]:
    """All opaque triangles and the part of each."""
    faces = head.model.faces.numpy()
    root_weights = head.model.skinning_weights[:, Joint.ROOT].numpy()
    faces = faces[(root_weights[faces] < _UNDER_SHIRT).any(-1)]
    pieces, start = [(faces, open_head_parts().astype(np.int64)[faces[:, 0]])], head.model.num_verts
    for mesh, part in zip(worn, (FRAME, HAIR, SHIRT), strict=True):
        pieces.append((mesh.faces + start, np.full(len(mesh.faces), part)))
        start += len(mesh.verts)
    all_faces, parts = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    return all_faces, parts


def _materials(
    head: ShapedHead, look: Appearance, worn: Sequence[Mesh], style: props.HairStyle, rng: np.random.Generator
) -> tuple[Material, ...]:
    """The material of each part, in the order of the parts."""
    template, parts = head.model.template.numpy(), open_head_parts()
    anchors = Anchors.measure(head.model, template)
    rest = np.concatenate([template, *(mesh.verts for mesh in worn)])
    uv = np.concatenate([np.zeros((len(template), 2), np.float32), *(mesh.uv for mesh in worn)])
    masks = np.zeros((len(rest), 3), np.float32)
    masks[: len(template)] = _skin_masks(head, anchors)
    lips_z, fibres = float(anchors.mouth[2]), fibre_ring(rng)
    eye = lambda side: materials.Eye(rest, side, anchors.eyes[side].astype(np.float32), look.iris, fibres)  # noqa: E731
    teeth = lambda part, up: materials.Teeth(rest, TeethRow.measure(template[parts == part], up), lips_z)  # noqa: E731
    streaks = props.lock_noise(rng, (256, 512), style.sweep, (18.0, 0.7)).astype(np.float32)
    return (
        materials.Skin(rest, masks, paint_skin(anchors, look, rng), look.skin, anchors.axis_z, lips_z),
        teeth(TEETH_UPPER, 1.0),
        teeth(TEETH_LOWER, -1.0),
        materials.Tongue(rest, lips_z),
        eye(0),
        eye(1),
        materials.Plastic(look.frame),
        materials.Hair(uv, streaks, look.hair),
        materials.StripedCloth(rest, uv, look.shirt),
    )


def _skin_masks(head: ShapedHead, anchors: Anchors) -> np.ndarray:
    """Masks of lips, inside of the mouth and rims of the eyelids, smoothed over neighbouring vertices."""
    faces, template = head.model.faces.numpy(), head.model.template.numpy()
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    neighbours = csr_matrix((np.ones(len(pairs), dtype=np.float32), pairs.T), shape=(len(template),) * 2)
    neighbours = neighbours + neighbours.T
    count = np.asarray(neighbours.sum(1)).ravel()
    given = (head.model.regions[name].numpy() for name in ("lips", "inside_mouth"))
    masks = [0.5 * mask + 0.5 * (neighbours @ mask) / count for mask in given]

    side = (template[:, 0] < 0).astype(np.int64)
    over_eyeball = np.linalg.norm(template - anchors.eyes[side], axis=-1) - anchors.eye_radius
    upper = smoothstep(-0.003, 0.001, template[:, 1] - anchors.eyes[0, 1])
    masks.append(smoothstep(0.0034, 0.0017, over_eyeball) * (0.3 + 0.7 * upper) * (open_head_parts() == SKIN))
    return np.stack(masks, -1).astype(np.float32)


def _open_jaw(head: ShapedHead) -> np.ndarray:
    """Vertices in the rest pose with a slightly open jaw, so that light enters the mouth."""
    neutral = HeadState.neutral(head.model.num_expr)
    return head.pose(replace(neutral, jaw=torch.tensor([0.22, 0.0, 0.0]))).verts.numpy()


def _normals(verts: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]) -> Float[np.ndarray, "verts 3"]:
    """Unit normals of vertices, float32."""
    return vertex_normals(torch.from_numpy(verts), torch.from_numpy(faces)).numpy().astype(np.float32)


def _average(fine: np.ndarray) -> np.ndarray:
    """Rounded mean of each pixel's samples."""
    num = _SAMPLES**2
    total = np.zeros_like(fine[::_SAMPLES, ::_SAMPLES], dtype=np.uint16)
    for i in range(num):
        total += fine[i // _SAMPLES :: _SAMPLES, i % _SAMPLES :: _SAMPLES]
    return ((total + num // 2) // num).astype(np.uint8)
