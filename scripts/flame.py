#!/usr/bin/env python3
"""Folds what `perf script` prints into one line per stack, and draws such lines as a flame graph in SVG.

    perf script | flame.py fold > stacks.folded
    flame.py draw < stacks.folded > flame.svg

The drawing needs no script: a browser shows a frame's name and share when the mouse rests on it.
"""
import re
import sys
import zlib
from collections import Counter
from xml.sax.saxutils import escape

from symbols import plain

WIDTH, ROW, LEAST = 1600, 16, 0.4  # pixels; a narrower frame is not drawn


# Where a whole stack begins: a thread of libc's, the program, or the kernel's half of a new thread.
OUTERMOST = {
    *("_start", "__libc_start_main", "__libc_start_call_main", "main", "start_thread"),
    *("clone", "__clone", "clone3", "__clone3", "ret_from_fork", "ret_from_fork_asm"),
}


def short(name):
    """A symbol as a person reads it: no offset, no hash, no generics."""
    name = plain(re.sub(r"\+0x[0-9a-f]+$", "", name.strip()))
    return name.replace(";", ",") or "?"


def whole(head, frames):
    """A stack as a line, from the outermost frame in. One that was not unwound to its beginning says so, lest its frames look like one's that
    others are called by."""
    frames = frames[::-1]
    while frames and frames[0] == "[unknown]":
        del frames[0]
    if not frames or frames[0] not in OUTERMOST:
        frames.insert(0, "(cut off)")
    return ";".join([head] + frames)


def fold(lines):
    """One sample is a head, its frames from the innermost out, and an empty line."""
    stacks, head, frames = Counter(), None, []
    for line in lines:
        line = line.rstrip("\n")
        if not line:
            if head is not None and frames:
                stacks[whole(head, frames)] += 1
            head, frames = None, []
        elif head is None:
            head = re.sub(r"\s+\d+(/\d+)?\s.*$", "", line.strip())
        else:
            match = re.match(r"\s*[0-9a-f]+\s+(.*)\s\((.*)\)$", line)
            if match:
                frames.append(short(match.group(1)))
    if head is not None and frames:
        stacks[whole(head, frames)] += 1
    return stacks


def tree(lines):
    root = {"n": 0, "below": {}}
    for line in lines:
        stack, count = line.rsplit(" ", 1)
        node, count = root, int(count)
        root["n"] += count
        for frame in stack.split(";"):
            node = node["below"].setdefault(frame, {"n": 0, "below": {}})
            node["n"] += count
    return root


def draw(root):
    boxes, deepest = [], 0

    def place(name, node, x, depth):
        nonlocal deepest
        width = node["n"] / root["n"] * WIDTH
        if width < LEAST:
            return
        deepest = max(deepest, depth)
        boxes.append((name, node["n"], x, width, depth))
        for below in sorted(node["below"]):
            place(below, node["below"][below], x, depth + 1)
            x += node["below"][below]["n"] / root["n"] * WIDTH

    place("all", root, 0.0, 0)
    height = (deepest + 1) * ROW
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="monospace" font-size="11">'
    ]
    for name, count, x, width, depth in boxes:
        hue = zlib.crc32(name.split("::")[0].encode()) % 60
        y = height - (depth + 1) * ROW
        share = 100 * count / root["n"]
        text = name if len(name) * 6.7 < width - 4 else name.rsplit("::", 1)[-1]
        text = text if len(text) * 6.7 < width - 4 else text[: max(0, int((width - 4) / 6.7))]
        out.append(
            f"<g><title>{escape(name)}: {count} samples, {share:.2f} %</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" height="{ROW - 1}" rx="2" '
            f'fill="hsl({hue},75%,62%)"/><text x="{x + 3:.1f}" y="{y + 11}">{escape(text)}</text></g>'
        )
    out.append("</svg>")
    return "\n".join(out)


def main():
    what = sys.argv[1:]
    sys.setrecursionlimit(10_000)
    if what == ["fold"]:
        for stack, count in sorted(fold(sys.stdin).items()):
            print(stack, count)
    elif what == ["draw"]:
        root = tree(line for line in sys.stdin if line.strip())
        if not root["n"]:
            sys.exit("flame.py: there are no samples")
        print(draw(root))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
