"""Split the face mesh network in two, around the operations that LiteRT does not support.

`face_landmark_with_attention.tflite` refines lips and eyes: it converts landmarks into affine maps and samples its own
features through them. These operations exist only in mediapipe's build of TensorFlow Lite;
`partnerface_ns/tracking/video/networks/attention.py` implements them in numpy. This script writes the parts before and
after them as two models with unchanged weights. It needs the `track` extra and the original model, which the wheel of
mediapipe 0.10.9 holds in `mediapipe/modules/face_landmark`:

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
"""Names of the input and output tensors of each part."""


def main() -> None:
    original = Path(sys.argv[1]).read_bytes()
    for path, (inputs, outputs) in PARTS.items():
        path.write_bytes(extract_part(original, inputs, outputs))
        print(f"{path}: {path.stat().st_size} bytes")


def extract_part(original: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """Extract the part of a model between given tensors.

    Args:
        original: a flatbuffer with one graph.
        inputs: names of the part's input tensors.
        outputs: names of the part's output tensors, in order.
    """
    model = ModelT.InitFromObj(Model.GetRootAs(original, 0))
    (graph,) = model.subgraphs
    index = {tensor.name.decode(): i for i, tensor in enumerate(graph.tensors)}
    graph.inputs, graph.outputs = [index[name] for name in inputs], [index[name] for name in outputs]
    graph.operators = operators_between(graph)
    drop_unused(model)
    # The metadata describes the tensors of the whole model.
    model.metadata = None
    builder = flatbuffers.Builder(len(original))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operators_between(graph: SubGraphT) -> list[OperatorT]:
    """The operators that compute the outputs from the inputs, in order."""
    needed, known = set(graph.outputs), set(graph.inputs)
    kept = []
    for operator in reversed(graph.operators):
        outputs = set(operator.outputs.tolist())
        if outputs & needed and not outputs & known:
            kept.append(operator)
            needed |= set(operator.inputs.tolist())
    return kept[::-1]


def drop_unused(model: ModelT) -> None:
    """Remove unused tensors, buffers and operator codes, and renumber all references."""
    (graph,) = model.subgraphs
    links = [*graph.inputs, *graph.outputs]
    for operator in graph.operators:
        links += [*operator.inputs.tolist(), *operator.outputs.tolist()]
    tensors = sorted({i for i in links if i >= 0})
    new_index = {old: new for new, old in enumerate(tensors)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in tensors]
    graph.inputs, graph.outputs = [new_index[i] for i in graph.inputs], [new_index[i] for i in graph.outputs]
    for operator in graph.operators:
        operator.inputs = np.array([new_index[i] for i in operator.inputs], dtype=np.int32)
        operator.outputs = np.array([new_index[i] for i in operator.outputs], dtype=np.int32)

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
