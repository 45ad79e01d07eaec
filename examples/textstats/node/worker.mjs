// Counts lines, words and characters of what it is sent: worker.mjs ENDPOINT SERVICE
import { Worker } from 'majordomo';

const LF = 0x0a;
const TOP = 10;

const [endpoint, service] = process.argv.slice(2);
if (endpoint === undefined || service === undefined) {
  console.error('usage: worker.mjs ENDPOINT SERVICE');
  process.exit(2);
}

const worker = new Worker(endpoint, service, (request) => statistics(Buffer.concat([...request.body])));
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => worker.drain());
console.log('ready');
await worker.closed;

/** The counts of a text, which is bytes in no particular encoding, as one line of JSON. */
function statistics(text) {
  let lines = 0;
  let characters = 0;
  let words = 0;
  const counts = new Map();
  let start = 0;
  const end = (position) => {
    if (position === start) return;
    words += 1;
    // Latin-1 makes of each byte the code unit of the same number, so strings compare as bytes do.
    const word = text.latin1Slice(start, position).replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
    counts.set(word, (counts.get(word) ?? 0) + 1);
  };
  for (let position = 0; position < text.length; position += 1) {
    const byte = text[position];
    if (byte === LF) lines += 1;
    if (byte < 0x80 || byte > 0xbf) characters += 1;
    if (!isWord(byte)) {
      end(position);
      start = position + 1;
    }
  }
  end(text.length);
  if (text.length > 0 && text[text.length - 1] !== LF) lines += 1;

  const top = [...counts].sort(([word, count], [other, otherCount]) => otherCount - count || (word < other ? -1 : 1));
  const shown = top.slice(0, TOP).map(([word, count]) => `["${escaped(word)}",${count}]`);
  return `{"lines":${lines},"words":${words},"characters":${characters},"top":[${shown.join(',')}]}`;
}

function isWord(byte) {
  return (
    byte >= 0x80 || (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x30 && byte <= 0x39)
  );
}

function escaped(word) {
  return word.replace(/[\x80-\xff]/g, (byte) => `\\u00${byte.charCodeAt(0).toString(16)}`);
}
