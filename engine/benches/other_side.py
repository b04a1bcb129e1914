"""The other side of the bench `onnxruntime`: answers each line on standard input, whose words tabulators part, with a number.

    model ROWS FILE INPUT ...   loads a model and that many rows of the inputs, all of them for 0
    calls COUNT                 makes so many calls; the number is their processor time in nanoseconds

One thread, bound inputs and outputs. Needs the packages onnx and onnxruntime.
"""
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
session = feed = binding = None
for line in sys.stdin:
    verb, count, *files = line.rstrip("\n").split("\t")
    count = int(count)
    if verb == "model":
        session = onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
        feed = {}
        for spec, path in zip(session.get_inputs(), files[1:]):
            with open(path, "rb") as file:
                value = numpy_helper.to_array(onnx.TensorProto.FromString(file.read()))
            if count:
                value = np.resize(value, (count, *value.shape[1:]))
            feed[spec.name] = np.ascontiguousarray(value)
        plain = all("seq" not in output.type and "string" not in output.type for output in session.get_outputs())
        binding = None
        if plain and all(value.dtype.kind not in "OU" for value in feed.values()):
            binding = session.io_binding()
            for name, value in feed.items():
                binding.bind_cpu_input(name, value)
            for output in session.get_outputs():
                binding.bind_output(output.name)
            try:
                for _ in range(2):
                    session.run_with_iobinding(binding)
            except RuntimeError:  # the file declares shapes that are not so
                binding = None
        print(0, flush=True)
        continue
    begun = time.thread_time_ns()
    if binding is not None:
        for _ in range(count):
            session.run_with_iobinding(binding)
    else:
        for _ in range(count):
            session.run(None, feed)
    print(time.thread_time_ns() - begun, flush=True)
