"""Small tokenizers in the layouts that Hugging Face models are published in, trained on a few lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

LINES = [
    "The quick brown fox jumps over the lazy dog. A photo of a cat on a red mat.",
    "An audio of rain and thunder, recorded in Zürich; naïve café façade. Is it true? Yes! 3.14 and 2,718 numbers.",
    "hello world HELLO WORLD photographs photographing photographer un-believable don't can't we'll",
    "query: passage: instruct: a small drawing of two dogs playing in the snow near an old house",
] * 8
END = "<|endoftext|>"


def bert(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, **_quiet))
    BertTokenizer(vocab=made.get_vocab(), model_max_length=512).save_pretrained(folder)
    return folder


def roberta(folder: Path) -> Path:
    from transformers import RobertaTokenizer

    vocabulary, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    RobertaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return folder


def gpt2(folder: Path) -> Path:
    """A tokenizer without a padding token, padded on the left."""
    from transformers import GPT2Tokenizer

    vocabulary, merges = _byte_pairs([END])
    GPT2Tokenizer(vocab=vocabulary, merges=merges, padding_side="left").save_pretrained(folder)
    return folder


def qwen2(folder: Path) -> Path:
    from transformers import Qwen2Tokenizer

    vocabulary, merges = _byte_pairs([END])
    Qwen2Tokenizer(vocab=vocabulary, merges=merges, padding_side="left").save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    from transformers import CLIPTokenizer

    vocabulary, merges = _byte_pairs([], "</w>")
    for name in ("<|startoftext|>", END):
        vocabulary[name] = len(vocabulary)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    return _sentencepiece(folder, "spiece.model", {"tokenizer_class": "T5Tokenizer", "extra_ids": 0})


def siglip(folder: Path) -> Path:
    """A tokenizer that runs in Python alone."""
    return _sentencepiece(folder, "spiece.model", {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64})


def llama(folder: Path) -> Path:
    """Byte pairs with bytes as the last resort, padded on the left with the end token."""
    config = {"tokenizer_class": "LlamaTokenizer", "pad_token": "</s>", "padding_side": "left", "add_bos_token": True}
    return _sentencepiece(folder, "tokenizer.model", config)


def _byte_pairs(special: list[str], suffix: str = "") -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"end_of_word_suffix": suffix} if suffix else {}
    made = Tokenizer(models.BPE(**options))
    if suffix:
        made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420 + 256 * bool(suffix), initial_alphabet=alphabet, special_tokens=special, **_quiet, **options
    )
    made.train_from_iterator(LINES, trainer)
    model = json.loads(made.to_str())["model"]
    vocabulary = model["vocab"]
    for letter in sorted(alphabet) if suffix else ():
        vocabulary.setdefault(letter + suffix, len(vocabulary))
    return vocabulary, [tuple(pair) for pair in model["merges"]]


def _sentencepiece(folder: Path, name: str, config: dict) -> Path:
    import sentencepiece

    options = (
        {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 200, "model_type": "unigram"}
        if name == "spiece.model"
        else {"unk_id": 0, "bos_id": 1, "eos_id": 2, "vocab_size": 500, "model_type": "bpe", "byte_fallback": True}
    )
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, minloglevel=2, hard_vocab_limit=False, **options
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(out.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


_quiet = {"show_progress": False}
