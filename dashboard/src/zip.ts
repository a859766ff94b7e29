// Code packages: opened for the editor, and packed again. Loaded when needed.
import { strFromU8, strToU8, unzip as inflate, zip as deflate, type Zippable } from "fflate";

export type Files = Map<string, Uint8Array>;

/** Files with more in them than a person edits here. */
export const FILES_MAX = 500;

export function unpack(bytes: Uint8Array): Promise<Files> {
  return new Promise((done, failed) => {
    inflate(bytes, (error, files) => {
      if (error) return failed(error);
      done(new Map(Object.entries(files).filter(([name]) => !name.endsWith("/"))));
    });
  });
}

/** A program begins like one; everything else needs no right to be run. */
const isProgram = (bytes: Uint8Array) =>
  (bytes[0] === 0x23 && bytes[1] === 0x21) || (bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46);

export function pack(files: Files): Promise<Uint8Array> {
  const entries: Zippable = {};
  for (const [name, bytes] of files) {
    const mode = isProgram(bytes) ? 0o100755 : 0o100644;
    // The same files are the same package.
    entries[name] = [bytes, { os: 3, attrs: mode << 16, mtime: "2000-01-01T00:00:00Z" }];
  }
  return new Promise((done, failed) => deflate(entries, { level: 6 }, (error, bytes) => (error ? failed(error) : done(bytes))));
}

/** The text, unless it is none. */
export function asText(bytes: Uint8Array): string | undefined {
  if (bytes.length > 1024 * 1024 || bytes.subarray(0, 8192).includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

export const fromText = (text: string) => strToU8(text);

export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += strFromU8(bytes.subarray(at, at + 0x8000), true);
  return btoa(text);
}
