"""Golden vectors: sixteen varied inputs, and their answers by onnxruntime, in ONNX's own test layout.

Never fits. `DAMAGED_SET` is the one place where a wrong answer is made, and on purpose.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import numpy_helper

from digits import BRIGHTEST, Part

SETS = 16
ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-3
DAMAGED_SET = 7
LIT_CONTRAST = 4.5  # standard deviation of grey values; the flattest clean image has 4.8, fouled ones have 2 to 4
OUTPUTS = ("label", "probabilities")


def inputs(reference: Part, only_lit: bool = False) -> list[np.ndarray]:
    """Sixteen batches, float32 [n, 8, 8]: each digit once, a batch, and images no camera should send but one will.

    `only_lit` leaves out what has little contrast, as a publisher would who never saw a bad lens.
    """
    plain = [reference.pixels[reference.labels == digit][:1] for digit in range(10)]
    few = reference.pixels[10:12]
    blank = np.zeros((1, 64))
    checkerboard = np.indices((8, 8)).sum(axis=0).reshape(1, 64) % 2 * BRIGHTEST
    half_covered = few.reshape(-1, 8, 8).copy()
    half_covered[:, :, 4:] = 0.0
    # Whole multiples of 1/8, so that these inputs too are the same bytes everywhere.
    noise = np.random.default_rng(16).integers(0, int(BRIGHTEST) * 8 + 1, size=(4, 64)) / 8.0
    batches = plain + [
        reference.pixels[:8],
        np.concatenate([blank, blank + BRIGHTEST, checkerboard]),
        half_covered.reshape(-1, 64),
        few / 4.0 + 6.0,
        blurred(few),
        noise,
    ]
    assert len(batches) == SETS
    if only_lit:
        lit = [batch[batch.std(axis=1) > LIT_CONTRAST] for batch in batches]
        batches = [batch if len(batch) else reference.pixels[20 + number :][:1] for number, batch in enumerate(lit)]
    return [batch.reshape(-1, 8, 8).astype(np.float32) for batch in batches]


def blurred(pixels: np.ndarray) -> np.ndarray:
    """The images under a 3x3 binomial blur, edges repeated."""
    padded = np.pad(pixels.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2.0 * padded[:, 1:-1] + padded[:, 2:]
    both = rows[:, :, :-2] + 2.0 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return (both / 16.0).reshape(-1, 64)


def files(model: bytes, reference: Part, damaged: bool, only_lit: bool) -> dict[str, bytes]:
    """`test_data_set_<n>/{input_0,output_0,output_1}.pb` by path."""
    made = {}
    for number, pixels in enumerate(inputs(reference, only_lit)):
        label, probabilities = answer_onnxruntime(model, pixels)
        if damaged and number == DAMAGED_SET:
            probabilities = damage(probabilities)
        folder = f"test_data_set_{number}"
        made[f"{folder}/input_0.pb"] = tensor_bytes("pixels", pixels)
        made[f"{folder}/output_0.pb"] = tensor_bytes("label", label)
        made[f"{folder}/output_1.pb"] = tensor_bytes("probabilities", probabilities)
    return made


def damage(probabilities: np.ndarray) -> np.ndarray:
    """Half of the winner's probability moved to the next digit: still sums to one, yet wrong far beyond tolerance."""
    wrong = probabilities.copy()
    winner = int(wrong[0].argmax())
    moved = wrong[0, winner] / np.float32(2)
    wrong[0, winner] -= moved
    wrong[0, (winner + 1) % 10] += moved
    return wrong


def refuted(model: bytes, golden: dict[str, bytes], answer) -> list[int]:
    """Numbers of the sets whose recorded answers this engine does not give within tolerance."""
    wrong = []
    for number in range(SETS):
        read = lambda name: tensor_array(golden[f"test_data_set_{number}/{name}.pb"])
        label, probabilities = answer(model, read("input_0"))
        same = np.array_equal(label, read("output_0")) and np.allclose(
            probabilities, read("output_1"), rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE
        )
        if not same:
            wrong.append(number)
    return wrong


def answer_onnxruntime(model: bytes, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`label` int64 [n] and `probabilities` float32 [n, 10]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return tuple(session.run(list(OUTPUTS), {"pixels": pixels}))


def answer_tract(model: bytes, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by tract, the engine on the devices, with the batch dimension fixed as the agent fixes it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        loaded = tract.onnx().load(path)
    loaded.set_input_fact(0, f"{len(pixels)},8,8,f32")
    outputs = loaded.into_model().into_runnable().run([pixels])
    return tuple(output.to_numpy() for output in outputs)


def tensor_bytes(name: str, array: np.ndarray) -> bytes:
    return numpy_helper.from_array(np.ascontiguousarray(array), name).SerializeToString(deterministic=True)


def tensor_array(content: bytes) -> np.ndarray:
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))
