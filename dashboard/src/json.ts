// JSON as it came. A number of more digits than a script can count with would be another one when it is read and written again, so texts are
// only laid out here, and parts are cut out of them.

/** Deeper ones would be more spaces than text. */
const DEPTH_MAX = 100;

const SPACE = /\s/;

/** Where the string ends that begins here. */
function afterString(text: string, at: number): number {
  for (let end = at + 1; ; end++) {
    const char = text[end];
    if (char === "\\") end++;
    else if (char === '"' || char === undefined) return end + 1;
  }
}

/** The text on lines, indented; as it is if it is no JSON. */
export function pretty(text: string): string {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? "";
    if (SPACE.test(char)) continue;
    if (char === '"') {
      const end = afterString(text, at);
      out += text.slice(at, end);
      at = end - 1;
    } else if (char === "{" || char === "[") {
      let next = at + 1;
      while (SPACE.test(text[next] ?? "")) next++;
      if (text[next] === "}" || text[next] === "]") {
        out += char + text[next];
        at = next;
      } else {
        if (++depth > DEPTH_MAX) return text;
        out += char + line();
      }
    } else if (char === "}" || char === "]") {
      depth--;
      out += line() + char;
    } else if (char === ",") out += char + line();
    else if (char === ":") out += ": ";
    else out += char;
  }
  return out;
}

/** A member of an object, as it is written there. */
export function member(text: string, name: string): string | undefined {
  let depth = 0;
  let key = "";
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') {
      const end = afterString(text, at);
      // Before a colon it is the name of what follows; otherwise nobody asks for it.
      if (depth === 1 && !from) key = text.slice(at, end);
      at = end - 1;
    } else if (char === ":" && depth === 1 && !from) {
      if (JSON.parse(key) === name) from = at + 1;
    } else if ((char === "," && depth === 1) || ((char === "}" || char === "]") && --depth === 0)) {
      if (from) return text.slice(from, at).trim();
    } else if (char === "{" || char === "[") depth++;
  }
  return undefined;
}
