'use strict';

// What is pending in this JavaScript environment, and where the native layer's events go.

const native = require('../native.cjs');
const { fromFailure } = require('./error.cjs');

/** For each token, what takes its events, until one is the last, and what must not be collected before that. */
const expected = new Map();
let nextToken = 1;
let holds = 0;

const environment = new native.Environment(() => {
  for (const event of environment.drain()) {
    const entry = expected.get(event.token);
    // Nobody waits any more for what was given up.
    if (entry === undefined) continue;
    if (event.last) expected.delete(event.token);
    entry.take(event, event.failure === undefined ? undefined : fromFailure(event.failure));
  }
});

/** Gives events to come a number, and these events to `take`; `owner` stays alive until the last one. */
function expect(owner, take) {
  const token = nextToken;
  nextToken += 1;
  expected.set(token, { owner, take });
  return token;
}

/** Tells the listeners of a client or a worker what happened to its connection. */
function emit(emitter, { name, ...details }) {
  emitter?.emit(name, details);
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
    if (holds === 1) environment.hold(true);
    return this;
  }

  release() {
    if (!this.#held) return;
    this.#held = false;
    holds -= 1;
    if (holds === 0) environment.hold(false);
  }
}

/** A promise for the one event that `start(token)` leads to; `owner` and the process stay alive until it comes. */
function task(owner, start) {
  return new Promise((resolve, reject) => {
    const hold = new Hold();
    const token = expect(owner, (event, failure) => {
      hold.release();
      if (failure) reject(failure);
      else resolve(event);
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
