"""whylogs' side of `whylogs.rs`: a table of f64 by row, then for each line `rows of a window` on standard input the processor time of
profiling the whole table in such windows, in nanoseconds, and the bytes of the first window's profile."""

import sys
import time

import numpy as np
import pandas as pd
from whylogs.core import DatasetProfile


def profile(frame: pd.DataFrame) -> DatasetProfile:
    made = DatasetProfile()
    made.track(frame)
    return made


def main() -> None:
    features = int(sys.argv[2])
    values = np.fromfile(sys.argv[1], dtype="<f8").reshape(-1, features)
    frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(features)])
    for line in sys.stdin:
        size = int(line)
        cut = [frame.iloc[at : at + size] for at in range(0, len(frame), size)]
        begun = time.process_time_ns()
        made = [profile(rows) for rows in cut]
        taken = time.process_time_ns() - begun
        print(taken, len(made[0].view().serialize()), flush=True)


if __name__ == "__main__":
    main()
