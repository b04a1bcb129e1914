"""The zoo as a gate: makes both zoos under a folder, has the engine answer them, and holds the outcome against what is known.

    python3 tests/zoo/run.py FOLDER TERN [ARGUMENT ...]

FOLDER keeps a Python environment, the models of `make.py` (own/) and those of `wheels.py` (real/) for the next time; they are made
anew when a file of this folder changes. TERN with its arguments is `tern`. Needs nothing but Python itself and the package index.

The exit code is 1 unless every case passes but those of `REFUSED` and `FAR`, those of `FAR` lie off no farther than it says, and none
of them passes after all. So a model that the engine of before answered and this one does not is never lost in the crowd.
"""
import collections
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent

# Models of which no case runs, and why.
REFUSED = {
    "imputer_knn": "a function of the file is of another opset than the model",
    "two_labels_logreg_each": "an output is a sequence",
}

# Models that answer otherwise than onnxruntime: how far the farthest value of a case may lie off, and why.
QDQ = "onnxruntime's optimiser computes in whole numbers what the file says in floats; see docs/engine.md"
FAR = {
    "front_whisper": (0.002, "logarithms of nearly nothing, from transforms that onnxruntime computes in 32 bits, the engine in 64"),
    "net_attention_qdq": (0.03, QDQ),
    "net_attention_qdq_each": (0.03, QDQ),
    "net_cnn_qdq": (0.004, QDQ),
    "net_cnn_qdq_each": (0.004, QDQ),
    "net_mlp_qdq": (0.004, QDQ),
    "net_mlp_qdq_each": (0.004, QDQ),
    "net_mobile_qdq_each": (0.004, QDQ),
    "net_residual_qdq": (0.0009, QDQ),
    "net_residual_qdq_each": (0.0009, QDQ),
    "turn": (0.004, QDQ),
}


def stamp():
    digest = hashlib.sha256()
    for file in sorted([*HERE.glob("*.py"), HERE / "requirements.txt"]):
        if file.name != "run.py":
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def made(folder):
    """Both zoos, made if they are not there as these scripts make them."""
    mark = folder / "stamp"
    if mark.exists() and mark.read_text() == stamp():
        return
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt"], check=True)
    for script, out in (("make.py", "own"), ("wheels.py", "real")):
        done = subprocess.run([python, HERE / script, folder / out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        print(f"{script}: {done.stdout.strip().splitlines()[-1]}", flush=True)
        if done.returncode:
            print(done.stdout)
            raise SystemExit(f"{script} failed")
    mark.write_text(stamp())


def answered(folder, tern):
    """The outcomes of each model's cases, by model."""
    done = subprocess.run([*tern, "model", "test", folder / "own", folder / "real", "--json", "--time-limit", "120s"],
                          stdout=subprocess.PIPE, text=True)
    outcomes = collections.defaultdict(list)
    for line in map(json.loads, done.stdout.splitlines()):
        if "model" in line:
            outcomes[pathlib.Path(line["model"]).name].append(line)
    if not outcomes:
        raise SystemExit(f"`tern model test` told nothing, and ended with {done.returncode}")
    return outcomes


def complaint(name, cases):
    """What is wrong with the outcomes of a model's cases; nothing where they are what is known."""
    bad = [case for case in cases if case["outcome"] != "pass"]
    if not bad:
        return f"{name}: passes, and stands among those that do not" if name in REFUSED or name in FAR else None
    if name in REFUSED and all(case["outcome"] in ("unsupported", "error") for case in bad):
        return None
    limit, _ = FAR.get(name, (0, None))
    beyond = [case for case in bad if case["outcome"] != "wrong" or case["labels"] or not case["absolute"] <= limit]
    if not beyond:
        return None
    worst = beyond[0]
    detail = worst.get("first") or worst.get("message") or ", ".join(worst.get("lacks", []))
    return f"{name}: {worst['case']} is {worst['outcome']}: {detail}"


def main(folder, *tern):
    folder = pathlib.Path(folder)
    made(folder)
    outcomes = answered(folder, tern)
    told = [complaint(name, cases) for name, cases in sorted(outcomes.items())]
    told += [f"{name}: stands among those that do not pass, and is no model" for name in (*REFUSED, *FAR) if name not in outcomes]
    wrong = [line for line in told if line]
    passed = sum(all(case["outcome"] == "pass" for case in cases) for cases in outcomes.values())
    print(f"{passed} of {len(outcomes)} models pass; {len(REFUSED)} are known not to run, {len(FAR)} to lie off")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
