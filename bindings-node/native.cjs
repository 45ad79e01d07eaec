'use strict';

// Loads the compiled addon that stands next to this file.

const path = require('node:path');

/** The part of the file name that tells one platform from another, as `napi build --platform` writes it. */
function platform() {
  const { platform: system, arch } = process;
  if (system === 'linux') {
    const { glibcVersionRuntime } = process.report.getReport().header;
    return `linux-${arch}-${glibcVersionRuntime ? 'gnu' : 'musl'}`;
  }
  return system === 'win32' ? `win32-${arch}-msvc` : `${system}-${arch}`;
}

const file = path.join(__dirname, `majordomo.${platform()}.node`);
try {
  module.exports = require(file);
} catch (cause) {
  throw new Error(`majordomo has no native part that works here: ${file}: ${cause.message}`, { cause });
}
