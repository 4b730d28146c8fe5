// The usual build, for comparison: delayed jobs of BullMQ on Redis. Prints {"late": [ms…], "last": ms} as JSON.
// node bullmq.mjs PORT SPREAD_SECONDS COUNT default|tuned
import { Queue, Worker } from 'bullmq';

const [port, spread, count, mode] = [Number(process.argv[2]), Number(process.argv[3]), Number(process.argv[4]), process.argv[5]];
const connection = { port, host: '127.0.0.1', maxRetriesPerRequest: null };
const options = mode === 'tuned' ? { concurrency: 200 } : {};

async function run(seconds) {
  const name = `sessions-${seconds}`;
  const queue = new Queue(name, { connection });
  const late = [];
  let lastAt = 0;
  const worker = new Worker(name, async (job) => {
    lastAt = Date.now();
    late.push(performance.timeOrigin + performance.now() - job.data.due);
  }, { connection, ...options });
  await worker.waitUntilReady();
  const start = Date.now() + 3000 + count / 5;   // adding takes a while: nothing may be due before it is in
  let lastDue = 0;
  for (let i = 0; i < count; i += 1000) {
    const jobs = [];
    for (let k = i; k < Math.min(i + 1000, count); k++) {
      const due = Math.round(start + (seconds * 1000 * (k + 1)) / count);
      lastDue = Math.max(lastDue, due);
      jobs.push({ name: 'expire', data: { due }, opts: { delay: due - Date.now(), removeOnComplete: true } });
    }
    await queue.addBulk(jobs);
  }
  while (late.length < count) await new Promise((resolve) => setTimeout(resolve, 100));
  await worker.close();
  await queue.close();
  return { late, last: lastAt - lastDue };
}

const evenly = await run(spread);
const burst = await run(1);
// exit only when it is all written: a pipe takes 128 KiB at a time
process.stdout.write(JSON.stringify({ late: evenly.late, last: burst.last }), () => process.exit(0));
