#!/usr/bin/env node
'use strict';

// The same program as the binary `mdbroker`. It runs on the main thread, where no JavaScript is to be done meanwhile;
// SIGINT and SIGTERM end it as they end the binary.
const { mdbroker } = require('../native.cjs');

process.exitCode = mdbroker(process.argv.slice(2));
