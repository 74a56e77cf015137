"""Meshes that name files and addresses."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
from pathlib import Path

from hostile.pictures import zip_of
from hostile.request import ANSWERED, EITHER, Hostile, file
from hostile.shapes import CORNERS, glb, gltf, ply


def naming(canary: Path, listener: str) -> list[Hostile]:
    """Return meshes that name files and addresses. Ours are opened for nobody."""
    kind, found = "meshes that name files", []
    image = f"{canary}.png"
    up = "../" * 12 + str(canary).lstrip("/")
    for where, place in {
        "an absolute path": str(canary),
        "a traversal": up,
        "a file's address": canary.as_uri(),
        "an address": f"http://{listener}/a",
        "a neighbour": "../outside/" + canary.name,
        "a share": "\\\\host\\a",
        "a device": "/dev/zero",
        "NUL": f"{canary}\0.mtl",
    }.items():
        obj = f"mtllib {place}\n{CORNERS}usemtl a\nf 1 2 3\n"
        found += [
            file(kind, f"OBJ, {where}", "points", obj.encode(), "obj", fits=ANSWERED),
            file(kind, f"glTF, {where}", "points", gltf(place), "gltf"),
            file(kind, f"GLB, {where}", "points", glb(gltf(place)), "glb"),
        ]
    corners = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    here = "data:application/octet-stream;base64," + base64.b64encode(corners).decode()
    textured = gltf(
        here,
        images=[{"uri": image}],
        textures=[{"source": 0}],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    )
    texture = ply(
        f"comment TextureFile {image}",
        "element vertex 3",
        "property float x",
        "property float y",
        "property float z",
        "element face 1",
        "property list uchar int vertex_indices",
        "property list uchar float texcoord",
        form="ascii",
        rows=b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2 6 0 0 1 0 0 1\n",
    )
    member = zipfile.ZipInfo("../../outside/written")
    odd = io.BytesIO()
    with zipfile.ZipFile(odd, "w") as archive:
        archive.writestr(member, b"x")
        archive.writestr("3D/3dmodel.model", b"<model/>")
    return [
        *found,
        file(kind, "glTF, a texture", "points", textured, "gltf", fits=EITHER),
        file(kind, "PLY, a texture", "points", texture, "ply", fits=EITHER),
        file(
            kind,
            "OBJ, 10,000 materials",
            "points",
            (CORNERS + "".join(f"usemtl m{i}\nf 1 2 3\n" for i in range(10_000))).encode(),
            "obj",
        ),
        file(
            kind, "OBJ, a call of another", "points", f"call {canary}\n{CORNERS}f 1 2 3\n".encode(), "obj", fits=EITHER
        ),
        file(kind, "3MF with a traversal", "points", odd.getvalue(), "3mf"),
        file(
            kind,
            "3MF with an entity",
            "points",
            zip_of(**{"3D/3dmodel.model": b'<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]><model>&x;</model>'}),
            "3mf",
        ),
        file(kind, "COLLADA", "points", b'<COLLADA><image href="file:///etc/passwd"/></COLLADA>', "dae"),
        file(kind, "USD", "points", b"#usda 1.0\n(subLayers = [@/etc/passwd@])", "usda"),
        file(kind, "a link of Windows", "points", b"[InternetShortcut]\nURL=file:///etc/passwd\n", "url"),
    ]
