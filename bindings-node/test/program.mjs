// Programs in processes of their own, which tell of their progress in lines.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import readline from 'node:readline';

const folder = fileURLToPath(new URL('.', import.meta.url));

/** Runs a program of its own; `line()` is its next line of output, `ended` its exit status or signal. */
export function program(t, source, ...args) {
  const code = `import { Broker, Client, Worker } from 'majordomo';\n${source}`;
  return run(t, ['--input-type=module', '--eval', code, '--', ...args]);
}

/** Runs Node with these arguments. What the program says on standard error is shown, unless `stderr` is another place. */
export function run(t, args, stderr = 'inherit') {
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ['pipe', 'pipe', stderr] });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, 'close').then(([status, signal]) => signal ?? status);
  t.after(() => {
    child.kill('SIGKILL');
    return ended;
  });
  return { child, ended, line: async () => (await lines.next()).value };
}
