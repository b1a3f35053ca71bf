// node encode.mjs TOKENIZERS_PACKAGE TOKENIZER_JSON < DOCUMENTS > RESULT
//
// The same as tokenize_documents.cc, by Hugging Face's own library.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , packageDir, file] = process.argv;
const { Tokenizer } = createRequire(import.meta.url)(packageDir);
const tokenizer = Tokenizer.fromFile(file);
const documents = JSON.parse(readFileSync(0, "utf8"));

let seconds = Infinity;
let ids;
for (let repeat = 0; repeat < 3; ++repeat) {
  const begin = process.hrtime.bigint();
  const encodings = [];
  for (const text of documents) {
    encodings.push(await tokenizer.encode(text, null, { addSpecialTokens: false }));
  }
  seconds = Math.min(seconds, Number(process.hrtime.bigint() - begin) / 1e9);
  ids = encodings.map((encoding) => encoding.getIds());
}
const text = [];
for (const list of ids) text.push(await tokenizer.decode(list, true));
process.stdout.write(JSON.stringify({ ids, text, seconds }) + "\n");
