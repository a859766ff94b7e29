"""Symbols as a person reads them, for what draws and counts by them."""
import re

# Whose method it is stays, of which trait does not; what is inside of others comes first.
RULES = ((r"<([^<>]*) as [^<>]*>", r"\1"), (r"(?<![\w:>])<([^<>]*)>(?=::)", r"\1"), (r"(?<!-)<[^<>]*>", ""))


def plain(name):
    """Without hash, generics, the trait whose method it is, and callgrind's number of a function within itself."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", re.sub(r"'\d+$", "", name))
    while (less := next((less for rule, to in RULES if (less := re.sub(rule, to, name)) != name), None)) is not None:
        name = less
    return name.replace("::::", "::")
