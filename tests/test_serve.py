"""The HTTP API against a real server: answers equal those of Python, in OpenAI's form where that is promised."""

from __future__ import annotations

import base64
import struct
from concurrent.futures import ThreadPoolExecutor

import httpx
import jsonschema
import numpy as np
import openai
import pytest
import torch
from openapi_spec_validator import validate
from served import COLOURS, cloud, load, model, picture, samples, serving, tone

import align
from align.search.parts import Part
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.metrics import resident


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(client, service) of one server for all tests of this file."""
    with (
        serving(load(tmp_path_factory.mktemp("served"))) as (url, service),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client, service


@pytest.fixture(scope="module")
def client(served):
    return served[0]


@pytest.fixture(scope="module")
def searcher(served):
    return served[1].loaded.searcher


@pytest.fixture(scope="module")
def remote(client):
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def ask(client, **body):
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def as_pairs(found) -> list[tuple[int, float]]:
    return [(hit["id"], hit["score"]) for hit in found["hits"]]


QUERIES = [
    [Part("text", "a ccc bb")],
    [Part("image", picture((200, 90, 10)), 2.0), Part("text", "ddd", 0.5)],
    [Part("image", picture((200, 90, 10))), Part("image", picture((0, 250, 0)), -1.0)],
    [Part("audio", tone(600)), Part("points", cloud((9, 9, 200)), -0.25)],
]


@pytest.mark.parametrize("parts", QUERIES, ids=["text", "weights", "minus", "sound and cloud"])
@pytest.mark.parametrize("of", ["image", "audio"])
def test_a_search_is_the_searchers(client, searcher, parts, of):
    body = [
        {"modality": p.modality, "weight": p.weight}
        | ({"text": p.value} if isinstance(p.value, str) else {"data": uri(p.value)})
        for p in parts
    ]
    found, expected = ask(client, parts=body, of=of, k=5), searcher.search(parts, of, 5)
    assert [hit["id"] for hit in found["hits"]] == [hit.sample for hit in expected.hits]
    for hit, right in zip(found["hits"], expected.hits, strict=True):
        assert hit["score"] == pytest.approx(right.score, abs=1e-5)
        assert hit["cosines"] == pytest.approx(dict(right.cosines), abs=1e-5)
        assert (hit["rank"], hit["item"]["key"]) == (right.rank, right.item.key)
    assert (found["of"], found["how"], found["candidates"]) == (of, expected.how, 9)
    assert found["seconds"]["total"] >= found["seconds"]["search"] > 0


def test_a_form_asks_as_json_does(client):
    data = picture((200, 90, 10))
    expected = ask(client, query="bb", parts=[{"modality": "image", "data": uri(data)}], of="points", k=3)
    answer = client.post("/v1/search", data={"query": "bb", "of": "points", "k": "3"}, files={"image": ("x.png", data)})
    assert as_pairs(answer.json()) == as_pairs(expected)
    parts = '[{"modality": "image", "file": "first", "weight": -2}]'
    answer = client.post("/v1/search", data={"parts": parts, "of": "points"}, files={"first": ("x.png", data)})
    minus = ask(client, parts=[{"modality": "image", "data": uri(data), "weight": -2}], of="points")
    assert as_pairs(answer.json()) == as_pairs(minus)


def test_items_ask_as_their_files_do(client, searcher):
    index = searcher.index
    number = int(index.numbers()[4])
    found = ask(client, parts=[{"modality": "image", "id": number}], of="image", k=9)
    assert next(hit for hit in found["hits"] if hit["id"] == number)["cosines"]["image"] == pytest.approx(1, abs=1e-5)
    row = searcher.index.rows("image", [number]).values[0]
    assert [hit["id"] for hit in found["hits"]] == [
        x.sample for x in searcher.search([Part("image", row)], "image", 9).hits
    ]
    like = ask(client, like=number, of="image", k=9)
    assert number not in [hit["id"] for hit in like["hits"]]
    assert len(like["hits"]) == 8


def test_filters_words_thresholds_and_folding(client, searcher):
    found = ask(client, query="bb", of="image", where={"label": "red", "year": {"gte": 2003}}, k=9)
    assert {hit["item"]["label"] for hit in found["hits"]} == {"red"}
    assert found["candidates"] == 2
    words = ask(client, text="blue thing", of="image", k=9)
    expected = searcher.search([], "image", 9, text="blue thing")
    assert [hit["id"] for hit in words["hits"]] == [hit.sample for hit in expected.hits]
    assert (words["how"], ask(client, query="bb", text="blue", of="image")["how"]) == ("text", "hybrid")
    everything = ask(client, query="bb", of="image", k=9)
    middle = everything["hits"][4]["score"]
    reached = ask(client, query="bb", of="image", k=9, threshold=middle)
    assert as_pairs(reached) == [pair for pair in as_pairs(everything) if pair[1] >= middle]
    folded = ask(client, query="bb", of="image", k=9, fold=True)
    assert sum(1 + len(hit["same"]) for hit in folded["hits"]) == 9
    assert len(folded["hits"]) < 9


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"query": "b"}, "of is missing: the modality to search among, one of audio, image, points, text"),
        ({"of": "image"}, "nothing to search by: give query, parts, text or like"),
        ({"query": "b", "of": "imge"}, "the index has no 'imge'; did you mean 'image'?"),
        ({"query": "b", "of": "image", "kk": 3}, "no field 'kk'; did you mean 'k'?"),
        ({"query": "b", "of": "image", "k": 0}, "k is a whole number from 1 to 1000, not '0'"),
        ({"query": "b", "of": "image", "how": "cosin"}, "how is cosine or mip or objective, not 'cosin'"),
        (
            {"query": "b", "of": "image", "where": {"lable": "red"}},
            "no item has the key 'lable', did you mean 'label'?",
        ),
        ({"query": "b", "of": "image", "where": {"year": {"above": 1}}}, None),
        ({"parts": [{"modality": "depth", "data": "data:,x"}], "of": "image"}, "the model has no 'depth'; there are: "),
        ({"parts": [{"modality": "imag", "data": "data:,x"}], "of": "image"}, "did you mean 'image'?"),
        ({"parts": [{"modality": "image"}], "of": "image"}, "parts[0] has one of text, data, id and file"),
        ({"parts": [{"modality": "image", "id": 999}], "of": "image"}, "there is no item 999"),
        ({"parts": [{"modality": "text", "text": "b", "weight": 0}], "of": "image"}, None),
        ({"parts": [{"modality": "text", "text": " "}], "of": "image"}, "the text cannot be read (text/empty"),
        ({"like": 1, "query": "b", "of": "image"}, "like asks alone"),
    ],
)
def test_a_wrong_search_says_what_would_have_worked(client, body, said):
    answer = client.post("/v1/search", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    assert said is None or said in error["message"]


def test_openais_client_works_unchanged(remote, searcher):
    texts = ["a bbb", "ccc d", "efg"]
    expected = searcher.model.embed(text=texts)["text"]
    packed = remote.embeddings.create(model="tiny", input=texts)  # the client asks for base64
    plain = remote.embeddings.create(model="tiny", input=texts, encoding_format="float", user="me")
    for found in (packed, plain):
        assert [one.index for one in found.data] == [0, 1, 2]
        assert found.model == "tiny"
        np.testing.assert_allclose([one.embedding for one in found.data], expected, atol=1e-6)
    assert packed.usage.total_tokens == 5
    assert np.shape(remote.embeddings.create(model="align", input="one text").data[0].embedding) == (8,)
    assert [one.id for one in remote.models.list()] == ["tiny"]
    assert remote.models.retrieve("tiny").owned_by == "align"


def test_openais_client_sends_pictures_sounds_and_clouds(remote, searcher):
    files = {"image": picture((200, 90, 10)), "audio": tone(600), "points": cloud((9, 9, 200))}
    inputs = [{m: uri(data, "application/octet-stream")} for m, data in files.items()]
    found = remote.embeddings.create(model="tiny", input=[*inputs, {"text": "bb"}, "bb"])
    for one, (m, data) in zip(found.data[:3], files.items(), strict=True):
        np.testing.assert_allclose(one.embedding, searcher.model.embed(**{m: [data]})[m][0], atol=1e-6)
    assert found.data[3].embedding == found.data[4].embedding
    assert len(remote.embeddings.create(model="tiny", input=inputs[0]).data) == 1


def test_embeddings_are_little_endian_and_cut_as_asked(client, searcher):
    body = {"model": "tiny", "input": "abcdefgh", "encoding_format": "base64", "dimensions": 3}
    packed = base64.b64decode(client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"])
    row = searcher.model.embed(text=["abcdefgh"])["text"][0][:3]
    assert struct.unpack("<3f", packed) == pytest.approx((row / row.norm()).tolist())


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"input": [[1, 2]]}, 400, "holds tokens"),
        ({"input": [1, 2]}, 400, "holds tokens"),
        ({}, 400, "input is missing"),
        ({"input": []}, 400, "input is missing"),
        ({"input": "b", "model": "gpt"}, 404, "no model 'gpt'; there are: tiny"),
        ({"input": "b", "dimensions": 9}, 422, "dimensions is a whole number from 1 to 8"),
        ({"input": {"depth": "data:,x"}}, 422, "the model has no 'depth'"),
        ({"input": {"image": "data:,x", "text": "b"}}, 400, "an object of one modality"),
        ({"input": ["b"] * 257}, 413, "at most 256"),
    ],
)
def test_a_wrong_input_is_refused_in_openais_form(client, remote, body, status, said):
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    if status == 400 and body:
        with pytest.raises(openai.BadRequestError, match=said):
            remote.embeddings.create(model="tiny", **body)


def test_a_file_is_classified_as_in_python(client, searcher):
    data, classes = picture((200, 90, 10)), {"warm": "bbb", "cool": "ddd", "green": "ccc"}
    right = align.classify(searcher.model, classes, templates=["{} b"], image=[data])[0]
    body = {"classes": classes, "modality": "image", "data": uri(data), "templates": ["{} b"]}
    found = client.post("/v1/classify", json=body).json()
    assert found["label"] == right.label == found["classes"][0]["label"]
    assert {one["label"]: one["probability"] for one in found["classes"]} == pytest.approx(right.probabilities)
    assert {one["label"]: one["cosine"] for one in found["classes"]} == pytest.approx(right.scores, abs=1e-6)
    form = client.post("/v1/classify", data={"classes": "bbb, ddd\nccc", "templates": "{}"}, files={"image": data})
    assert form.status_code == 200, form.text
    sound = client.post("/v1/classify", data={"classes": "bbb,ddd"}, files={"audio": tone(600)}).json()
    assert sound["how"] == "cosine"
    assert {one["probability"] for one in sound["classes"]} == {None}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"classes": ["one"], "modality": "image", "data": "data:,x"}, "two or more"),
        ({"classes": ["a", "a"], "modality": "image", "data": "data:,x"}, "a class is named twice"),
        ({"classes": ["a", "b"], "data": "data:,x"}, "modality is missing"),
        ({"classes": ["a", "b"], "modality": "image"}, "give one file"),
        ({"classes": ["a", "b"], "modality": "text", "data": "data:,x"}, "zero-shot labels other modalities than text"),
        ({"classes": ["a", "b"], "modality": "image", "data": "data:,x", "templates": ["x"]}, "each with one {}"),
    ],
)
def test_a_wrong_classification_says_what_would_have_worked(client, body, said):
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]


def test_an_item_and_its_files(client):
    for number, (key, members) in enumerate(samples().items(), 1):
        found = client.get(f"/v1/items/{number}").json()
        assert (found["key"], found["label"]) == (key, list(COLOURS)[(number - 1) % 3])
        assert found["source"] == {"shard": "test-000000.tar"}
        by_member = {one["member"]: one for one in found["media"]}
        assert set(by_member) == set(members) - {"json"}
        for member, one in by_member.items():
            answer = client.get(one["url"])
            assert answer.content == members[member]
            assert int(answer.headers["content-length"]) == len(members[member])
    assert client.get("/v1/items/1/media/image").headers["content-type"] == "image/png"
    assert client.get("/v1/items/1/media/audio").headers["content-type"] == "audio/flac"
    assert "attachment" in client.get("/v1/items/1/media/points").headers["content-disposition"]
    assert client.get("/v1/items/1/face/points").json()["k"] == "cloud"
    assert client.get("/v1/items/1/face/audio").json()["k"] == "sound"
    gone = client.get("/v1/items/1/media/imag")
    assert (gone.status_code, "did you mean 'image'?" in gone.text) == (404, True)


def test_a_file_comes_in_parts(client):
    url, whole = "/v1/items/2/media/audio", samples()["0001"]["audio.flac"]
    size = len(whole)

    def part(text, **more):
        return client.get(url, headers={"range": text, **more})

    for text, start, stop in [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=5-{size + 99}", 5, size),
        (f"bytes=-{size + 99}", 0, size),
    ]:
        answer = part(text)
        assert (answer.status_code, answer.content) == (206, whole[start:stop])
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for text in (f"bytes={size}-", "bytes=-0"):
        assert part(text).status_code == 416
    for text in ("bytes=0-1,4-5", "lines=0-1", "bytes=9-3", "bytes=-"):
        assert (part(text).status_code, part(text).content) == (200, whole)
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
    tag = head.headers["etag"]
    assert part("bytes=0-9", **{"if-range": tag}).status_code == 206
    assert part("bytes=0-9", **{"if-range": '"other"'}).status_code == 200
    for known in (tag, f'"other", W/{tag}', "*"):
        fresh = client.get(url, headers={"if-none-match": known})
        assert (fresh.status_code, fresh.content) == (304, b"")
    of_head = client.head(url, headers={"range": "bytes=0-9"})
    assert (of_head.status_code, of_head.headers["content-length"]) == (200, str(size))


def test_requests_together_are_answered_as_alone(served):
    client, service = served
    texts = [f"{'bcdefghi'[i % 8]} {'cdefghib'[i % 8] * (i % 5)}x" for i in range(40)]
    pictures = [picture((i * 5, 250 - i * 5, 40)) for i in range(40)]
    model = service.loaded.searcher.model
    alone = {
        "text": [model.embed(text=[x])["text"][0] for x in texts],
        "image": [model.embed(image=[x])["image"][0] for x in pictures],
    }
    before = service.loaded.batcher.batches, service.loaded.batcher.rows

    def send(i: int):
        given = texts[i // 2] if i % 2 else {"image": uri(pictures[i // 2])}
        return client.post("/v1/embeddings", json={"input": given}).json()["data"][0]["embedding"]

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(send, range(80)))
    for i, row in enumerate(found):
        np.testing.assert_allclose(row, alone["text" if i % 2 else "image"][i // 2], atol=1e-6)
    batches, rows = service.loaded.batcher.batches - before[0], service.loaded.batcher.rows - before[1]
    assert rows == 80
    assert batches < 80


def test_the_keys_of_filters_with_counts(client):
    found = client.get("/v1/facets").json()
    assert found["counts"] == dict.fromkeys(("image", "audio", "points", "text"), 9)
    facets = {one["key"]: one for one in found["facets"]}
    assert dict(facets["label"]["values"]) == dict.fromkeys(COLOURS, 3)
    assert (facets["year"]["low"], facets["year"]["high"]) == (2000, 2008)
    red = client.get("/v1/facets", params={"where": '{"label": "red"}'}).json()
    assert red["counts"]["image"] == 3


def test_metrics_are_prometheus_text(client):
    client.get("/healthz")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values, types = {}, {}
    for line in answer.text.splitlines():
        if line.startswith("# TYPE"):
            types[line.split()[2]] = line.split()[3]
        elif not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    assert values['align_requests_total{method="GET",route="/healthz",status="200"}'] >= 1
    assert types["align_request_seconds"] == "histogram"
    route = 'route="/healthz"'
    buckets = [v for name, v in values.items() if name.startswith(f"align_request_seconds_bucket{{{route}")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == values[f"align_request_seconds_count{{{route}}}"]
    assert 0.5 < values["process_resident_memory_bytes"] / resident() < 2
    assert not any("/v1/items/1" in name for name in values)


def test_the_description_is_complete_and_true(client):
    spec = client.get("/openapi.json").json()
    validate(spec)
    assert spec["openapi"].startswith("3.1")
    from align.serve.app import list_routes

    routes = {(route.path.replace(":path", ""), next(iter(route.methods - {"HEAD"}))) for route in list_routes()}
    described = {(path, m.upper()) for path, methods in spec["paths"].items() for m in methods}
    assert described == routes - {("/docs.css", "GET")}
    schemas = spec["components"]

    def check(name: str, content) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": schemas}
        jsonschema.validate(content, schema, jsonschema.Draft202012Validator)

    data = uri(picture((9, 9, 9)))
    search = {"query": "bb", "parts": [{"modality": "image", "data": data}], "of": "image", "where": {"label": "red"}}
    check("SearchRequest", search)
    check("Search", client.post("/v1/search", json=search).json())
    embed = {"input": ["b", {"image": data}], "encoding_format": "base64"}
    check("EmbeddingsRequest", embed)
    check("Embeddings", client.post("/v1/embeddings", json=embed).json())
    classify = {"classes": ["bb", "cc"], "modality": "image", "data": data}
    check("ClassifyRequest", classify)
    check("Classification", client.post("/v1/classify", json=classify).json())
    for path, name in {
        "/v1/items/1": "Item",
        "/v1/facets": "Facets",
        "/v1/models": "Models",
        "/v1/models/tiny": "Model",
        "/v1/items/1/face/points": "Face",
        "/healthz": "Health",
        "/nothing": "Error",
    }.items():
        check(name, client.get(path).json())
    with pytest.raises(jsonschema.ValidationError):
        check("SearchRequest", {"of": "image", "unknown": 1})


def test_the_docs_need_nothing_from_elsewhere(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for path in ("/v1/search", "/v1/embeddings", "/v1/classify", "/v1/items/{id}/media/{modality}"):
        assert path in page.text
    addresses = [part.split('"')[0] for part in page.text.split('href="')[1:]] + page.text.split('src="')[1:]
    assert addresses
    assert all(address.startswith(("/", "data:,")) for address in addresses)
    assert "<script" not in page.text
    assert "style=" not in page.text
    assert client.get("/docs.css").headers["content-type"].startswith("text/css")


def test_a_model_alone_embeds_and_does_not_search(tmp_path):
    made = model()
    loaded = Loaded(made, None, Limits(decoders=1), name="alone")
    with serving(loaded, Limits(decoders=1)) as (url, _), httpx.Client(base_url=url) as client:
        assert client.post("/v1/embeddings", json={"input": "bb"}).status_code == 200
        assert client.get("/healthz").json()["index"] is None
        for answer in (client.post("/v1/search", json={"query": "b", "of": "image"}), client.get("/v1/items/1")):
            assert answer.status_code == 404
            assert "align serve INDEX" in answer.json()["error"]["message"]


def test_a_row_of_the_batch_is_the_models(served):
    """``embed_values`` of preprocessed rows is ``embed`` of the files."""
    made = served[1].loaded.model
    data = [picture((1, 2, 3)), picture((200, 2, 3))]
    rows = [made.preprocess["image"].row(x) for x in data]
    found = made.embed_values("image", made.preprocess["image"].collate(rows))
    assert torch.equal(found, made.embed(image=data)["image"])
