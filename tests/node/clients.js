// Clients of event streams and of NDJSON, as their documentation has them used:
// `node clients.js NAME URL` prints a line of JSON for each event: its type, its id, its data.

import { get } from 'node:http';
import { pipeline } from 'node:stream';

const [name, url] = process.argv.slice(2);

const NOTICES = ['reset', 'error', 'recovered'];

function print(type, id, data) {
  console.log(JSON.stringify([type || 'message', id || null, data]));
}

// What a browser's EventSource calls a listener with; an error of the connection has no data.
function listen(source) {
  for (const type of ['message', ...NOTICES]) {
    source.addEventListener(type, (event) => {
      if (event.data !== undefined) print(event.type, event.lastEventId, event.data);
    });
  }
}

function lines(parser) {
  get(url, (response) => {
    pipeline(response, parser, (error) => { if (error) throw error; });
    parser.on('data', ({ event, id, value }) => print(event, id, value));
  });
}

const clients = {
  async ws() {
    const { WebSocket } = await import('ws');
    const socket = new WebSocket(url);
    socket.on('message', (data) => {
      const { event, id, value } = JSON.parse(data);
      print(event, id, value);
    });
    socket.on('close', (code) => print('close', null, code));
  },

  async eventsource() {
    const { EventSource } = await import('eventsource');
    listen(new EventSource(url));
  },

  async 'launchdarkly-eventsource'() {
    const { EventSource } = (await import('launchdarkly-eventsource')).default;
    listen(new EventSource(url));
  },

  async 'eventsource-parser'() {
    const { EventSourceParserStream } = await import('eventsource-parser/stream');
    const { body } = await fetch(url, { headers: { Accept: 'text/event-stream' } });
    const events = body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream({ onError: 'terminate' }));
    for await (const { event, id, data } of events) print(event, id, data);
  },

  async 'fetch-event-source'() {
    // It is made for pages.
    globalThis.window = globalThis;
    const { fetchEventSource } = await import('@microsoft/fetch-event-source');
    await fetchEventSource(url, {
      openWhenHidden: true,
      onmessage: ({ event, id, data }) => print(event, id, data),
    });
  },

  async ndjson() {
    lines((await import('ndjson')).default.parse());
  },

  async split2() {
    lines((await import('split2')).default(JSON.parse));
  },
};

await clients[name]();
