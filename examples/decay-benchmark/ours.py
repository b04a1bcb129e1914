"""`tern decay` from Python: CSV in, JSON lines out."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass
class Replay:
    alarms: list[dict]
    summary: dict

    @property
    def loud(self) -> list[dict]:
        """Alarms that ask for a person."""
        return [alarm for alarm in self.alarms if alarm["severity"] != "notice"]

    def by_window(self) -> np.ndarray:
        """Whether each window has an alarm; of one device."""
        said = np.zeros(self.summary["windows"], dtype=bool)
        said[[alarm["window"] for alarm in self.loud]] = True
        return said


@dataclass
class Tern:
    command: str
    scratch: Path

    def run(self, *words: object) -> str:
        line = [*shlex.split(self.command), "decay", *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(line)}: {done.stderr}")
        return done.stdout

    def write(self, rows: pd.DataFrame, name: str) -> Path:
        path = self.scratch / name
        rows.to_csv(path, index=False, float_format="%.6g", date_format="%Y-%m-%d %H:%M:%S")
        return path

    def fit(self, rows: pd.DataFrame, window: str, name: str, *more: str) -> Path:
        reference = self.write(rows, "reference.csv")
        profile = self.scratch / name
        profile.parent.mkdir(exist_ok=True)
        self.run("fit", "--reference", reference, "--time-column", "time", "--window", window, "-o", profile, *more)
        return profile

    def replay(self, profile: Path, rows: pd.DataFrame, *more: str) -> Replay:
        live = self.write(rows, "live.csv")
        out = self.run("replay", "--profile", profile, "--stream", live, "--time-column", "time", "--json", *more)
        lines = [json.loads(line) for line in out.splitlines()]
        return Replay(lines[:-1], lines[-1])
