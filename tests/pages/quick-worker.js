// The worker with an interval a hundredth as long, for tests/test_shared_stream.py.
'use strict';

const native = setInterval;
globalThis.setInterval = (action, delay) => native(action, delay / 100);
importScripts('/stream-worker.js');
