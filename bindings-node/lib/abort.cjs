'use strict';

// One listener for each signal, however many requests it may cancel: more than ten make Node warn of a leak.

/** For each signal that is listened to: the listener, and what it calls. */
const listened = new WeakMap();

/** Calls `call` when the signal is aborted. The function that is returned takes this back. */
function onAbort(signal, call) {
  let entry = listened.get(signal);
  if (entry === undefined) {
    const calls = new Set();
    entry = { calls, listener: () => calls.forEach((each) => each()) };
    listened.set(signal, entry);
    signal.addEventListener('abort', entry.listener, { once: true });
  }
  entry.calls.add(call);
  return () => {
    if (!entry.calls.delete(call) || entry.calls.size > 0) return;
    signal.removeEventListener('abort', entry.listener);
    listened.delete(signal);
  };
}

module.exports = { onAbort };
