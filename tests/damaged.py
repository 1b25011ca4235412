"""Requests as no honest client sends them: broken images, JSON, forms and HTTP itself."""

import base64
import json
import random
import struct
import zlib
from typing import NamedTuple

import cv2

SIGNATURES = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00",
    b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
    b"II*\x00\x08\x00\x00\x00\x00\x00",
    b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
    b"BM\x3a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\xff\xff\xff\x7f\xff\xff\xff\x7f",
    b"\x00\x00\x00\x20ftypavif",
    b"%PDF-1.7",
    b"#EXTM3U\nfile:///etc/passwd\n",
    b"",
    b"\x00",
)
"""Beginnings of what is no JPEG, PNG or WebP."""


class Damaged(NamedTuple):
    """A request whose HTTP is in order."""

    path: str
    headers: dict[str, str]
    body: bytes


def pictures(photo):
    """A whole picture of each kind."""
    done = [
        cv2.imencode(f".{kind}", photo[:, :, ::-1])[1].tobytes() for kind in ("jpg", "png", "webp")
    ]
    return dict(zip(("image/jpeg", "image/png", "image/webp"), done))


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def announcing(width, height, content=b"0" * 99):
    """A PNG that says how large it is, and is not."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def spoiled(data, chance):
    """Bytes with bits flipped, a piece cut off, taken out, doubled, or numbers made extreme."""
    data = bytearray(data)
    way = chance.randrange(6)
    place = chance.randrange(len(data))
    early = chance.randrange(min(64, len(data)))
    if way == 0:
        for _ in range(chance.choice((1, 3, 30))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif way == 1:
        del data[place:]
    elif way == 2:
        del data[place : place + chance.randrange(1, 400)]
    elif way == 3:
        data[place:place] = data[early : early + chance.randrange(1, 900)]
    elif way == 4:
        data[early : early + 4] = chance.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff"))
    else:
        data[place : place + 40] = chance.randbytes(40)
    return bytes(data)


def image_request(whole, chance):
    """A damaged picture, or something else under its name."""
    kind = chance.choice(sorted(whole))
    way = chance.randrange(10)
    if way < 7:
        body = spoiled(whole[kind], chance)
    elif way == 7:
        body = chance.choice(SIGNATURES) + chance.randbytes(chance.randrange(200))
    elif way == 8:
        kind, sides = "image/png", (0, 1, 2, 7, 60_000, 2**31 - 1, 2**32 - 1)
        body = announcing(chance.choice(sides), chance.choice(sides))
    else:
        body = whole[chance.choice(sorted(whole))]  # under another kind's name
    return Damaged(
        f"/v1/{chance.choice(('body', 'hand'))}{query(chance)}", {"Content-Type": kind}, body
    )


def query(chance):
    """Parameters, most of them wrong."""
    number = lambda: chance.choice(ODD_NUMBERS)  # noqa: E731
    choices = (
        "", "", "?hand_side=left", "?hand_side=both", "?vertices=maybe", "?format=exe", "?format=glb",
        f"?boxes={number()},{number()},{number()},{number()}", "?boxes=1,2,3", "?boxes=;;;", "?boxes=%00",
        f"?focal_length={number()}", f"?intrinsics={number()},{number()},1,1", "?unknown=1", "?boxes=" + "1,1,9,9;" * 40,
        "?focal_length=1&focal_length=2", "?%ff=%fe", "?format=depth&origin=root", "?boxes=0,0,1e-300,1e-300",
    )  # fmt: skip
    return chance.choice(choices)


ODD_NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "1e-320",
    "0",
    "-0",
    "9" * 400,
    "0x10",
    "1_0",
    "١٢",
    "",
    "1e9",
)


def json_request(whole, chance):
    """JSON that is broken, of the wrong shape, deep, huge, or holds a broken picture."""
    good = base64.b64encode(whole["image/png"]).decode()
    strange = (
        None, True, -1, 1e308, [], {}, "", "é\u0000\ud83d", "A" * 999, [[[[]]]], "=" * 8, "!!!!", good[:-3],
        {"data": good}, [1, 2, 3], [[0, 0, 1, 1, 1]], [["a", 0, 1, 1]], [[1e308, -1e308, 1e308, 1e308]], [[0, 0, 40, 40]] * 40,
    )  # fmt: skip
    image = {"data": good}
    if chance.random() < 0.7:
        image[
            chance.choice(("data", "boxes", "hand_side", "focal_length", "intrinsics", "extra"))
        ] = chance.choice(strange)
    asked = {"images": [image] * chance.choice((1, 1, 2, 17))}
    if chance.random() < 0.3:
        asked[chance.choice(("images", "vertices", "format", "origin", "extra"))] = chance.choice(
            strange
        )
    text = json.dumps(asked).encode()
    broken = (
        text, text, text, spoiled(text, chance), text[: chance.randrange(len(text))], b"[" * 20_000, b'{"images":' * 5_000,
        b'{"images": [{"data": NaN, "focal_length": Infinity}]}', b'{"images": [], "images": 3}', b"\xff\xfe" + text,
        b'{"images": [{"data": "' + b"9" * 9_000 + b'"}]}', text.replace(b"}", b',"focal_length":1e999}', 1), b"null", b"",
        b'{"images": [{"data": "\\ud800"}]}', b'{"vertices": ' + b"9" * 5_000 + b"}",
    )  # fmt: skip
    path = f"/v1/{chance.choice(('body', 'hand'))}"
    return Damaged(path, {"Content-Type": "application/json"}, chance.choice(broken))


def form_request(whole, chance):
    """A form with its boundary, headers, fields or file spoiled; for a prediction or a job."""
    parts = [
        (f'name="{chance.choice(("image", "files", "file", ""))}"; filename="{chance.choice(NAMES)}"',
         chance.choice((whole["image/jpeg"], spoiled(whole["image/webp"], chance), b""))),
        *((f'name="{name}"', chance.choice((b"body", b"hand", b"nan,1,2,3", b"\xff\xfe", b"9" * 70_000, b"")))
          for name in chance.sample(("task", "boxes", "format", "unknown", "hand_side", "task"), 2)),
    ]  # fmt: skip
    chance.shuffle(parts)
    inside = b"".join(
        b"--B\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    )
    whole_form = inside + b"--B--\r\n"
    forms = (
        whole_form, whole_form, inside, spoiled(whole_form, chance), whole_form.replace(b"\r\n", b"\n"),
        b"--B\r\n" * 3_000, b"--B\r\nContent-Disposition: " + b"x" * 40_000 + b"\r\n\r\n\r\n--B--\r\n", b"",
        whole_form.replace(b"form-data;", b"form-data"), b"--B\r\n\xff\xfe: x\r\n\r\n--B--",
    )  # fmt: skip
    boundary = chance.choice(
        ("; boundary=B",) * 6 + ("", "; boundary=", "; boundary=Ü", "; boundary=" + "B" * 300)
    )
    path = chance.choice(("/v1/body", "/v1/hand", "/v1/jobs"))
    return Damaged(path, {"Content-Type": f"multipart/form-data{boundary}"}, chance.choice(forms))


NAMES = ("a.jpg", "../../etc/passwd", "", "\u202egpj.exe", "a" * 3_000, "%00.png", "C:\\x.png")


def header_request(whole, chance):
    """A whole picture with headers that say something else."""
    odd = (
        ("Content-Type", chance.choice(("", "image", "image/gif", "image/jpeg; q=é", "*/*", "text/html", "image/jpeg" * 90))),
        ("Accept", chance.choice(("", "text/html", "model/*;q=0.5,*/*;q=x", ",,;;", "application/json;q=0", "a/b," * 500))),
        ("X-Model-Version", chance.choice(("none", "é" * 20, "a" * 5_000, "../../x"))),
        ("X-Request-Id", chance.choice(("<script>", "a" * 5_000, "é", "a b"))),
        ("Host", chance.choice(("evil.example", "", "127.0.0.1:1:2", "[::1", "127.0.0.1@evil"))),
        ("Authorization", chance.choice(("Bearer", "Basic !!!!", "Bearer " + "x" * 3_000))),
        ("Content-Encoding", chance.choice(("gzip", "br", "identity, gzip"))),
        ("Range", "bytes=0-1,5-,x"),
        ("Cookie", "a=" + "b" * 4_000),
    )  # fmt: skip
    headers = {"Content-Type": "image/jpeg"} | dict(chance.sample(odd, chance.randrange(1, 4)))
    paths = (
        "/v1/body",
        "/v1/hand",
        "/v1/body/",
        "/v1/%00",
        "/v1/models/x/faces",
        "/v1/jobs/%2e%2e",
        "/v1//body",
        "/v1/" + "a" * 3_000,
    )
    return Damaged(chance.choice(paths), headers, whole["image/jpeg"])


MAKERS = (image_request, image_request, json_request, form_request, header_request)


def damaged(whole, number):
    """The request of this number, the same each time."""
    chance = random.Random(number)
    return chance.choice(MAKERS)(whole, chance)


def raw_requests(whole):
    """Bytes on the wire that are no HTTP, or end early; (bytes, whether an answer is due)."""
    image = whole["image/jpeg"]
    start = b"POST /v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    form = start.replace(b"image/jpeg", b"multipart/form-data; boundary=B")
    job = form.replace(b"/v1/body", b"/v1/jobs")
    part = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc'
    size = b"Content-Length: %d\r\n\r\n" % len(image)
    chunked = start + b"Transfer-Encoding: chunked\r\n\r\n"
    return (
        (start + size + image[:100], False),
        (form + size + part, False),
        (job + size + part, False),
        (start + b"Content-Length: -5\r\n\r\n" + image, True),
        (start + b"Content-Length: x\r\n\r\n" + image, True),
        (start + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", True),
        (start + b"Content-Length: 99999999999999999999999\r\n\r\n", True),
        (start + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n", True),
        (chunked + b"zz\r\nabc\r\n", True),
        (chunked + b"ffffffffffffffffff\r\nabc\r\n", True),
        (chunked + b"5\r\nab", False),
        (b"POST /v1/body HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", True),
        (b"POST /v1/body HTTP/9.9\r\n\r\n", True),
        (b"NONSENSE\r\n\r\n", True),
        (b"GET /v1/models\r\n\r\n", True),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", True),
        (b"POST /v1/body HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n", True),
        (b"POST http://[bad/v1/body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", True),
        (b"", False),
        (b"POST /v1/bo", False),
    )  # fmt: skip
