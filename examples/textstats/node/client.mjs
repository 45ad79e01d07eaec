// Sends files to text statistics services: client.mjs ENDPOINT SERVICE... < names, each followed by a zero byte
import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';

import { Client, MajordomoError } from 'majordomo';

const [endpoint, ...services] = process.argv.slice(2);
if (endpoint === undefined || services.length === 0) {
  console.error('usage: client.mjs ENDPOINT SERVICE... < names');
  process.exit(2);
}
const client = await Client.connect(endpoint, { timeout: 120_000, retries: 3 }).catch((error) => {
  console.error(`client.mjs: ${error.message}`);
  process.exit(2);
});

let failed = false;
let file = 0;
for (const name of names(await buffer(process.stdin))) {
  const content = await readFile(name).catch(() => undefined);
  for (const service of services) {
    const { ms, reply, error } = await ask(service, content);
    failed ||= error !== undefined;
    const outcome = error === undefined ? `"ok":true,"reply":${reply}` : `"ok":false,"error":"${error}"`;
    console.log(`{"file":${file},"service":"${service}","ms":${ms.toFixed(3)},${outcome}}`);
  }
  file += 1;
}
await client.close();
process.exitCode = failed ? 1 : 0;

/** One request: its time in milliseconds, and the reply's text or the name of what went wrong. */
async function ask(service, content) {
  if (content === undefined) return { ms: 0, error: 'UNREADABLE' };
  const start = performance.now();
  try {
    const reply = await client.request(service, content);
    const ms = performance.now() - start;
    const text = reply.toString(0, 'latin1');
    return reply.length === 1 && /^[\x20-\x7e]+$/.test(text) ? { ms, reply: text } : { ms, error: 'BAD_REPLY' };
  } catch (error) {
    if (!(error instanceof MajordomoError)) throw error;
    return { ms: performance.now() - start, error: error.code };
  }
}

/** The names in the input; they are bytes, as file systems have them. */
function* names(input) {
  let start = 0;
  for (let end = input.indexOf(0); end !== -1; end = input.indexOf(0, start)) {
    yield input.subarray(start, end);
    start = end + 1;
  }
}
