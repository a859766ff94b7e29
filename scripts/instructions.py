#!/usr/bin/env python3
"""What calls take, by place, from what callgrind_annotate says of a short and a long run.

    instructions.py FEW MANY CALLS PLACES

FEW and MANY are its output (--threshold=100 --show-percs=no), CALLS by how many calls the runs differ, PLACES how many functions are listed.
An instruction belongs to the file it was written in, wherever it was inlined; one of the standard library's generic code, which says
nothing by itself, to the function it was inlined into.
"""
import re
import sys
from collections import Counter

from symbols import plain

LINE = re.compile(r"^\s*([\d,]+)\s+(\S.*?):(\S.*?)(?:\s+\[([^\]]*)\])?$")
OURS = "hearth"
# Functions in what the processor can do by itself and valgrind cannot: a real call takes far fewer.
EMULATED = ("sha2",)


def read(lines):
    """Instructions by (file, function, object)."""
    places = Counter()
    for line in lines:
        found = LINE.match(line.rstrip("\n"))
        if found and not found.group(3).startswith("\\"):
            count, path, function, program = found.groups()
            places[path, function, program or ""] += int(count.replace(",", ""))
    return places


def owner(path, function, program):
    """The crate, or of ours the module, that a place belongs to."""
    crate = re.search(r"/(?:registry/src/[^/]+|git/checkouts)/([^/]+?)-\d+\.\d[^/]*/", path)
    if crate:
        return crate.group(1)
    ours = re.search(r"(?:^|/)src/((?:[a-z0-9_]+/)*[a-z0-9_]+)\.rs$", path)
    if ours and "/rustc/" not in path and "/library/" not in path:
        return "::".join([OURS] + [part for part in ours.group(1).split("/") if part not in ("mod", "main", "lib")])
    name = re.match(r"[&*(\[<]*(?:mut |dyn )?([a-z_][a-z0-9_]*)::(?:([a-z_][a-z0-9_]*)::)?", plain(function))
    if name and name.group(1) == OURS and name.group(2):
        return f"{OURS}::{name.group(2)}"
    if name:
        return name.group(1)
    if path.startswith("./"):
        # As Debian builds it.
        return "libc"
    library = re.sub(r"(\.so|-\d)[-.\d]*$", "", program.rsplit("/", 1)[-1])
    return "C, in the program" if library == OURS else library or "?"


def groups(places):
    """By owner; what is ours by its first two modules."""
    found = Counter()
    for place, count in places.items():
        whose = owner(*place)
        found["::".join(whose.split("::")[:3])] += count
    return found


def report(few, many, calls, listed):
    difference = Counter(many)
    difference.subtract(few)
    per_call = {place: count / calls for place, count in difference.items() if count}
    total = sum(per_call.values())
    if total <= 0:
        sys.exit("instructions.py: the longer run took no more than the short one")
    by_owner = groups(per_call)
    emulated = sum(count for whose, count in by_owner.items() if whose in EMULATED)
    out = [f"{total:>10,.0f}  in all"]
    if emulated:
        out.append(f"{total - emulated:>10,.0f}  without {', '.join(EMULATED)}, which valgrind cannot leave to the processor")
    own = sorted(((c, w) for w, c in by_owner.items() if w.split("::")[0] == OURS), reverse=True)
    rest = sorted(((c, w) for w, c in by_owner.items() if w.split("::")[0] != OURS), reverse=True)
    least = total / 1000

    def section(title, rows):
        out.extend(["", f"{sum(c for c, _ in rows):>10,.0f}  {title}"])
        out.extend(f"{count:>10,.0f}      {whose}" for count, whose in rows if count >= least)
        small = sum(count for count, _ in rows if count < least)
        if abs(small) >= 0.5:
            out.append(f"{small:>10,.0f}      less than a thousandth each")

    section("Hearth's own, by module", own)
    section("the rest, by crate and library", rest)
    out.extend(["", "The largest functions, without what they call:"])
    functions = Counter()
    for (_, function, _), count in per_call.items():
        functions[plain(function)] += count
    out.extend(f"{count:>10,.0f}      {function[:140]}" for function, count in functions.most_common(listed))
    return "\n".join(out)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    few, many, calls, listed = sys.argv[1:]
    with open(few, encoding="utf-8") as short, open(many, encoding="utf-8") as long:
        print(report(read(short), read(long), int(calls), int(listed)))


if __name__ == "__main__":
    main()
