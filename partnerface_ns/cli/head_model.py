"""`partnerface head-model`: check a head model file, describe it, and write a plain copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np

    from partnerface_ns.flame.head_model import HeadModel

_LICENCES = {
    "FLAME 2020": "FLAME's non-commercial licence: registration, no redistribution (flame.is.tue.mpg.de)",
    "FLAME 2023": "FLAME's non-commercial licence: registration, no redistribution (flame.is.tue.mpg.de)",
    "FLAME 2023 Open": "CC-BY-4.0: name its authors (flame.is.tue.mpg.de)",
}


@dataclass
class ShowHeadModel:
    """Check and describe a head model file.

    Reads FLAME 2020, 2023 and 2023 Open as published (.pkl) and this project's .npz. Code in a pickle is never
    executed. With --output the command writes a plain .npz that loads faster.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """FLAME's .pkl, an .npz, or `open-head` for the built-in one."""
    output: Path | None = None
    """Plain .npz file to write."""

    def __call__(self) -> None:
        from partnerface_ns.capture.head_models import load_named_head_model
        from partnerface_ns.common.files import require_writable_file

        if self.output is not None:
            require_writable_file(self.output)
        model = load_named_head_model(self.file)
        print("\n".join(_description(model)))
        if self.output is not None:
            _write(self.output, model)
            print(f"written     {self.output}; use it with --head-model {self.output}")


def _licence(name: str) -> str:
    if name.startswith("open-head"):
        return "CC0: free for any use"
    return _LICENCES.get(name, "unknown: ask the source of the file")


def _description(model: HeadModel) -> list[str]:
    sizes = {name: int((mask > 0.5).sum()) for name, mask in model.regions.items()}
    return [
        f"head model  {model.name}",
        f"fingerprint {model.fingerprint}",
        f"vertices    {model.num_verts}, {model.faces.shape[0]} triangles",
        f"directions  {model.num_identity} identity, {model.num_expr} expression",
        f"regions     {', '.join(f'{name} {count}' for name, count in sizes.items())} vertices",
        f"licence     {_licence(model.name)}",
    ]


def _write(path: Path, model: HeadModel) -> None:
    import numpy as np

    from partnerface_ns.common.errors import InputError
    from partnerface_ns.common.npz_file import write_npz
    from partnerface_ns.flame.joints import JOINT_PARENTS

    if path.suffix != ".npz":
        raise InputError(path, "cannot be written", expected="a name that ends in .npz", actual=path.suffix)
    directions = np.concatenate([model.identity_dirs.numpy(), model.expression_dirs.numpy()], -1)
    arrays: dict[str, np.ndarray] = {
        "v_template": model.template.numpy(),
        "f": model.faces.numpy().astype(np.int32),
        "shapedirs": directions,
        "posedirs": model.pose_dirs.numpy().T.reshape(model.num_verts, 3, -1),
        "J_regressor": model.joint_regressor.numpy(),
        "kintree_table": np.stack([np.array(JOINT_PARENTS), np.arange(len(JOINT_PARENTS))]),
        "weights": model.skinning_weights.numpy(),
        "n_id": np.array(model.num_identity),
        "expr_names": np.array(model.expression_names),
        "name": np.array(model.name),
    }
    masks = {f"mask_{key}": np.rint(mask.numpy() * 255).astype(np.uint8) for key, mask in model.regions.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, arrays | masks)
