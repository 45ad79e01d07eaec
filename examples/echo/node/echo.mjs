// The smallest hub: a worker, a client, one request, one reply.
import { Client, Worker } from 'majordomo';

const endpoint = process.argv[2];

const worker = new Worker(endpoint, 'echo', (request) => request.body);
const client = await Client.connect(endpoint);

const reply = await client.request('echo', ['hello', 'world']);
console.log(`${reply.length} frames: ${reply.map(String).join(' ')}`);

await client.close();
await worker.close();
