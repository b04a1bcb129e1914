"""A table by family of what the bench `onnxruntime` printed, and each model's line as CSV.

    python3 tests/zoo/speed.py FIGURES ZOO... [--csv FILE]

FIGURES is the bench's output, ZOO the folders that its TERN_ZOO named. Needs the package onnx.
"""
import argparse
import collections
import csv
import pathlib
import statistics

import onnx

# The first family of which a model has an operator is its own; the rest are linear models and pipelines.
FAMILIES = {
    "nets of whole numbers": ("QuantizeLinear", "DynamicQuantize", "ConvInteger", "MatMulInteger", "QLinear", "QGemm"),
    "trees": ("TreeEnsemble",),
    "texts": ("Tokenizer", "TfIdfVectorizer", "StringNormalizer"),
    "support vectors": ("SVM",),
    "convolutional nets": ("Conv",),
    "recurrent nets": ("LSTM", "GRU", "RNN"),
    "neighbours": ("CDist", "TopK"),
}
REST = "linear models, pipelines, other nets"


def operators(graph):
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from operators(inner)


def family(file):
    model = onnx.load(file, load_external_data=False)
    found = set(operators(model.graph)) | {node.op_type for function in model.functions for node in function.node}
    # AdaBoost, isolation forests and bagging are a graph of one forest for each member.
    if len([name for name in operators(model.graph) if name.startswith("TreeEnsemble")]) > 1:
        return "ensembles of trees by many operators"
    for name, starts in FAMILIES.items():
        if any(operator.startswith(starts) for operator in found):
            return name
    return REST


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=pathlib.Path)
    parser.add_argument("zoo", type=pathlib.Path, nargs="+")
    parser.add_argument("--csv", type=pathlib.Path)
    arguments = parser.parse_args()
    files = {file.parent.name: file for zoo in arguments.zoo for file in zoo.rglob("model.onnx")}
    lines, families = [], {}
    for line in arguments.figures.read_text().splitlines()[1:]:
        name, *figures = line.split()
        if len(figures) != 4:  # onnxruntime or the engine does not run it
            continue
        if name not in families:
            families[name] = family(files[name])
        rows, theirs, ours, ratio = figures
        lines.append({"model": name, "family": families[name], "rows": rows, "onnxruntime_us": theirs, "engine_us": ours, "ratio": ratio})
    ratios = collections.defaultdict(list)
    for line in lines:
        ratios[line["family"], "64" if line["rows"] == "64" else "1"].append((float(line["ratio"]), line["model"]))
    print("| family | rows | models | median ratio | nine of ten below | greatest |\n|---|---|---|---|---|---|")
    for (name, rows), found in sorted(ratios.items()):
        found.sort()
        values = [ratio for ratio, _ in found]
        ninth = values[min(len(values) * 9 // 10, len(values) - 1)]
        print(f"| {name} | {rows} | {len(values)} | {statistics.median(values):.2f} | {ninth:.2f} | {values[-1]:.2f} `{found[-1][1]}` |")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
