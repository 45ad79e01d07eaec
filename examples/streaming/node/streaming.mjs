// A worker that answers in parts, and a client that takes them as they come.
import { Client, Worker } from 'majordomo';

const endpoint = process.argv[2];

// Every yield but the last is a partial reply; the last one is the final reply.
async function* count(request) {
  for (let number = 1; number <= Number(request.body.toString()); number += 1) yield String(number);
  yield 'done';
}

const worker = new Worker(endpoint, 'streaming', count, { protocol: '0.2' });
const client = await Client.connect(endpoint, { protocol: '0.2' });

const parts = client.stream('streaming', '5');
for await (const part of parts) console.log(`${parts.final ? 'final' : 'part'} ${part}`);

await client.close();
await worker.close();
