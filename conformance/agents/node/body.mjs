// Bodies as the agent's protocol gives and describes them (AGENT.md, section 2).

const DESCRIBED_WHOLE = 65536;

/** The frames that a command asks to be sent. */
export function body(command) {
  if (command.body !== undefined) return command.body.map((frame) => Buffer.from(frame, 'base64'));
  const seed = command.seed ?? 0;
  return Array.from({ length: command.frames ?? 1 }, (_, frame) => generated(command.size, seed + frame));
}

/** `size` bytes; byte i is (start + i mod 251) mod 256. */
export function generated(size, start) {
  const bytes = Buffer.allocUnsafe(size);
  for (let index = 0; index < size; index += 1) bytes[index] = (start + (index % 251)) & 0xff;
  return bytes;
}

/** The three fields that describe a body in an event. */
export function described(frames) {
  const total = frames.reduce((sum, frame) => sum + frame.length, 0);
  return {
    sizes: frames.map((frame) => frame.length),
    crc32: frames.map(crc32),
    body: total > DESCRIBED_WHOLE ? null : frames.map((frame) => frame.toString('base64')),
    ...(Object.keys(frames.properties).length === 0 ? {} : { properties: flat(frames.properties) }),
  };
}

/** Properties as a flat list of names and base64 values. */
export function flat(properties) {
  return Object.entries(properties).flatMap(([name, value]) => [name, value.toString('base64')]);
}

/** The properties of such a list. */
export function properties(list) {
  const given = Object.create(null);
  for (let index = 0; index + 1 < list.length; index += 2) given[list[index]] = Buffer.from(list[index + 1], 'base64');
  return given;
}

// Node has `zlib.crc32` from 22 on.
const table = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
