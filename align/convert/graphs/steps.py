"""The way of a file to a graph's input, step by step, for a reader without align: the ``steps`` of MODALITY.json.

A step is a dict: ``step`` is its name, ``how`` a sentence, and the rest are its numbers. What the graph does itself,
such as mean and deviation of a picture and the spectrogram of a sound, is no step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.convert.graphs.picture_steps import list_picture_steps
from align.preprocess import Array, Audio, Bytes, HFTokens, Image, Points, Preprocess, Signal, Tokens
from align.preprocess.front_ends import ClipFrontEnd

Step = dict[str, Any]


def list_steps(preprocess: Preprocess, tokenizer: str | None = None) -> list[Step]:
    """Return the steps from a file to one row of the graph's input. tokenizer: the file of the text tower's."""
    write = WRITERS.get(type(preprocess))
    if write is None:
        kind = type(preprocess).__name__
        return [_step("align", f"run row and collate of {kind} with the arguments of made_by: no other way is written")]
    steps = write(preprocess)
    if tokenizer is not None:
        steps = [x | {"file": tokenizer} if x["step"] == "tokenize" else x for x in steps]
    return steps


def _step(step: str, how: str, **more: Any) -> Step:
    return {"step": step, "how": how, **more}


def _sound(audio: Any) -> list[Step]:
    rate, samples = audio.sample_rate, audio.samples
    front = audio._front
    steps = [
        _step("decode", "float samples in [-1, 1], clipped to it; the mean of the channels", dtype="float32"),
        _step(
            "resample",
            "to this rate, by a sinc of so many zero crossings under a squared cosine, cut off at rolloff times half "
            "the lower rate (torchaudio.transforms.Resample); clipped to [-1, 1]",
            sample_rate=rate,
            zero_crossings=6,
            rolloff=0.99,
        ),
    ]
    if isinstance(front, ClipFrontEnd):
        how = f"the front end {audio.front_end} of the whole sound, as align.preprocess.front_ends has it"
        return [*steps, _step("spectrogram", how, shape=list(front.shape), options=dict(vars(audio.spectrogram)))]
    begin = "0" if audio.window.place == "head" or front.needs_length else "(samples - length) // 2"
    steps.append(
        _step(
            "window",
            {
                "zero": "cut a longer sound; a shorter one stands in silence",
                "repeat": "cut a longer sound; a shorter one is repeated to fill the window",
                "repeat-pad": "cut a longer sound; a shorter one is repeated as often as it fits, silence follows",
                "reflect": "cut a longer sound; a shorter one goes on backwards to a multiple of hop, silence follows",
            }[audio.window.pad],
            samples=samples,
            place=audio.window.place,
            longer_starts_at="0" if audio.window.place == "head" else "(length - samples) // 2",
            shorter_starts_at=begin if audio.window.pad == "zero" else "0",
            hop=audio.spectrogram.hop,
        )
    )
    if audio.window.count > 1:
        steps.append(
            _step(
                "windows",
                "so many windows side by side in one row, spread evenly from the start to the end of a longer sound; "
                "the graph averages their features",
                count=audio.window.count,
            )
        )
    scaled = "round(x · 32768), clipped to [-32768, 32767]" if audio.dtype == "int16" else "as they are"
    steps.append(_step("numbers", scaled, dtype=audio.dtype))
    if front.needs_length:
        how = "two more numbers after each window: its length in samples // 32768 and % 32768, of the sound in it"
        steps.append(_step("length", how))
    return steps


def _cloud(points: Any) -> list[Step]:
    count = points.points
    steps = [_step("decode", "(P, 3) xyz, or (P, 6) xyz and rgb in [0, 1]", dtype="float32", up=points.up)]
    sphere = _step("unit_sphere", "less the centroid, over the largest distance from it; identical points become 0")
    if points.preset != "absolute":
        steps.append(sphere)
    elif points.scale != 1:
        steps.append(_step("scale", "times this", factor=points.scale))
    if points.swap:
        steps.append(_step("swap", "exchange y and z"))
    if points.color:
        steps.append(_step("colour", "a cloud without colours has this in r, g and b", fill=0.4))
    else:
        steps.append(_step("colour", "leave the colours out"))
    how = (
        "point i of the file has the key i · (√5 - 1) / 2 modulo 1, in float64; take the points in the order of their "
        "keys, from the first again where they are fewer"
    )
    if points._published:
        how += (
            "; a file of no more points than a row first gives all of them in their order, as often as they fit whole"
        )
    steps.append(_step("sample", how, points=count))
    return [*steps, sphere] if points._published else steps


def _clip_text(tokens: Any) -> list[Step]:
    return [
        _step(
            "clean",
            "mend broken encodings (ftfy.fix_text), decode HTML entities twice (html.unescape), collapse white space "
            "to single spaces, strip; a text of printable ASCII without & needs none of it",
        ),
        _step("tokenize", "ids of the library tokenizers, with its marks, cut and padding", context=tokens.context),
    ]


def _plain_text(tokens: Any) -> list[Step]:
    how = "start (1), each byte of UTF-8 + 3, end (2), then 0; a long text is cut before its end"
    how += "; the file does the same with the library tokenizers" + (", lower case first" if tokens.lower else "")
    return [_strip(), _step("tokenize", how, context=tokens.context, lower=tokens.lower)]


def _strip() -> Step:
    return _step("strip", "no white space at both ends of the text (str.strip of Python)")


def _tokens_of(tokens: Any) -> list[Step]:
    steps = [_strip()]
    if tokens.prefix:
        steps.append(_step("prefix", "text before every text", text=tokens.prefix))
    if tokens.clean != "none":
        how = "ftfy.fix_text, html.unescape twice, white space collapsed, strip; lower and canonicalize: lower case; "
        steps.append(_step("clean", how + "canonicalize: _ becomes a space, no ASCII punctuation", kind=tokens.clean))
    if tokens.lower:
        steps.append(_step("lower", "lower case"))
    steps.append(_step("tokenize", "input_ids and attention_mask of the library tokenizers", context=tokens.context))
    if not tokens.mask:
        steps.append(_step("mask", "attention_mask is 1 everywhere"))
    if tokens._separator is not None:
        steps.append(_step("separator", "this id becomes 0", id=tokens._separator))
    return steps


def _numbers(array: Any) -> list[Step]:
    return [_step("decode", "an array of this shape", shape=list(array.shape), dtype=array.dtype)]


def _signal(signal: Any) -> list[Step]:
    axes = "(T, channels), turned to (channels, T)" if signal.time_first else "(channels, T)"
    return [
        _step("decode", axes, channels=signal.channels, dtype="float32"),
        _step("window", "the middle of a longer one; a shorter one in the middle of NaN", length=signal.length),
    ]


WRITERS: dict[type, Callable[[Any], list[Step]]] = {
    Image: list_picture_steps,
    Audio: _sound,
    Points: _cloud,
    Tokens: _clip_text,
    Bytes: _plain_text,
    HFTokens: _tokens_of,
    Array: _numbers,
    Signal: _signal,
}
