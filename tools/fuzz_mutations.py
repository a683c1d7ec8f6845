"""Mutations of inputs for ``tools/fuzz.py``: of bytes, and of numbers and words in texts."""

import re
from collections.abc import Sequence

import numpy as np

NUMBERS = (
    b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e309", b"1e-320", b"-0.0", b"2147483648", b"99999999999999999999",
    b"0x10", b"1_000", b"", b" ", b"1,5", b"--1", b"1e", "٣".encode(), b"1" * 5000,
)  # fmt: skip
WORDS = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b"'", b",", b";", b"\t", b"{", b"}", b"[", b"]", b"<", b">",
    b"&", b"&lol;", b"../", b"%s", b"null", b"true", b"\xe2\x80\xae", b"\x1b[2J",
)  # fmt: skip
INTERESTING = (
    0,
    1,
    2,
    4,
    8,
    16,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)
MOST_MUTATIONS = 6
_TOKEN = re.compile(rb"[-+]?\d[\d.eE+-]*|[A-Za-z_]+")


def mutate(data: bytes, others: Sequence[bytes], random: np.random.Generator) -> bytes:
    """Returns a changed copy. The first byte, by which a surface may choose a kind, changes rarely.

    Args:
        data: The example.
        others: Examples that parts are taken from.
        random: Draws the changes.
    """
    head, body = bytearray(data[:1]), bytearray(data[1:])
    is_text = b"\0" not in body[:2000] and sum(byte > 126 for byte in body[:2000]) * 10 < len(body[:2000]) + 1
    for _ in range(int(random.integers(1, MOST_MUTATIONS + 1))):
        by_token = is_text and random.random() < 0.6
        body = _change_token(body, random) if by_token else _change_bytes(body, others, random)
    if random.random() < 0.02 and head:
        head[0] = int(random.integers(256))
    return bytes(head + body)


def _change_token(body: bytearray, random: np.random.Generator) -> bytearray:
    tokens = list(_TOKEN.finditer(body[:200_000]))
    if not tokens:
        return body + WORDS[int(random.integers(len(WORDS)))]
    token = tokens[int(random.integers(len(tokens)))]
    chosen = int(random.integers(4))
    if chosen == 0:
        text = NUMBERS[int(random.integers(len(NUMBERS)))]
    elif chosen == 1:
        text = WORDS[int(random.integers(len(WORDS)))]
    elif chosen == 2:
        other = tokens[int(random.integers(len(tokens)))]
        text = bytes(body[other.start() : other.end()])
    else:
        text = token[0] * int(random.integers(0, 3))
    return body[: token.start()] + text + body[token.end() :]


def _change_bytes(body: bytearray, others: Sequence[bytes], random: np.random.Generator) -> bytearray:
    size = len(body)
    if not size:
        return bytearray(random.bytes(int(random.integers(1, 16))))
    # Headers are short and matter most.
    place = int(random.integers(min(size, 256)) if random.random() < 0.3 else random.integers(size))
    chosen = int(random.integers(9))
    if chosen == 0:
        body[place] ^= 1 << int(random.integers(8))
    elif chosen == 1:
        body[place] = int(random.integers(256))
    elif chosen in (2, 3):
        width = 2 if chosen == 2 else 4
        value = INTERESTING[int(random.integers(len(INTERESTING)))] % (1 << 8 * width)
        order = "little" if random.random() < 0.7 else "big"
        body[place : place + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
    elif chosen == 4:
        del body[place:]
    elif chosen == 5:
        del body[place : place + int(random.integers(1, 64))]
    elif chosen == 6:
        part = bytes(body[place : place + int(random.integers(1, 64))])
        body[place:place] = part * int(random.integers(1, 8))
    elif chosen == 7:
        body[place:place] = random.bytes(int(random.integers(1, 16)))
    else:
        other = others[int(random.integers(len(others)))]
        start = int(random.integers(max(len(other), 1)))
        part = other[start : start + int(random.integers(1, 128))]
        body[place : place + len(part)] = part
    return body
