'use strict';

// A body: an immutable list of frames.

const { invalid, show } = require('./error.cjs');

class Message extends Array {
  // What `map`, `filter` and the like make is an ordinary array.
  static get [Symbol.species]() {
    return Array;
  }

  static from(body) {
    return new Message(body);
  }

  static of(...frames) {
    return new Message(frames);
  }

  constructor(body = []) {
    super();
    // Copies: the frames belong to this message alone and do not change with the caller's buffers.
    fill(this, frames(body).map((frame) => Buffer.from(frame)));
  }

  toString(index = 0, encoding = 'utf8') {
    return this[index]?.toString(encoding) ?? '';
  }
}

function fill(message, buffers) {
  for (let index = 0; index < buffers.length; index += 1) message[index] = buffers[index];
  return Object.freeze(message);
}

/** A message of buffers that nobody else has: those that the native layer made. */
function received(buffers) {
  return fill(Reflect.construct(Array, [], Message), buffers);
}

/** The frames of a body, not copied. */
function frames(body) {
  return Array.isArray(body) ? body.map(frame) : [frame(body)];
}

function frame(value) {
  if (Buffer.isBuffer(value)) return value;
  if (typeof value === 'string') return Buffer.from(value, 'utf8');
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return Buffer.from(value);
  throw invalid(`a body is a string, a Buffer or Uint8Array, or an array of them, not ${show(value)}`);
}

module.exports = { Message, received, frames };
