"""Embed PICTURE, SOUND and SENTENCE by the EXPORT of `align export --to onnx`, without torch and without align."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from PIL import Image, ImageOps
from tokenizers import Tokenizer

folder, picture, sound, sentence = sys.argv[1:]
steps = [{s["step"]: s for s in json.loads(Path(folder, f).read_text())["steps"]} for f in ("image.json", "audio.json")]


def scale(x, size):  # (L, ...) -> (size, ...), as the step resize of image.json states it for bicubic and torch
    k, rows = max(len(x) / size, 1), []
    for centre in (np.arange(size) + 0.5) * (len(x) / size):
        at = np.arange(max(int(centre - 2 * k + 0.5), 0), min(int(centre + 2 * k + 0.5), len(x)))
        t = np.abs((at - centre + 0.5) / k)
        w = np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, np.where(t < 2, ((2.5 - 0.5 * t) * t - 4) * t + 2, 0))
        rows.append((at, w / w.sum()))
    p = min(22, int(np.ceil(np.log2((2**15 - 0.5) / max(w.max() for _, w in rows)))) - 1)
    out = np.stack([np.tensordot(np.trunc(w * 2**p + np.copysign(0.5, w)).astype(int), x[at], 1) for at, w in rows])
    return (out + (1 << p - 1) >> p).clip(0, 255)


image, side = ImageOps.exif_transpose(Image.open(picture)).convert("RGB"), steps[0]["crop"]["height"]
wide, high = (side * x // min(image.size) for x in image.size)
pixels = scale(scale(np.array(image, dtype=int).swapaxes(0, 1), wide).swapaxes(0, 1), high).transpose(2, 0, 1)
pixels = pixels[:, round((high - side) / 2) :, round((wide - side) / 2) :][:, :side, :side]
wave, rate = soundfile.read(sound, dtype="float32", always_2d=True)
assert rate == steps[1]["resample"]["sample_rate"], "resample it first, as audio.json says"
spare = steps[1]["window"]["samples"] - len(wave)  # silence on both sides of a short sound, the middle of a long one
wave = np.pad(wave.mean(1), max(spare, 0))[(abs(spare) + (spare > 0)) // 2 :][: len(wave) + spare] * 32768
ids = Tokenizer.from_file(f"{folder}/tokenizer.json").encode(sentence).ids
rows = {"image": pixels.astype(np.uint8), "audio": wave.round().clip(-32768, 32767).astype(np.int16), "text": ids}
made = {m: onnxruntime.InferenceSession(f"{folder}/{m}.onnx").run(None, {"values": [x]})[0][0] for m, x in rows.items()}
print(json.dumps({m: {"to text": float(x @ made["text"]), "embedding": x.tolist()} for m, x in made.items()}))
