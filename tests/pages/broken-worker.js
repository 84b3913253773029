// A worker that fails to start, for tests/test_shared_stream.py.
'use strict';

importScripts('/favicon.ico'); // 404
