"""Cuts the face mesh network in two, around the operations that LiteRT does not know.

`face_landmark_with_attention.tflite` looks at the face three times more, at its lips and eyes: it turns landmarks into
affine maps and samples its own features through them. These operations exist in mediapipe's build of TensorFlow Lite
alone; `partnerface_ns/tracking/video/networks/attention.py` does the same in numpy. This script writes the parts before
and after them as models of their own, weights untouched. It needs the `track` extra and the original model, which is in
the wheel of mediapipe 0.10.9 under `mediapipe/modules/face_landmark`:

    python scripts/split_face_mesh.py face_landmark_with_attention.tflite
"""

from __future__ import annotations

import sys
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert.schema_py_generated import Model, ModelT, OperatorT, SubGraphT

from partnerface_ns.tracking.video.networks import face_mesh

PARTS = {
    face_mesh.FACE_MODEL: (["input_1"], ["p_re_lu_3", "output_mesh", "conv_faceflag"]),
    face_mesh.REGIONS_MODEL: (
        ["transform_tensor_bilinear_v2", "transform_tensor_bilinear_v2_1", "transform_tensor_bilinear_v2_2"],
        ["conv_lips", "conv_left_eye", "conv_right_eye", "conv_left_iris", "conv_right_iris"],
    ),
}
"""Names of the tensors that go into and come out of each part."""


def main() -> None:
    original = Path(sys.argv[1]).read_bytes()
    for path, (inputs, outputs) in PARTS.items():
        path.write_bytes(part_of(original, inputs, outputs))
        print(f"{path}: {path.stat().st_size} bytes")


def part_of(original: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """The model that computes some tensors of another one from others.

    Args:
        original: a flatbuffer with one graph.
        inputs: names of the tensors that are given.
        outputs: names of the tensors that are wanted, in this order.
    """
    model = ModelT.InitFromObj(Model.GetRootAs(original, 0))
    (graph,) = model.subgraphs
    index = {tensor.name.decode(): i for i, tensor in enumerate(graph.tensors)}
    graph.inputs, graph.outputs = [index[name] for name in inputs], [index[name] for name in outputs]
    graph.operators = operators_between(graph)
    drop_unused(model)
    # It describes the tensors of the whole.
    model.metadata = None
    builder = flatbuffers.Builder(len(original))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operators_between(graph: SubGraphT) -> list[OperatorT]:
    """The operators that the outputs need, if the inputs are known, in their order."""
    needed, known = set(graph.outputs), set(graph.inputs)
    kept = []
    for operator in reversed(graph.operators):
        made = set(operator.outputs.tolist())
        if made & needed and not made & known:
            kept.append(operator)
            needed |= set(operator.inputs.tolist())
    return kept[::-1]


def drop_unused(model: ModelT) -> None:
    """Leave tensors, buffers and operator codes that are used, and renumber what refers to them."""
    (graph,) = model.subgraphs
    links = [*graph.inputs, *graph.outputs]
    for operator in graph.operators:
        links += [*operator.inputs.tolist(), *operator.outputs.tolist()]
    tensors = sorted({i for i in links if i >= 0})
    place = {old: new for new, old in enumerate(tensors)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in tensors]
    graph.inputs, graph.outputs = [place[i] for i in graph.inputs], [place[i] for i in graph.outputs]
    for operator in graph.operators:
        operator.inputs = np.array([place[i] for i in operator.inputs], dtype=np.int32)
        operator.outputs = np.array([place[i] for i in operator.outputs], dtype=np.int32)

    # The first buffer of a model is empty by convention.
    buffers = sorted({0, *(tensor.buffer for tensor in graph.tensors)})
    model.buffers = [model.buffers[i] for i in buffers]
    for tensor in graph.tensors:
        tensor.buffer = buffers.index(tensor.buffer)

    codes = sorted({operator.opcodeIndex for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[i] for i in codes]
    for operator in graph.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)


if __name__ == "__main__":
    main()
