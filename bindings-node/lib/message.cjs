'use strict';

// A body: an immutable list of frames.

const options = require('./options.cjs');
const { invalid, show } = require('./error.cjs');

/** Where a message keeps its properties, if it has any. */
const kept = Symbol('properties');
const nothing = [];
const none = Object.freeze(Object.create(null));

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

  constructor(body = [], given) {
    super();
    const { properties } = options.checked(options.body, given);
    const [names, values] = carried(body, properties);
    keep(this, names, values?.map((value) => Buffer.from(value)));
    // Copies: the frames belong to this message alone and do not change with the caller's buffers.
    fill(this, frames(body).map((frame) => Buffer.from(frame)));
  }

  get properties() {
    return this[kept] ?? none;
  }

  toString(index = 0, encoding = 'utf8') {
    return this[index]?.toString(encoding) ?? '';
  }
}

function fill(message, buffers) {
  for (let index = 0; index < buffers.length; index += 1) message[index] = buffers[index];
  return Object.freeze(message);
}

/** A message of buffers that nobody else has: those that the native layer made, one or a list of them. */
function received(frames, event) {
  const message = Reflect.construct(Array, nothing, Message);
  if (event !== undefined) keep(message, event.names, event.values);
  if (Array.isArray(frames)) return fill(message, frames);
  message[0] = frames;
  return Object.freeze(message);
}

/** Gives a message its properties; without a prototype, so that any name can be one. */
function keep(message, names, values) {
  if (names === undefined || names === null || names.length === 0) return;
  const properties = Object.create(null);
  names.forEach((name, index) => {
    properties[name] = values[index];
  });
  Object.defineProperty(message, kept, { value: Object.freeze(properties) });
}

/** Names and values of the properties that travel with a body: its own, if it is a message, and the given ones over them. */
function carried(body, given) {
  const own = body instanceof Message ? body[kept] : undefined;
  if (own === undefined && given === undefined) return [];
  const all = Object.assign(Object.create(null), own, given);
  return [Object.keys(all), Object.values(all).map(frame)];
}

/** The frames of a body, not copied. */
function frames(body) {
  return Array.isArray(body) ? body.map(frame) : [frame(body)];
}

/** A body as the native layer takes it: its frame, as nearly all have one, or a list of them. */
function packed(body) {
  if (!Array.isArray(body)) return frame(body);
  return body.length === 1 ? frame(body[0]) : body.map(frame);
}

function frame(value) {
  if (Buffer.isBuffer(value)) return value;
  if (typeof value === 'string') return Buffer.from(value, 'utf8');
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return Buffer.from(value);
  throw invalid(`a body is a string, a Buffer or Uint8Array, or an array of them, not ${show(value)}`);
}

module.exports = { Message, received, packed, carried };
