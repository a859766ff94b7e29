// JSON is laid out and cut, and never read and written again.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { transformWithOxc } from "../../dashboard/node_modules/vite/dist/node/index.js";

const source = new URL("../../dashboard/src/json.ts", import.meta.url);
const { code } = await transformWithOxc(await readFile(source, "utf8"), source.pathname);
const { member, pretty } = await import(`data:text/javascript,${encodeURIComponent(code)}`);

test("what is laid out is what JSON.stringify would make of it, but for the numbers", () => {
  for (const value of [null, true, 0, "", "a\"b\\", '\\"', "{[,:]}", [], {}, [[]], [{}], { a: {} }, { a: [], b: { c: [1, "x, y: z", null] } }, { "": "\u2028\u0007é😀" }, { "k\"": [-1.5e-7] }]) {
    const wanted = JSON.stringify(value, null, 2);
    for (const text of [JSON.stringify(value), wanted, ` \n\t${JSON.stringify(value, null, 7)}\r\n `]) assert.equal(pretty(text), wanted, text);
  }
});

test("numbers and the order of members stay as they are written", () => {
  const text = '{"10":12345678901234567890,"2":1.10,"a":[1E400,-0.0,1e+2],"a":0}';
  assert.equal(pretty(text).replace(/\s/g, ""), text);
});

test("what is no JSON, or deeper than anybody reads, stays as it came", () => {
  for (const text of ["", "no", "{", '{"a":1}}', "'a'", "[1,]", "[".repeat(150) + "]".repeat(150)]) assert.equal(pretty(text), text);
});

test("a member is cut out as it is written", () => {
  const text = '{ "a:b,{" : "x", "payload" : { "payload": [1.10, {"a": "}"}] } , "z": [ ] , "s":"payload" , "n": 12345678901234567890 }';
  assert.equal(member(text, "payload"), '{ "payload": [1.10, {"a": "}"}] }');
  assert.equal(member(text, "a:b,{"), '"x"');
  assert.equal(member(text, "z"), "[ ]");
  assert.equal(member(text, "s"), '"payload"');
  assert.equal(member(text, "n"), "12345678901234567890");
  assert.equal(member(text, "a"), undefined);
  assert.equal(member("{}", "a"), undefined);
  assert.equal(member('{"\\u0061":0}', "a"), "0");
});
