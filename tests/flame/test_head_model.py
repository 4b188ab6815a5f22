"""Reading head models and refusing malformed ones."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.regions import REGION_NAMES


@pytest.fixture
def load_changed(head_arrays, tmp_path):
    """Loads the tiny head with some of its arrays changed, or left out (None)."""

    def load(**changes):
        arrays = {k: v for k, v in (head_arrays | changes).items() if v is not None}
        np.savez(tmp_path / "changed.npz", **arrays)
        return load_head_model(tmp_path / "changed.npz")

    return load


def test_arrays_are_read_as_they_were_written(head_arrays, tiny_head):
    num = len(head_arrays["v_template"])
    single = {k: torch.from_numpy(v).float() for k, v in head_arrays.items() if v.dtype.kind == "f"}
    assert tiny_head.name == "tiny" and tiny_head.num_verts == num
    assert (tiny_head.num_identity, tiny_head.num_expr) == (3, 4)
    assert tiny_head.expression_names == ("smile", "frown", "pout", "blink")
    assert_close(tiny_head.template, single["v_template"])
    assert_close(torch.cat([tiny_head.identity_dirs, tiny_head.expression_dirs], -1), single["shapedirs"])
    assert_close(tiny_head.pose_dirs.T.reshape(num, 3, 36), single["posedirs"])
    assert_close(tiny_head.joint_regressor, single["J_regressor"])
    assert tiny_head.faces.tolist() == head_arrays["f"].tolist()


def test_skinning_weights_are_normalised(head_arrays, load_changed):
    model = load_changed(weights=2 * head_arrays["weights"])
    assert_close(model.skinning_weights, torch.from_numpy(head_arrays["weights"]).float())


def test_a_file_without_optional_keys_is_read(head_arrays, load_changed):
    flame = np.zeros((len(head_arrays["v_template"]), 3, 400))
    model = load_changed(shapedirs=flame, n_id=None, expr_names=None, name=None)
    assert (model.num_identity, model.num_expr, model.name) == (300, 100, "changed")
    assert model.expression_names[7] == "expr_07"


def test_masks_of_the_file_are_used(head_arrays, load_changed):
    mask = np.zeros(len(head_arrays["v_template"]), np.uint8)
    mask[3], mask[4] = 255, 51
    model = load_changed(mask_lips=mask)
    assert_close(model.regions["lips"][:5], torch.tensor([0, 0, 0, 1, 0.2]))
    assert tuple(model.regions) == REGION_NAMES


def test_the_fingerprint_depends_on_template_and_directions(head_arrays, tiny_head, load_changed):
    renamed = load_changed(name=np.array("other"), weights=3 * head_arrays["weights"])
    assert renamed.fingerprint == tiny_head.fingerprint
    for key, place in (("v_template", (0, 0)), ("shapedirs", (0, 0, 0)), ("shapedirs", (0, 0, -1))):
        changed = head_arrays[key].copy()
        changed[place] += 0.01
        assert load_changed(**{key: changed}).fingerprint != tiny_head.fingerprint
    assert len(bytes.fromhex(tiny_head.fingerprint)) == 8


def test_a_model_moves_between_devices(tiny_head):
    moved = tiny_head.to("meta")
    tensors = [getattr(moved, f.name) for f in fields(moved)]
    assert {t.device.type for t in [*tensors, *moved.regions.values()] if isinstance(t, torch.Tensor)} == {"meta"}
    assert moved.name == tiny_head.name


def nan_at(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[0] = np.nan
    return array


BAD = {
    "no template": ({"v_template": lambda a: None}, "v_template", "missing"),
    "no weights": ({"weights": lambda a: None}, "weights", "missing"),
    "flat template": ({"v_template": np.ravel}, "v_template", "wrong shape"),
    "too few weights": ({"weights": lambda a: a[1:]}, "weights", "wrong shape"),
    "four joints": ({"weights": lambda a: a[:, :4]}, "weights", "wrong shape"),
    "weights of zero": ({"weights": np.zeros_like}, "weights", "sum"),
    "NaN": ({"posedirs": nan_at}, "posedirs", "not finite"),
    "too large": ({"posedirs": lambda a: np.full_like(a, 1e300)}, "posedirs", "too large"),
    "text": ({"posedirs": lambda a: a.astype(str)}, "posedirs", "not a number"),
    "in millimetres": ({"v_template": lambda a: 1000 * a}, "v_template", "in metres"),
    "in one point": ({"v_template": np.zeros_like}, "v_template", "in metres"),
    "half a vertex": ({"f": lambda a: a + 0.5}, "f", "invalid vertex indices"),
    "faces too high": ({"f": lambda a: a + 10**6}, "f", "invalid vertex indices"),
    "faces too low": ({"f": lambda a: a - 1}, "f", "invalid vertex indices"),
    "no faces": ({"f": lambda a: a[:0]}, "f", "invalid vertex indices"),
    "other joints": ({"kintree_table": lambda a: a[:, ::-1]}, "kintree_table", "joints"),
    "all identity": ({"n_id": lambda a: np.array(7)}, "n_id", "number of identity directions"),
    "no identity": ({"n_id": lambda a: np.array(0)}, "n_id", "number of identity directions"),
    "many counts": ({"n_id": lambda a: np.array([3, 3])}, "n_id", "wrong shape"),
    "a name too few": ({"expr_names": lambda a: a[1:]}, "expr_names", "one name"),
    "half a count": ({"n_id": lambda a: np.array(3.5)}, "n_id", "number of identity directions"),
    "names in one": ({"expr_names": lambda a: np.array("smile")}, "expr_names", "one name"),
    "names that are numbers": ({"expr_names": lambda a: np.arange(4)}, "expr_names", "not a text"),
    "a name that moves the cursor": ({"name": lambda a: np.array("a\x1b[2J")}, "name", "not a text"),
    "no name": ({"name": lambda a: np.array("")}, "name", "not a text"),
    "nothing but a torso": ({"weights": lambda a: np.eye(5)[np.zeros(len(a), int)]}, "weights", "of the head"),
    "joints anywhere": ({"J_regressor": np.zeros_like}, "J_regressor", "means"),
    "mask beyond 255": ({"mask_lips": lambda a: a * 4.0}, "mask_lips", "wrong values"),
    "mask of another size": ({"mask_lips": lambda a: np.zeros(3, np.uint8)}, "mask_lips", "wrong shape"),
}


@pytest.mark.parametrize(("changes", "key", "problem"), BAD.values(), ids=BAD.keys())
def test_a_malformed_file_is_refused_by_key(head_arrays, load_changed, changes, key, problem):
    with pytest.raises(InputError, match=problem) as error:
        load_changed(**{name: change(head_arrays.get(name)) for name, change in changes.items()})
    assert error.value.key == key and "changed.npz" in str(error.value)


def test_a_broken_npz_is_refused(tmp_path, head_file):
    with pytest.raises(InputError, match="does not exist"):
        load_head_model(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match=r"\.npz or \.pkl file"):
        load_head_model(tmp_path / "flame.obj")
    (tmp_path / "cut.npz").write_bytes(head_file.read_bytes()[:-200])
    (tmp_path / "empty.npz").touch()
    for name, match in (("cut.npz", "cannot be read"), ("empty.npz", "is empty")):
        with pytest.raises(InputError, match=match):
            load_head_model(tmp_path / name)


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("whole", [True, False], ids=["the file is a pickle", "an array holds a pickle"])
def test_a_pickle_is_refused_without_being_loaded(head_arrays, tmp_path, whole):
    path = tmp_path / "hostile.npz"
    if whole:
        path.write_bytes(pickle.dumps(Hostile()))
    else:
        np.savez(path, **head_arrays | {"f": np.array([Hostile()], dtype=object)})
    with pytest.raises(InputError, match="cannot be read"):
        load_head_model(path)
