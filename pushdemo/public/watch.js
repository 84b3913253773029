/* What a page needs to watch a stream, together with all other tabs if the browser can do that.
 *
 *     const stream = new WatchedStream('server/index', (message) => console.log(message));
 *     stream.join();    // and leave() in pagehide, join() again in pageshow
 *
 * The stream's address may be relative to the page; the worker's script is the one beside this
 * script. The messages are stream.js's. Needs multipart-xhr.js and stream.js, for browsers that
 * have no shared workers (Chrome on Android), or do not let this page have one.
 */
'use strict';

// A worker says something as soon as it hears of a page. One that does not has failed to start, of
// which browsers tell the page only if it is the script's loading that failed.
const PATIENCE = 5_000;

class WatchedStream {
  static #script = document.currentScript.src;
  #url;
  #tell;
  #lastId = null;
  #link = null; // to whoever holds the stream: { say, close }
  #timer;

  /** url: a text or a URL. tell is called with each message. */
  constructor(url, tell) {
    // Absolute: a worker would resolve it against its own address, and two pages that write one
    // address in two ways must have the same worker.
    this.#url = new URL(url, document.baseURI).href;
    this.#tell = tell;
  }

  join() {
    this.#useWorker();
    this.#sayHere();
  }

  leave() {
    clearTimeout(this.#timer);
    this.#link.say({ type: 'leave' });
    this.#link.close(); // what is still on its way is not for a page that left
    this.#link = null;
  }

  /** The network seems to be back: no need to wait for the next attempt. */
  hurry() {
    this.#link?.say({ type: 'hurry' });
  }

  #useWorker() {
    let port;
    try {
      const worker = new URL('stream-worker.js', WatchedStream.#script);
      ({ port } = new SharedWorker(worker, { name: this.#url }));
    } catch {
      this.#useOwn(); // there are none, or not for this page
      return;
    }
    port.onmessage = ({ data }) => {
      clearTimeout(this.#timer);
      this.#hear(data);
    };
    this.#timer = setTimeout(() => this.#giveUpWorker(), PATIENCE);
    this.#link = {
      say: (message) => port.postMessage(message),
      close: () => (port.onmessage = null),
    };
  }

  #giveUpWorker() {
    this.leave();
    this.#useOwn();
    this.#sayHere();
  }

  #useOwn() {
    const stream = new SharedStream(this.#url);
    const watcher = { postMessage: (message) => this.#hear(message) };
    this.#link = { say: (message) => stream.hear(watcher, message), close: () => {} };
  }

  #hear(message) {
    if (message.type === 'ping') {
      this.#sayHere();
      return;
    }
    if (message.type === 'part') this.#lastId = message.id ?? this.#lastId;
    this.#tell(message);
  }

  #sayHere() {
    this.#link.say({ type: 'here', lastId: this.#lastId });
  }
}
