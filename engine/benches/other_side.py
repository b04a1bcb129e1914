"""The other side of the bench `onnxruntime`: answers each line on standard input, whose words tabulators part, with a number.

    model ROWS FILE INPUT ...   loads a model and its inputs, of which each call gets the next ROWS rows; all of them for 0
    calls COUNT                 makes so many calls; the number is their processor time in nanoseconds

One thread, bound inputs and outputs. Needs the packages onnx and onnxruntime.
"""
import itertools
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
call, turns = None, None


def bound(session, feed):
    """The feed with its outputs bound; nothing where the file declares shapes that are not so."""
    binding = session.io_binding()
    for name, value in feed.items():
        binding.bind_cpu_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    try:
        for _ in range(2):
            session.run_with_iobinding(binding)
    except RuntimeError:
        return None
    return binding


for line in sys.stdin:
    verb, count, *files = line.rstrip("\n").split("\t")
    count = int(count)
    if verb == "model":
        session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
        values = {}
        for spec, path in zip(session.get_inputs(), files[1:]):
            with open(path, "rb") as file:
                values[spec.name] = numpy_helper.to_array(onnx.TensorProto.FromString(file.read()))
        starts = range(0, len(next(iter(values.values()))), count) if count else [0]
        feeds = [
            {name: np.ascontiguousarray(value[start:start + count] if count else value) for name, value in values.items()}
            for start in starts
        ]
        is_plain = all("seq" not in output.type and "string" not in output.type for output in session.get_outputs())
        is_plain = is_plain and all(value.dtype.kind not in "OU" for value in values.values())
        bindings = [bound(session, feed) for feed in feeds] if is_plain else [None]
        if all(bindings):
            call, turns = session.run_with_iobinding, itertools.cycle([(binding,) for binding in bindings])
        else:
            call, turns = session.run, itertools.cycle([(None, feed) for feed in feeds])
        print(0, flush=True)
        continue
    begun = time.thread_time_ns()
    for arguments in itertools.islice(turns, count):
        call(*arguments)
    print(time.thread_time_ns() - begun, flush=True)
