"""Makes a tokenizer.json of a SentencePiece vocabulary that llama.cpp keeps as GGUF.

The form is the one of Llama 2's file. Merges follow from the scores as in Hugging Face's conversion: every way
to put a token together from two others, best score first.
"""

import struct

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
CONTROL, BYTE, UNKNOWN = 3, 6, 2  # token types
BLANK = "\u2581"


class Reader:
    """The metadata of a GGUF file, version 3."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            return [self.value(element) for _ in range(count)]
        return self.number(NUMBERS[kind])

    def metadata(self):
        magic, version, _, count = struct.unpack_from("<4sIQQ", self.data)
        if magic != b"GGUF" or version != 3:
            raise ValueError(f"expected GGUF version 3, got {magic!r} {version}")
        self.at = 24
        return {self.string(): self.value(self.number("I")) for _ in range(count)}


def merges(vocab, scores):
    """[left, right] of all ordinary tokens."""
    found = []
    for token, index in vocab.items():
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in vocab and token[i:] in vocab]
        pairs.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        found += [(scores[index], pair) for pair in pairs]
    found.sort(key=lambda item: item[0], reverse=True)
    return [list(pair) for _, pair in found]


def tokenizer_json(gguf):
    data = Reader(gguf).metadata()
    tokens, scores, kinds = (data[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    special = [i for i, kind in enumerate(kinds) if kind in (CONTROL, UNKNOWN)]
    ordinary = {token: i for i, token in enumerate(tokens) if kinds[i] not in (CONTROL, UNKNOWN, BYTE)}
    return {
        "version": "1.0", "truncation": None, "padding": None, "post_processor": None, "pre_tokenizer": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in special],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": BLANK},
            {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": tokens[special[0]], "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges(ordinary, scores)},
    }
