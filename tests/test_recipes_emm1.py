"""E-MM1, EShot and OpenShape's features, on miniatures of their published layouts."""

import io

import numpy as np
import pytest
from made_sets import about, alone, fails, flac, jpg, manifest, points, put, put_csv, read, recipe, texts
from test_recipes_points import rows, saved


def media(root):
    """Three pictures, two sounds (mp4 by name), two clouds and the tables of both layouts."""
    for folder in ("e-mm1_1m", "e-mm1_100m"):
        infos = root / "datasets" / folder / "infos"
        put_csv(infos / "text.csv", [["encord_text_id", "caption"], ["7", "a dog,  barking"], ["8", "an engine"]])
        for m, names in {
            "image": ["a.jpg", "b.jpg"],
            "audio": ["a.mp4", "b.mp4"],
            "points": ["a.npy", "c.npy"],
        }.items():
            lines = [[str(i), "COCO", "MIT", name, "shared"] for i, name in enumerate(names)]
            put_csv(
                infos / f"{m}.csv",
                [[f"encord_{m}_id", "source_dataset", "dataset_license", "file_name", "save_folder"], *lines],
            )
    put(root / "shared/image/a.jpg", jpg(1))
    put(root / "shared/image/b.jpg", jpg(2))
    put(root / "shared/video/a.mp4", flac(3))  # sounds lie among the videos
    saved(root / "shared/points/a.npy", {"xyz": rows(1), "rgb": rows(2) * 0 + 0.5})  # c.npy was never downloaded


TRIPLETS = [
    [
        "encord_text_id",
        "paired_modality",
        "annotated_modality",
        "encord_paired_id",
        "encord_annotated_id",
        "annotation",
    ],
    ["7", "audio", "points", "0", "0", "1"],
    ["7", "audio", "points", "0", "0", "3"],  # another person's grade of the same
    ["8", "audio", "image", "1", "1", "2"],  # its sound is not there
    ["99", "points", "image", "1", "0", "3"],  # neither its caption nor its cloud is there
]


def test_triplets_have_grades_and_holes(tmp_path, capsys):
    module = recipe("emm1")
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path)]
    assert "clone https://github.com/encord-team/E-MM1" in fails(module, capsys, *arguments)
    media(tmp_path)
    table = tmp_path / "datasets/e-mm1_1m/triplets.csv"
    put_csv(table, TRIPLETS)
    assert module.main(arguments) == 0
    assert "1 of 4 groups have fewer than two members here" in capsys.readouterr().out
    found = read(tmp_path / "out", "train")
    assert set(found) == {"7-audio0-points0", "7-audio0-points0-2", "8-audio1-image1"}
    first = found["7-audio0-points0"]
    assert set(first) == {"audio.mp4", "points.npy", "text.txt", "json"}
    assert about(first) == {"group": 7, "grade": {"audio+points": "good", "points+text": "good"}}
    assert about(found["7-audio0-points0-2"])["grade"] == {"audio+points": "bad", "points+text": "bad"}
    assert texts(first) == ["a dog, barking"]
    assert points(first).shape == (32, 6)
    assert set(found["8-audio1-image1"]) == {"image.jpg", "text.txt", "json"}
    assert about(found["8-audio1-image1"])["grade"] == {"audio+image": "partial", "image+text": "partial"}
    assert alone(tmp_path / "out")
    for cells, says in (
        (["7", "audio", "smell", "0", "0", "1"], "'smell' is none of"),
        (["7", "audio", "points", "0", "0", "4"], "annotation '4'"),
    ):
        put_csv(table, [TRIPLETS[0], cells])
        assert says in fails(module, capsys, *arguments)


def test_neighbours_and_features(tmp_path, capsys):
    module = recipe("emm1")
    media(tmp_path)
    head = ["encord_text_id", "encord_video_id", "encord_audio_id", "encord_image_id", "encord_points_id", "nn_index"]
    for k, image in ((1, "0"), (3, "1")):
        put_csv(tmp_path / f"datasets/e-mm1_100m/nn_{k}/data_groups.csv", [head, ["7", "5", "0", image, "1", str(k)]])
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path), "--layout", "100m", "--neighbours", "1", "3"]
    assert module.main(arguments) == 0
    found = read(tmp_path / "out", "train")
    assert {key: set(sample) for key, sample in found.items()} == {
        f"7-{k}": {"image.jpg", "audio.mp4", "text.txt", "json"} for k in (1, 3)
    }
    assert about(found["7-1"]) == {"group": 7}
    assert found["7-1"]["image.jpg"] != found["7-3"]["image.jpg"]

    own = tmp_path / "own"
    own.mkdir()
    for name, ids in (("image", [1, 0]), ("text", [7])):
        np.save(own / f"{name}.npy", rows(5, len(ids)))
        np.save(own / f"{name}.ids.npy", np.array(ids))
    assert module.main([*arguments, "--features", str(own)]) == 0
    sample = read(tmp_path / "out", "train")["7-1"]
    assert set(sample) == {"image.npy", "text.npy", "audio.mp4", "json"}
    assert np.array_equal(np.load(io.BytesIO(sample["image.npy"])), rows(5, 2)[1])
    np.save(own / "text.ids.npy", np.array([7, 8]))
    assert "its ids (2,)" in fails(module, capsys, *arguments, "--features", own)
    put_csv(
        tmp_path / "datasets/e-mm1_100m/infos/image.csv",
        [["encord_image_id", "file_name", "save_folder"], ["0", "a.jpg", "../etc"]],
    )
    assert "leave" in fails(module, capsys, *arguments)


def eshot(root):
    folder = root / "datasets/eshot"
    put_csv(
        folder / "eshot_audio_info.csv",
        [
            ["eshot_audio_id", "youtube_id", "start_time", "end_time", "file_name", "save_folder"],
            ["4", "x", "0", "5", "d.flac", "eshot"],
            ["5", "y", "0", "5", "gone.flac", "eshot"],
        ],
    )
    put_csv(
        folder / "eshot_points_info.csv",
        [["eshot_point_id", "file_id", "file_name", "save_folder"], ["9", "z", "z.npy", "eshot"]],
    )
    put(folder / "category_to_audio_ids.json", {"dog": [4], "train": [5]})
    put(folder / "category_to_point_ids.json", {"dog": [9], "toy": [9]})
    put(root / "eshot/audio/d.flac", flac(1))
    saved(root / "eshot/points/z.npy", {"xyz": rows(1), "rgb": rows(2) * 0})


def test_eshot_has_sounds_and_clouds_apart(tmp_path, capsys):
    module = recipe("eshot")
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path)]
    assert "clone https://github.com/encord-team/E-MM1" in fails(module, capsys, *arguments)
    eshot(tmp_path)
    assert module.main(arguments) == 0
    assert "1 files are listed but not there" in capsys.readouterr().out
    found = read(tmp_path / "out", "test")
    assert {key: set(sample) for key, sample in found.items()} == {
        "audio-4": {"audio.flac", "json"},
        "points-9": {"points.npy", "json"},
    }
    assert about(found["audio-4"]) == {"label": {"category": "dog"}, "group": "dog"}
    assert about(found["points-9"]) == {"label": {"category": ["dog", "toy"]}}
    assert manifest(tmp_path / "out")["classes"] == {"category": ["dog", "toy", "train"]}
    put(tmp_path / "datasets/eshot/category_to_audio_ids.json", {"dog": [4]})
    assert "eshot_audio_id 5 is in no category" in fails(module, capsys, *arguments)


@pytest.mark.parametrize("content", [[1], {"dog": 4}])
def test_a_list_of_another_form_is_refused(tmp_path, capsys, content):
    eshot(tmp_path)
    put(tmp_path / "datasets/eshot/category_to_point_ids.json", content)
    assert "no object of category" in fails(recipe("eshot"), capsys, tmp_path / "out", "--source", tmp_path)


W = 6


def shape(seed, **more):
    """A file of OpenShape: two renderings, a thumbnail, a text, two captions, one retrieved text."""

    def feature(i):
        return {"original": rows(i)[:2].reshape(1, W), "prompt_avg": rows(i + 50)[:2].reshape(1, W)}

    found = {"xyz": rows(seed), "rgb": rows(seed) * 0 + 0.5, "image_feat": rows(seed + 1)[:4].reshape(2, W)}
    found |= {"thumbnail_feat": rows(seed + 2)[:2].reshape(1, W), "text": ["a chair"], "text_feat": [feature(seed + 3)]}
    found |= {"blip_caption": "a wooden chair", "blip_caption_feat": feature(seed + 4), "msft_caption": ""}
    found |= {"msft_caption_feat": {}, "retrieval_text": ["seats"], "retrieval_text_feat": [feature(seed + 5)]}
    return found | more


def test_openshapes_features_are_rows_of_pictures_and_texts(tmp_path, capsys):
    module = recipe("openshape_features")
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path)]
    assert "openshape-training-data" in fails(module, capsys, *arguments)
    theirs = "/mnt/data/objaverse-processed/Objaverse/000-001/"
    listed = [
        {"dataset": d, "id": n, "group": "g", "data_path": f"{theirs}{n}.npy"}
        for d, n in [("Objaverse", "u1"), ("Objaverse", "u2"), ("ABO", "u3"), ("ABO", "gone")]
    ]
    put(tmp_path / "meta_data/split/train_all.json", listed)
    put(tmp_path / "meta_data/gpt4_filtering.json", {"u1": {"flag": "Y"}, "u2": {"flag": "N"}, "u3": {"flag": "N"}})
    for i, name in enumerate(("u1", "u2", "u3")):
        more = {"thumbnail_feat": None} if name == "u3" else {}
        saved(tmp_path / f"objaverse-processed/Objaverse/000-001/{name}.npy", shape(10 * i, **more))
    assert module.main(arguments) == 0
    assert "1 shapes are listed but not there" in capsys.readouterr().out
    found = read(tmp_path / "out", "train")
    assert set(found) == {"Objaverse-u1", "Objaverse-u2", "ABO-u3"}
    first, array = found["Objaverse-u1"], lambda data: np.load(io.BytesIO(data))
    assert [name for name in first if name.startswith("image")] == ["image.0.npy", "image.1.npy", "image.2.npy"]
    assert np.allclose(array(first["image.1.npy"]), rows(1)[2:4].reshape(W), atol=1e-3)
    assert np.allclose(array(first["image.2.npy"]), rows(2)[:2].reshape(W), atol=1e-3)
    assert about(first)["captions"] == ["a chair", "a wooden chair", "seats"]
    assert np.allclose(array(first["text.0.npy"]), rows(53)[:2].reshape(W), atol=1e-3)  # with the templates
    assert np.allclose(array(first["text.2.npy"]), rows(5)[:2].reshape(W), atol=1e-3)  # without
    assert about(found["Objaverse-u2"])["captions"] == ["a wooden chair", "seats"]  # GPT-4 took its text for noise
    assert about(found["ABO-u3"])["captions"] == ["a chair", "a wooden chair", "seats"]  # it judged Objaverse alone
    assert "image.2.npy" not in found["ABO-u3"]
    assert module.main([*arguments, "--views", "1", "--text", "original"]) == 0
    drawn = read(tmp_path / "out", "train")["Objaverse-u1"]
    assert {name for name in drawn if name.endswith("npy")} == {"points.npy", "image.0.npy", "text.0.npy"}
    saved(tmp_path / "objaverse-processed/Objaverse/000-001/u3.npy", shape(1, text_feat=[]))
    assert "u3.npy: its features are not as described" in fails(module, capsys, *arguments)
