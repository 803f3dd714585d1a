"""The story of two studios and one film strip, told by doing it:  PYTHONPATH=src python3 docs/two_studios.py [folder]

Rules: everything is real. Each studio is an instance on disk in a process of its own, the pixels are computed here, and
every number that is printed was counted. Nothing is left outside of the folder (without one: a new temporary one).

The first half of this file is the story, the second half the picture.
"""

from __future__ import annotations

import argparse
import math
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

try:
    from artdag_fed import Bundle, Federation, Node, export, invalidate, node, plan, pull, run
    from artdag_fed import open as open_instance
except ImportError as error:
    sys.exit(
        f"artdag_fed cannot be imported ({error}). With Python 3.11 or newer, from the project's folder: "
        "PYTHONPATH=src python3 docs/two_studios.py"
    )

FRAMES = 8


# --- what is to be computed -----------------------------------------------------------------


def strip(look: str) -> Node:
    """The recipe of the strip: nothing is computed yet, but each node has its id, the same one in both studios."""
    valley = node("ridges@1", seed=7)
    frames = []
    for number in range(FRAMES):
        frame = node("scene@1", valley, time=number / (FRAMES - 1))
        frame = node("glow@1", frame, radius=7)
        frame = node("grain@1", frame, seed=number, amount=7)
        frames.append(node("grade@1", frame, look=look))
    return node("strip@1", *frames, columns=4)


def leader() -> Node:
    """The countdown before the film: studio B's own work, made of nothing of studio A's."""
    return node("strip@1", *(node("countdown@1", number=number) for number in (3, 2, 1)), columns=3)


# --- the story ------------------------------------------------------------------------------


def studio_a(folder: Path) -> None:
    a = open_instance(folder / "studio-a")
    heading(1, f"Studio A renders the strip: {FRAMES} frames of a valley, {FRAMES * 4 + 2} steps in all.")
    render(a, strip("warm"), folder / "strip-by-a.png")


def studio_b(folder: Path) -> None:
    b = open_instance(folder / "studio-b")

    def fetch(peer: str) -> Bundle:
        """What B calls to get a peer's results. Here it opens the peer's folder, whose process is over; later a network
        may be behind it: to the library it is just a function."""
        return export(open_instance(folder / peer), peer)

    heading(2, "Studio B, another process with another folder, renders its own countdown.")
    b = render(b, leader(), folder / "leader-by-b.png")
    own = frozenset(b)

    heading(3, "B trusts A and pulls A's results. Each is kept with the name of who it came from.")
    began = time.perf_counter()
    b = pull(b, fetch, "studio-a", {"studio-a"}.__contains__)
    said(f"{b.report.admitted} results admitted, {sum(b.report.rejected.values())} rejected", began)

    heading(4, "B renders the same strip. The ids are the same, so all of it is there already.")
    b = render(b, strip("warm"), folder / "strip-by-b.png", same_as=folder / "strip-by-a.png")

    heading(5, "B wants another last step: moonlight. Only what is new is computed.")
    changed = plan(b, strip("moonlight")).computed
    b = render(b, strip("moonlight"), folder / "moonlight-by-b.png", expected=len(changed))

    heading(6, "B no longer trusts A. What came from A goes, and what B built on it.")
    held, began = len(b), time.perf_counter()
    b = invalidate(b, "studio-a", derived=True)
    said(f"{b.report.dropped} of {held} results dropped, {len(b)} left", began)
    said(f"from A or resting on A: {len(b.provenance) + len(b.lineage)} left")
    said("B's own countdown: " + ("all of it still there" if frozenset(b) == own else "NOT what it was"))

    heading(7, "B renders the strip by itself.")
    render(b, strip("warm"), folder / "strip-by-b-alone.png", same_as=folder / "strip-by-a.png")


def render(fed: Federation, target: Node, path: Path, *, same_as: Path | None = None, expected: int = -1) -> Federation:
    """Run the recipe against what the studio holds, write the picture, and say what was computed for it."""
    began = time.perf_counter()
    done = run(fed, target, runner)
    planned = ", as planned" if len(done.computed) == expected else ""
    said(f"{len(done.computed)} computed{planned}, {len(done.reused)} reused", began)
    path.write_bytes(png(done.value))
    if same_as is not None:
        same = path.read_bytes() == same_as.read_bytes()
        said(f"the picture is {'the same, byte for byte' if same else 'NOT the same'}: {path.name}, {same_as.name}")
    return done.federation


def heading(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def said(text: str, began: float | None = None) -> None:
    took = "" if began is None else f"{time.perf_counter() - began:8.2f} s"
    print(f"   {text:<58}{took}".rstrip(), flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Two studios and one film strip.")
    arguments.add_argument("folder", nargs="?", type=Path, help="where to work (else a new temporary folder)")
    arguments.add_argument("--only", choices=("a", "b"), help=argparse.SUPPRESS)  # one studio, in this process
    given = arguments.parse_args()
    if given.only:
        return {"a": studio_a, "b": studio_b}[given.only](given.folder)

    folder = (given.folder or Path(tempfile.mkdtemp(prefix="two-studios-"))).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.exit(f"{folder} is not an empty folder: the story begins with nothing. Name another one.")
    folder.mkdir(parents=True, exist_ok=True)

    began = time.perf_counter()
    print("Two studios, one film strip.")
    print("Each step of the work has an id, made from what is to be computed: the operation, its")
    print("parameters, the ids of its inputs. So a result made in one studio can be used in another.")
    for studio in ("a", "b"):
        done = subprocess.run([sys.executable, __file__, "--only", studio, str(folder)], check=False)
        if done.returncode:
            sys.exit(f"studio {studio.upper()} ended with exit code {done.returncode}: see above")
    print(f"\nThe whole story took {time.perf_counter() - began:.1f} s. B's strip in moonlight, and the one both made:")
    print(f"   {folder / 'moonlight-by-b.png'}\n   {folder / 'strip-by-b-alone.png'}")


# --- the picture ----------------------------------------------------------------------------

WIDTH, HEIGHT, SHORE = 240, 135, 99  # of a frame, in pixels; below the shore lies the lake

Image = dict[str, Any]  # {"width": int, "height": int, "pixels": bytes}: RGB, row by row; data that the codec carries
Colour = tuple[float, float, float]

# The sky by the sun's height: (height, zenith, horizon).
SKIES: tuple[tuple[float, Colour, Colour], ...] = (
    (-0.35, (8, 10, 30), (22, 28, 58)),
    (-0.12, (24, 26, 70), (150, 78, 92)),
    (0.04, (58, 66, 128), (250, 146, 84)),
    (0.25, (84, 124, 190), (248, 204, 150)),
    (0.70, (66, 134, 214), (190, 220, 240)),
)


def image(width: int, height: int, pixels: bytes | bytearray) -> Image:
    return {"width": width, "height": height, "pixels": bytes(pixels)}


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def sky_at(sun: float) -> tuple[Colour, Colour]:
    for (low, zenith, horizon), (high, zenith2, horizon2) in pairwise(SKIES):
        if sun <= high:
            share = max(0.0, (sun - low) / (high - low))
            return mixed(zenith, zenith2, share), mixed(horizon, horizon2, share)
    return SKIES[-1][1:]


def ridges(*, seed: int) -> tuple[tuple[float, ...], ...]:
    """Three mountain ridges, far to near: the height of each over a panorama of twice a frame's width."""
    dice = random.Random(seed)
    layers = []
    for height, rough in ((45, 1.0), (30, 0.8), (14, 0.5)):
        waves = [(dice.uniform(0.6, 1.4) * 2**k, dice.uniform(0, 6.28), rough**k / 1.9**k) for k in range(6)]
        line = [sum(a * math.sin(f * x / 39 + p) for f, p, a in waves) for x in range(2 * WIDTH)]
        layers.append(tuple(height * (0.75 + 0.32 * y) for y in line))
    return tuple(layers)


def scene(layers: tuple[tuple[float, ...], ...], *, time: float) -> Image:
    """The valley at a time of day (0: before sunrise, 1: night), seen from a camera that moves slowly to the right."""
    sun = -0.12 + 0.5 * math.sin(math.pi * 1.15 * time)
    sun_x, sun_y = WIDTH * (0.14 + 0.74 * time), SHORE - 22 - 150 * sun
    zenith, horizon = sky_at(sun)
    light = mixed((255, 120, 60), (255, 244, 214), max(0.0, min(1.0, sun * 2.2)))
    night = max(0.0, min(1.0, -sun * 4))
    dice = random.Random(11)
    stars = {(dice.randrange(WIDTH), dice.randrange(SHORE - 20)): dice.uniform(0.2, 0.9) for _ in range(130)}
    moon = [(x, y) for x in range(-8, 9) for y in range(-8, 9) if x * x + y * y < 58 < (x - 4) ** 2 + (y + 2) ** 2 + 5]
    stars |= {(48 + x, 26 + y): 1.0 for x, y in moon}

    tops = []
    for far, layer in enumerate(layers):
        moved = int(time * WIDTH * (0.15, 0.35, 0.8)[far])
        tops.append([SHORE - max(1.0, height) for height in layer[moved : moved + WIDTH]])
    earth = [mixed(horizon, (14, 22, 34), share) for share in (0.45, 0.70, 0.92)]

    rows: list[bytearray] = []
    for y in range(SHORE):
        red, green, blue = mixed(zenith, horizon, (y / SHORE) ** 1.4)
        row = bytearray()
        for x in range(WIDTH):
            near = 2 if y >= tops[2][x] else 1 if y >= tops[1][x] else 0 if y >= tops[0][x] else -1
            away = (x - sun_x) ** 2 + (y - sun_y) ** 2
            if near < 0:
                shine = 1.0 if away < 90 else (1 - 0.8 * night) * (0.62 / (1 + away / 360) + 0.16 / (1 + away / 5800))
                r, g, b = red, green, blue
                if night and (x, y) in stars:
                    shine, r, g, b = 0, *mixed((r, g, b), (255, 250, 235), night * stars[x, y])
            else:
                # Mist gathers at the foot of each ridge, and the sun colours the rims that face it.
                deep = min(1.0, (y - tops[near][x]) / 33)
                r, g, b = mixed(earth[near], horizon, 0.30 * deep * (1 - 0.35 * near))
                shine = (1 - night) * (0.22 / (1 + away / 1600)) * (1 - deep)
            row += bytes((
                int(r + (light[0] - r) * shine),
                int(g + (light[1] - g) * shine),
                int(b + (light[2] - b) * shine),
            ))  # fmt: skip
        rows.append(row)

    for y in range(SHORE, HEIGHT):  # the lake: what stands above it, upside down, rippled and a little darker
        depth = y - SHORE
        mirror = rows[SHORE - 1 - int(depth * 2.2)]
        sway = 3 * round(math.sin(depth * 1.7 + time * 9) * (0.6 + depth / 12))
        row = mirror[-sway:] + mirror[:-sway] if sway else mirror
        dark = 0.78 - 0.008 * depth + (0.07 if depth % 5 == 0 else 0)
        rows.append(bytearray(int(value * dark) for value in row))
    return image(WIDTH, HEIGHT, b"".join(rows))


def glow(source: Image, *, radius: int) -> Image:
    """The bright parts, blurred and laid over the picture: what light does in a lens."""
    width, height, pixels = source["width"], source["height"], source["pixels"]
    bright = [max(0, value - 150) for value in pixels]
    across: list[int] = []
    for start in range(0, len(bright), width * 3):
        across += blurred(bright[start : start + width * 3], 3, radius)
    over = blurred(across, width * 3, radius)
    return image(width, height, bytes(min(255, value + more) for value, more in zip(pixels, over, strict=True)))


def blurred(values: list[int], step: int, radius: int) -> list[int]:
    """Each value as the mean of those up to `radius` steps before and behind it."""
    edge = radius * step
    padded = values[:step] * radius + values + values[-step:] * radius
    sums = [0] * step
    for at, value in enumerate(padded):  # running sums, each of every `step`-th value
        sums.append(sums[at] + value)
    span = 2 * radius + 1
    return [(high - low) // span for low, high in zip(sums, sums[2 * edge + step :], strict=False)]


def grain(source: Image, *, seed: int, amount: int) -> Image:
    """Film grain: the same for the same seed, on every machine."""
    noise = random.Random(seed).randbytes(source["width"] * source["height"])
    speck = [value * (2 * amount + 1) // 256 - amount for value in noise for _ in range(3)]
    pixels = (max(0, min(255, value + n)) for value, n in zip(source["pixels"], speck, strict=True))
    return image(source["width"], source["height"], bytes(pixels))


def grade(source: Image, *, look: str) -> Image:
    """The last step: a colour curve for each channel, and corners that fall off."""
    curves = {"warm": ((1.06, 4, 0.94), (1.0, 0, 0.97), (0.90, 6, 1.06)),
              "moonlight": ((0.54, 6, 1.30), (0.58, 10, 1.20), (0.80, 34, 0.85))}[look]  # fmt: skip
    width, height, pixels = source["width"], source["height"], bytearray(source["pixels"])
    for channel, (gain, lift, gamma) in enumerate(curves):
        curve = bytes(max(0, min(255, round(lift + gain * 255 * (v / 255) ** gamma))) for v in range(256))
        pixels[channel::3] = pixels[channel::3].translate(curve)
    x2 = [((2 * x + 1) / width - 1) ** 2 for x in range(width) for _ in range(3)]
    y2 = [((2 * y + 1) / height - 1) ** 2 for y in range(height)]
    light = (1 - 0.26 * (a + b) ** 1.5 / 2 for b in y2 for a in x2)
    return image(width, height, bytes(int(value * share) for value, share in zip(pixels, light, strict=True)))


def countdown(*, number: int) -> Image:
    """One frame of a film leader: two rings, a hand that goes round, a digit of three by five squares."""
    digit = {3: "111001111001111", 2: "111001111100111", 1: "010110010010111"}[number]
    pixels = bytearray()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            dx, dy = x - WIDTH / 2, y - HEIGHT / 2
            away, column, line = math.hypot(dx, dy), int(dx + 15) // 10, int(dy + 25) // 10
            shade = 96 if math.atan2(dx, -dy) % 6.2832 < number * 1.5708 else 150
            if 41 <= away < 43.5 or 54 <= away < 56.5 or abs(dx) < 0.6 or abs(dy) < 0.6:
                shade = 225
            if 0 <= column < 3 and 0 <= line < 5 and digit[line * 3 + column] == "1":
                shade = 22
            pixels += bytes((shade, shade - 3, max(0, shade - 14)))
    return image(WIDTH, HEIGHT, pixels)


def film(*frames: Image, columns: int) -> Image:
    """The frames on strips of film, `columns` on each."""
    base, gap, band = (16, 15, 18), 8, 18
    width, tall = columns * (WIDTH + gap) + gap, HEIGHT + 2 * band
    rows: list[bytearray] = []
    for start in range(0, len(frames), columns):
        sheet = [bytearray(base * width) for _ in range(tall)]
        for x in range(7, width - 10, 18):  # the holes that the film is moved by, with their corners rounded
            for y in range(9):
                inset = 1 if y in (0, 8) else 0
                for top in (4, tall - 13):
                    sheet[top + y][3 * (x + inset) : 3 * (x + 10 - inset)] = bytes((228, 224, 214)) * (10 - 2 * inset)
        for column, frame in enumerate(frames[start : start + columns]):
            left = 3 * (gap + column * (WIDTH + gap))
            for y in range(HEIGHT):
                sheet[band + y][left : left + 3 * WIDTH] = frame["pixels"][3 * WIDTH * y : 3 * WIDTH * (y + 1)]
        rows += [*([bytearray(bytes((228, 224, 214)) * width)] * gap if rows else []), *sheet]
    return image(width, len(rows), b"".join(rows))


def png(picture: Image) -> bytes:
    """The picture as a PNG file: 8-bit RGB, one compressed chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height, pixels = picture["width"], picture["height"], picture["pixels"]
    lines = b"".join(b"\0" + pixels[y * width * 3 : (y + 1) * width * 3] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 6)) + chunk(b"IEND", b"")


OPERATIONS: dict[str, Callable[..., Any]] = {
    "ridges@1": ridges,
    "scene@1": scene,
    "glow@1": glow,
    "grain@1": grain,
    "grade@1": grade,
    "countdown@1": countdown,
    "strip@1": film,
}


def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    """How a node is computed: the one thing that the library asks of a studio."""
    return OPERATIONS[op](*inputs, **params)


if __name__ == "__main__":
    main()
