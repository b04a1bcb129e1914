"""What `tern model check` has Python do: answers of onnxruntime, and rows of a Parquet file.

One JSON object comes on standard input. {"model": FILE, "cases": [[TENSOR, ...], ...]} is answered with one JSON object:
{"answers": [[TENSOR, ...], ...], "version": TEXT}, or {"missing": TEXT} where a package is not there, or {"failed": TEXT}.
A TENSOR is an ONNX TensorProto in base64, in the order of the model's inputs and outputs. {"parquet": FILE, "rows": N} is
answered with CSV, or with the same two refusals on one line that begins with {.
"""
import base64
import json
import sys

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "object", 9: "bool",
          11: "float64", 12: "uint32", 13: "uint64"}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def decode(text, np):
    data, at = base64.b64decode(text), 0
    dims, code, raw, strings = [], 0, b"", []
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            if tag >> 3 == 1:
                dims.append(value)
            elif tag >> 3 == 2:
                code = value
            continue
        length, at = varint(data, at)
        piece, at = data[at:at + length], at + length
        if tag >> 3 == 1:
            inner = 0
            while inner < len(piece):
                value, inner = varint(piece, inner)
                dims.append(value)
        elif tag >> 3 == 6:
            strings.append(piece.decode())
        elif tag >> 3 == 9:
            raw = piece
    if code == 8:
        return np.array(strings, dtype=object).reshape(dims)
    return np.frombuffer(raw, dtype=DTYPES[code]).reshape(dims)


def number(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(tag, data):
    return number(tag << 3 | 2) + number(len(data)) + data


def encode(value, np):
    if isinstance(value, list) and value and isinstance(value[0], dict):
        # ZipMap: a dictionary a row becomes a row of a table.
        value = np.array([[row[key] for key in value[0]] for row in value], dtype=np.float32)
    if not isinstance(value, np.ndarray):
        raise TypeError("an output is no tensor")
    out = b"".join(number(1 << 3) + number(dim) for dim in value.shape)
    if value.dtype.kind in "OUS":
        texts = b"".join(field(6, str(text).encode()) for text in value.reshape(-1))
        return base64.b64encode(out + number(2 << 3) + number(8) + texts).decode()
    codes = {name: code for code, name in DTYPES.items()}
    if value.dtype.name not in codes:
        raise TypeError(f"an output has element type {value.dtype.name}")
    raw = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
    out += number(2 << 3) + number(codes[value.dtype.name]) + field(9, raw)
    return base64.b64encode(out).decode()


def answers(order):
    import numpy as np
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(order["model"], options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    told = []
    for case in order["cases"]:
        given = dict(zip(names, (decode(tensor, np) for tensor in case)))
        told.append([encode(value, np) for value in session.run(None, given)])
    return {"answers": told, "version": ort.__version__}


def main():
    order = json.load(sys.stdin)
    try:
        if "parquet" in order:
            import pandas
            pandas.read_parquet(order["parquet"]).head(order["rows"]).to_csv(sys.stdout, index=False)
            return
        told = answers(order)
    except ImportError as error:
        told = {"missing": str(error)}
    except Exception as error:
        told = {"failed": f"{type(error).__name__}: {error}"}
    json.dump(told, sys.stdout)


main()
