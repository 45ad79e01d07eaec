#!/usr/bin/env node
'use strict';

// The same program as the binary `mdbroker`. It runs on the main thread, which has no JavaScript to run meanwhile.
const { mdbroker } = require('../native.cjs');

// SIGINT and SIGTERM end the broker in good order. Node's own handlers, which end the process at once, are called before those of
// the broker unless there are listeners.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {});

process.exit(mdbroker(process.argv.slice(2)));
