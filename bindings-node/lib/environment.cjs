'use strict';

// What is pending in this JavaScript environment, and where the native layer's events go.

const native = require('../native.cjs');
const { fromFailure } = require('./error.cjs');

/** For each token, what takes its events, until one is the last, and what must not be collected before that. */
const expected = new Map();
let nextToken = 1;
let holds = 0;

/** How many arguments tell of one thing: token, frames, a request's number, attempt and deadline, and an event. */
const STRIDE = 6;

/** Where the native layer leaves small frames: a buffer that it makes costs ten times as much as one that is made here. */
const scratch = Buffer.allocUnsafeSlow(1 << 16);

const environment = new native.Environment((...told) => {
  let begin = 0;
  for (let at = 0; at < told.length; at += STRIDE) {
    let frames = told[at + 1];
    if (typeof frames === 'number') {
      const end = begin + frames;
      frames = Buffer.allocUnsafe(frames);
      scratch.copy(frames, 0, begin, end);
      begin = end;
    }
    const token = told[at];
    const entry = expected.get(token);
    // Nobody waits any more for what was given up.
    if (entry === undefined) continue;
    const number = told[at + 2];
    const event = told[at + 5];
    if (event === undefined ? number === undefined : event.last) expected.delete(token);
    const failure = event?.failure === undefined ? undefined : fromFailure(event.failure);
    entry.take(event, failure, frames, number, told[at + 3], told[at + 4]);
  }
}, scratch);

/** Gives events to come a number, and these events to `take`; `owner` stays alive until the last one. */
function expect(owner, take) {
  const token = nextToken;
  nextToken += 1;
  expected.set(token, { owner, take });
  return token;
}

/** Tells the listeners of a client or a worker what happened to its connection. */
function emit(emitter, { name, ...details }) {
  try {
    emitter?.emit(name, details);
  } catch (error) {
    // Nobody's but the process's, and not in the way of what else there is to tell.
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Forgets a token: further events of it are dropped. */
function forget(token) {
  expected.delete(token);
}

/** A reason for the process to stay alive, until `release`. Both may be called again without effect. */
class Hold {
  #held = false;

  take() {
    if (this.#held) return this;
    this.#held = true;
    holds += 1;
    if (!alive) keepAlive(true);
    return this;
  }

  release() {
    if (!this.#held) return;
    this.#held = false;
    holds -= 1;
    if (holds === 0) letGo();
  }
}

/** Whether the native layer keeps the process alive. */
let alive = false;
let lettingGo = false;

function keepAlive(wanted) {
  alive = wanted;
  environment.hold(wanted);
}

/** Nothing holds the process; but whoever has got an answer may ask again at once, and then nothing has to change. */
async function letGo() {
  if (lettingGo) return;
  lettingGo = true;
  for (let turn = 0; turn < 4; turn += 1) await undefined;
  lettingGo = false;
  if (holds === 0 && alive) keepAlive(false);
}

/** A promise for the one event that `start(token)` leads to; `owner` and the process stay alive until it comes. */
function task(owner, start) {
  return new Promise((resolve, reject) => {
    const hold = new Hold();
    const token = expect(owner, (event, failure) => {
      if (failure) reject(failure);
      else resolve(event);
      hold.release();
    });
    try {
      start(token);
      hold.take();
    } catch (error) {
      forget(token);
      throw error;
    }
  });
}

module.exports = { emit, environment, expect, forget, Hold, task };
