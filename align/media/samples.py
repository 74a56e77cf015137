"""Tiny generated files of each format that is read, and the trial of its decoder."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from align.media.array import ARRAY
from align.media.cloud import CLOUD
from align.media.containers.opening import has_package
from align.media.npy import save_npy
from align.media.picture import FORMATS_OF, PICTURE
from align.media.sound import SOUND
from align.media.video import VIDEO
from align.media.words import WORDS

SIDE, RATE, POINTS = 32, 16000, 64
CORNERS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))  # of a tetrahedron
FACES = ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))
CONTAINED = {  # sounds of containers: suffix -> FFmpeg's name of the format, and an encoder
    "m4a": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "mp4": ("mp4", "aac"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "libopus"),
}
FORMATS = {"mp4": "mp4", "m4v": "mp4", "mov": "mov", "webm": "webm", "mkv": "matroska", "avi": "avi"}
TEXT = "a red cube, 赤い立方体"


class Trial(NamedTuple):
    """A format to try. package: the package that decodes it. run: raises an error where that fails."""

    medium: str
    suffix: str
    package: str
    run: Callable[[], None]


def list_trials() -> list[Trial]:
    """Return a trial of each format. Each writes a tiny file in memory, reads it and compares the content."""
    return [
        *(
            Trial("picture", s, "simplejpeg" if FORMATS_OF[s] == "JPEG" else "pillow", _picture(s))
            for s in PICTURE.suffixes
        ),
        *(Trial("sound", s, "soundfile", _sound(s)) for s in SOUND.suffixes if s not in CONTAINED),
        *(_list_contained() if has_package() else ()),
        Trial("cloud", CLOUD.suffixes[0], "numpy", _cloud),
        *(Trial("cloud", s, "trimesh" if s in ("obj", "glb", "gltf") else "numpy", _shape(s)) for s in CLOUD.files),
        *(Trial("words", s, "Python", _words) for s in WORDS.suffixes),
        *(Trial("array", s, "numpy", _array) for s in ARRAY.suffixes),
    ]


def _list_contained() -> list[Trial]:
    """Return trials of the containers that PyAV reads."""
    sounds = [Trial("sound", s, "av", _contained_sound(*written)) for s, written in CONTAINED.items()]
    return [*sounds, *(Trial("video", s, "av", _video(FORMATS[s])) for s in VIDEO.suffixes)]


def _check(right: bool, found: object) -> None:
    if not right:
        raise ValueError(f"it decodes to another content: {found}")


def _picture(suffix: str) -> Callable[[], None]:
    def run() -> None:
        from PIL import Image

        made = np.zeros((SIDE, SIDE, 3), np.uint8)
        made[:, : SIDE // 2, 0], made[:, SIDE // 2 :, 2] = 200, 200  # red beside blue
        out = io.BytesIO()
        Image.fromarray(made).save(out, FORMATS_OF[suffix])
        pixels = PICTURE.read(out.getvalue())
        _check(pixels.shape == made.shape and np.abs(pixels.astype(int) - made).mean() < 20, pixels.shape)

    return run


def _sound(suffix: str) -> Callable[[], None]:
    def run() -> None:
        import soundfile

        made = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)
        out = io.BytesIO()
        soundfile.write(out, made, RATE, format="AIFF" if suffix == "aif" else suffix.upper())
        wave = SOUND.read(out.getvalue())[0]
        power = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
        _check(
            abs(len(wave) - len(made)) < RATE // 8 and 0.2 < power < 0.5, f"{len(wave)} samples of power {power:.2f}"
        )

    return run


def _contained_sound(form: str, codec: str) -> Callable[[], None]:
    def run() -> None:
        import av
        from av.audio.stream import AudioStream

        made = (0.5 * np.sin(2 * np.pi * 440 * np.arange(12 * 1024) / 48000)).astype(np.float32)
        out = io.BytesIO()
        with av.open(out, "w", format=form) as file:
            stream = file.add_stream(codec, rate=48000, options={}, layout="mono")
            assert isinstance(stream, AudioStream)
            resampler = av.AudioResampler(stream.format.name, "mono", 48000, frame_size=stream.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(made[None], "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 0
            for ready in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(stream.encode(ready))
            file.mux(stream.encode(None))
        wave = SOUND.read(out.getvalue())[0]
        power = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
        _check(abs(len(wave) - len(made)) < 4096 and 0.2 < power < 0.5, f"{len(wave)} samples of power {power:.2f}")

    return run


def _video(form: str) -> Callable[[], None]:
    def run() -> None:
        import av

        out = io.BytesIO()
        with av.open(out, "w", format=form) as file:
            stream = file.add_stream("libvpx" if form == "webm" else "mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 2 * SIDE, 2 * SIDE, "yuv420p"
            for level in (40, 120, 200):
                made = np.full((2 * SIDE, 2 * SIDE, 3), level, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(made, "rgb24")))
            file.mux(stream.encode(None))
        frames = VIDEO.read(out.getvalue())
        ends = frames[[0, -1]].mean(axis=(1, 2, 3))
        _check(frames.shape[1:] == (2 * SIDE, 2 * SIDE, 3) and np.abs(ends - (40, 200)).max() < 20, ends)

    return run


def _cloud() -> None:
    made = np.array(CORNERS * 4, np.float32)
    _check(np.array_equal(CLOUD.read(save_npy(made)), made), "other points")


def _array() -> None:
    made = np.arange(6, dtype=np.float32).reshape(2, 3)
    _check(np.array_equal(ARRAY.read(save_npy(made)), made), "other numbers")


def _words() -> None:
    text = WORDS.read(TEXT.encode())
    _check(text == TEXT, repr(text))


def _shape(suffix: str) -> Callable[[], None]:
    def run() -> None:
        cloud = CLOUD.read(CLOUD.convert(_write_shape(suffix), suffix, points=POINTS, seed=0).data)
        xyz = cloud[:, :3]  # convert may centre and scale them: the extent is that of a tetrahedron
        _check(len(cloud) > 0 and bool((np.ptp(xyz, axis=0) > 0.2).all()), f"{len(cloud)} points")

    return run


def _write_shape(suffix: str) -> bytes:
    """Return a tetrahedron, or its corners where the format has no faces."""
    points = "\n".join(" ".join(map(str, corner)) for corner in CORNERS)
    faces = "\n".join("3 " + " ".join(map(str, face)) for face in FACES)
    if suffix == "off":
        return f"OFF\n4 4 0\n{points}\n{faces}\n".encode()
    if suffix == "ply":
        axes = "".join(f"property float {axis}\n" for axis in "xyz")
        lists = "element face 4\nproperty list uchar int vertex_indices\n"
        return f"ply\nformat ascii 1.0\nelement vertex 4\n{axes}{lists}end_header\n{points}\n{faces}\n".encode()
    if suffix == "obj":
        corners = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS)
        return (corners + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in FACES)).encode()
    if suffix == "pcd":
        head = (
            "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 4\nHEIGHT 1\nPOINTS 4\nDATA ascii\n"
        )
        return f"{head}{points}\n".encode()
    import trimesh

    mesh = trimesh.Trimesh(CORNERS, FACES, process=False)
    if suffix == "gltf":
        from trimesh.exchange.gltf import export_gltf

        return export_gltf(mesh.scene(), embed_buffers=True)["model.gltf"]
    return bytes(mesh.export(file_type=suffix))  # pyright: ignore[reportArgumentType]  # stl and glb are bytes
