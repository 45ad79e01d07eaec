// One client with many requests in flight, and a worker that holds four of them at once.
import { Client, Worker } from 'majordomo';

const endpoint = process.argv[2];

const square = async (request) => String(Number(request.body.toString()) ** 2);
const worker = new Worker(endpoint, 'many_at_once', square, { concurrency: 4 });
const client = await Client.connect(endpoint);

const numbers = Array.from({ length: 100 }, (_, index) => index + 1);
const replies = await Promise.all(numbers.map((number) => client.request('many_at_once', String(number))));
const sum = replies.reduce((total, reply) => total + Number(reply.toString()), 0);
console.log(`${numbers.length} requests at once, ${replies.length} replies, sum of squares ${sum}`);

await client.close();
await worker.close();
