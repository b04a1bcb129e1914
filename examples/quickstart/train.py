"""Makes everything that the quickstart plays with: `python train.py` writes it, `python train.py --check` compares.

Decides which versions exist and what each is for; the work is in the modules beside it.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

# Before numpy loads: one thread is faster for matrices this small, and steadier.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

import bundle
import digits
import golden
import model
from bundle import Reading, Version
from digits import Parts

HERE = Path(__file__).resolve().parent
CAMERAS = 8
LOWEST_ACCURACY = 0.96

VERSIONS = (
    Version("1.0.0", seed=100, story="The version that serves in the quickstart."),
    Version(
        "1.0.1",
        seed=101,
        parent="1.0.0",
        story="A sound retraining with another seed. The quickstart flips one byte of its blob on the server's disk.",
    ),
    Version(
        "1.0.2",
        seed=102,
        parent="1.0.0",
        damaged_golden=True,
        story=(
            f"A sound model with one wrong golden vector, on purpose: test_data_set_{golden.DAMAGED_SET}, "
            "output_1. Every device must refuse it."
        ),
    ),
)
SERVED = ("1.0.0",)


def artefacts(parts: Parts) -> dict[str, bytes]:
    """Every generated file by its path below this folder."""
    made = {"data/played.csv": parts.played.csv()}
    expected = {}
    for version in VERSIONS:
        folder, reading = version_files(version, parts)
        made |= {f"models/meter-digits/{version.version}/{path}": content for path, content in folder.items()}
        print(f"{version.version}: {reading.accuracy:.2%} of {len(parts.played)}, {sum(map(len, folder.values()))} bytes")
        if version.version in SERVED:
            expected[version.version] = expectation(reading)
    made["data/expected.json"] = (
        json.dumps(
            {"model": bundle.MODEL, "data": "played.csv", "data_sha256": parts.played.sha256(), "versions": expected},
            indent=1,
        )
        + "\n"
    ).encode()
    return made


def version_files(version: Version, parts: Parts) -> tuple[dict[str, bytes], Reading]:
    """One version's folder, after both engines confirmed every golden vector but the damaged one."""
    weights = model.fit(parts.train, version.seed)
    weights.refuse_inexact(parts.played.pixels)
    onnx_bytes = model.to_onnx(weights, version.version)
    vectors = golden.files(onnx_bytes, parts.reference, version.damaged_golden)
    wanted = [golden.DAMAGED_SET] if version.damaged_golden else []
    for engine in (golden.answer_onnxruntime, golden.answer_tract):
        refuted = golden.refuted(onnx_bytes, vectors, engine)
        if refuted != wanted:
            sys.exit(f"{version.version}: {engine.__name__} refutes golden sets {refuted}, expected {wanted}")

    reading = bundle.read(onnx_bytes, parts.played)
    if reading.accuracy < LOWEST_ACCURACY:
        sys.exit(f"{version.version}: accuracy {reading.accuracy:.4f} is below {LOWEST_ACCURACY}")
    by_tract, _ = golden.answer_tract(onnx_bytes, parts.played.pixels.astype(np.float32))
    if not np.array_equal(by_tract, reading.answers):
        sys.exit(f"{version.version}: tract and onnxruntime name different digits")

    folder = {
        "model.onnx": onnx_bytes,
        "tern.toml": bundle.tern_toml(version, parts, reading, code_revision()),
        "card.md": bundle.card(version, parts, reading),
        **vectors,
    }
    return folder, reading


def expectation(reading: Reading) -> dict:
    """What every device must find on the played part: camera k plays rows k*80 to k*80+79."""
    eighths = []
    for camera, rows in enumerate(np.split(np.arange(len(reading.labels)), CAMERAS)):
        correct = int(reading.correct[rows].sum())
        eighths.append(
            {
                "camera": camera,
                "first_row": int(rows[0]),
                "rows": len(rows),
                "correct": correct,
                "accuracy": round(correct / len(rows), 4),
            }
        )
    misread = [
        {"row": int(row), "label": int(reading.labels[row]), "answer": int(reading.answers[row])}
        for row in np.flatnonzero(~reading.correct)
    ]
    return {
        "rows": len(reading.labels),
        "correct": int(reading.correct.sum()),
        "accuracy": round(reading.accuracy, 4),
        "smallest_margin": round(reading.smallest_margin, 4),
        "eighths": eighths,
        "misread": misread,
    }


def code_revision() -> str:
    """Digest of the sources that decide the models; a commit id cannot stand in the commit that it names."""
    digest = hashlib.sha256()
    for path in [*sorted(HERE.glob("*.py")), HERE / "requirements.txt"]:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def write(made: dict[str, bytes]) -> None:
    """Writes every file; deletes nothing, `--check` names what is left over."""
    for path, content in made.items():
        target = HERE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def differences(made: dict[str, bytes]) -> list[str]:
    """One line for each committed file that is missing, left over, or not what was just made."""
    found = [f"left over: {path}" for path in sorted(generated_on_disk() - set(made))]
    for path, content in sorted(made.items()):
        target = HERE / path
        if not target.is_file():
            found.append(f"missing: {path}")
        elif not same(path, target.read_bytes(), content):
            found.append(f"differs: {path}")
    return found


def same(path: str, committed: bytes, fresh: bytes) -> bool:
    """Equal bytes; golden probabilities may differ by rounding, since engines choose their `exp` by CPU."""
    if committed == fresh or not path.endswith("/output_1.pb"):
        return committed == fresh
    one, other = golden.tensor_array(committed), golden.tensor_array(fresh)
    return one.shape == other.shape and one.dtype == other.dtype and np.allclose(one, other, rtol=0.0, atol=1e-6)


def generated_on_disk() -> set[str]:
    folders = (HERE / "models", HERE / "data")
    paths = {str(path.relative_to(HERE)) for folder in folders for path in folder.rglob("*") if path.is_file()}
    return paths - {"data/SOURCE.md"}


def main() -> int:
    arguments = argparse.ArgumentParser(description="Trains the quickstart's models and cuts its data.")
    arguments.add_argument("--check", action="store_true", help="write nothing; exit 1 if a committed file differs")
    check = arguments.parse_args().check

    made = artefacts(digits.load())
    if not check:
        write(made)
        print(f"wrote {len(made)} files, {sum(map(len, made.values()))} bytes")
        return 0
    found = differences(made)
    print("\n".join(found) if found else f"{len(made)} files are what this script makes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
