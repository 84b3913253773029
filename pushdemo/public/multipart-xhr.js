/* XMLHttpRequest.multipart, which Firefox had until version 22, on top of fetch.
 *
 *     const request = new MultipartXMLHttpRequest();
 *     request.multipart = true;                    // before open(), as in old Gecko
 *     request.open('GET', '/server/index');
 *     request.onload = (event) => console.log(event.target.responseXML);   // once per part
 *     request.send();
 *
 * Every part runs the readyStates 2, 3 and 4, fires `load`, and goes back to 1. The end of the
 * stream fires `loadend`. With multipart left false the class is the browser's own.
 *
 * <script src="/multipart-xhr.js" data-install></script> also puts the class in the place of
 * window.XMLHttpRequest, for pages written in 2009. Works in dedicated and shared workers too
 * (importScripts), where there is no DOMParser and so no responseXML.
 */
(() => {
  'use strict';

  const [TAB, LF, CR, SPACE, DASH] = [9, 10, 13, 32, 45];

  // The longest header block of a part, and the longest line that can be a delimiter, in bytes.
  const LIMIT = 16 * 1024;
  // The buffer's size at rest: it grows for a large part and is given back after it.
  const AT_REST = 4 * 1024;

  /** The value of a parameter of a Content-Type (RFC 2045, section 5.1), or null. */
  function parameter(contentType, name) {
    const parameters = /;\s*([^\s;=]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/g;
    for (const [, found, quoted, token] of (contentType ?? '').matchAll(parameters)) {
      if (found.toLowerCase() === name) return quoted?.replace(/\\(.)/g, '$1') ?? token;
    }
    return null;
  }

  const essence = (contentType) => contentType.split(';')[0].trim().toLowerCase();

  // Not TextDecoder('latin1'), which is windows-1252 and makes characters Headers refuses.
  const latin1 = (bytes) => String.fromCharCode(...bytes);

  /** Bytes of a multipart stream in, however they were cut; parts out (RFC 2046, section 5.1).
   *
   * All bytes go into one growing buffer, and nothing is decided but at the end of a line or by
   * Content-Length. So it cannot matter where the bytes were cut, and every byte is looked at once.
   *
   * - A line ends in CRLF or LF. A delimiter is a line of its own: `--boundary`, then `--` if it
   *   closes the stream, then spaces and tabs. Anything else that looks like one is body.
   * - A part with Content-Length is complete with its last byte, and may hold delimiters.
   *   Any other is complete with the delimiter after it; the line end before that is not body.
   * - A part cut off by the end of the stream is dropped, for nobody can say that it is whole.
   * - A part with neither headers nor body is none: the seed of 2009 wrote a delimiter before and
   *   another after each part, and between two of its parts is nothing.
   */
  class Parser {
    #delimiter;
    #onPart;
    #bytes = new Uint8Array(AT_REST);
    #start = 0; // the first byte still needed
    #next = 0; // the first byte of the first line not yet read
    #scanned = 0; // the first byte not yet looked at
    #end = 0; // behind the last byte
    #line = 0; // the line just read: its first byte …
    #newline = 0; // … and its LF
    #midLine = false; // the next line to read began inside something already used up
    #ended = false;
    #reader;

    /** onPart is called with {headers: Headers, body: Uint8Array}, and must not throw. */
    constructor(boundary, onPart) {
      this.#delimiter = Uint8Array.from(`--${boundary}`, (character) => character.charCodeAt(0));
      this.#onPart = onPart;
      this.#reader = this.#read();
    }

    /** The boundary that a Content-Type announces, or null if it is not multipart. */
    static boundary(contentType) {
      if (!/^\s*multipart\//i.test(contentType ?? '')) return null;
      return parameter(contentType, 'boundary') || null;
    }

    /** The bytes of memory held. */
    get held() {
      return this.#bytes.length;
    }

    /** Takes the stream's next bytes; RangeError if a part's header block passes the limit. */
    push(bytes) {
      this.#append(bytes);
      this.#advance();
    }

    /** The stream is over. A closing delimiter needs no line end; no other line can do without. */
    end() {
      this.#ended = true;
      this.#advance();
    }

    #advance() {
      const { done } = this.#reader.next();
      if (done) this.#start = this.#end; // the epilogue
      this.#compact();
    }

    // The grammar. A generator, so that it reads top to bottom and can wait for bytes anywhere.
    *#read() {
      let kind = yield* this.#skip(); // the preamble
      while (kind !== 'closing') {
        const lines = [];
        kind = yield* this.#readHeaders(lines);
        const headers = headersOf(lines);
        let body = new Uint8Array();
        if (kind === 'text') {
          const length = headers.get('Content-Length');
          if (/^\d{1,15}$/.test(length ?? '')) {
            body = yield* this.#readCounted(Number(length));
            kind = null;
          } else {
            kind = yield* this.#scanBody();
            body = this.#bytes.slice(this.#start, this.#bodyEnd());
            this.#start = this.#next;
          }
        }
        if (lines.length || body.length) this.#onPart({ headers, body });
        kind ??= yield* this.#skip();
      }
    }

    /** Reads to the next delimiter, keeping nothing. */
    *#skip() {
      for (;;) {
        const kind = this.#readLine();
        if (kind === null && this.#end - this.#next > LIMIT) {
          this.#next = this.#scanned;
          this.#midLine = true;
        }
        this.#start = this.#next;
        if (kind === null) yield;
        else if (kind !== 'text') return kind;
      }
    }

    /** Reads to the blank line ('text'), or to a delimiter that comes instead. */
    *#readHeaders(lines) {
      for (let size = 0; ; ) {
        const kind = this.#readLine();
        const length = (kind === null ? this.#end : this.#next) - this.#start;
        if (size + length > LIMIT) throw new RangeError(`part headers over ${LIMIT} bytes`);
        if (kind === null) {
          yield;
          continue;
        }
        size += length;
        this.#start = this.#next;
        if (kind !== 'text') return kind;
        const line = latin1(this.#bytes.subarray(this.#line, this.#newline)).replace(/\r$/, '');
        if (line === '') return kind;
        if (lines.length && /^[ \t]/.test(line)) lines.push(lines.pop() + line); // folded
        else lines.push(line);
      }
    }

    *#readCounted(length) {
      while (this.#end - this.#start < length) yield;
      const body = this.#bytes.slice(this.#start, this.#start + length);
      this.#start = this.#next = this.#scanned = this.#start + length;
      // Whoever counts the line end into the body has the delimiter follow directly.
      this.#midLine = length > 0 && body[length - 1] !== LF;
      return body;
    }

    *#scanBody() {
      for (;;) {
        const kind = this.#readLine();
        if (kind === null) yield;
        else if (kind !== 'text') return kind;
      }
    }

    /** Where the body before the delimiter just read ends: its line end belongs to the latter. */
    #bodyEnd() {
      let end = this.#line;
      if (end > this.#start) end--;
      if (end > this.#start && this.#bytes[end - 1] === CR) end--;
      return end;
    }

    /** Reads the next line and says what it is; null while its end has not come. */
    #readLine() {
      const [bytes, end] = [this.#bytes, this.#end];
      let at = this.#scanned;
      while (at < end && bytes[at] !== LF) at++;
      this.#scanned = at;
      if (at === end && !this.#ended) return null;
      const kind = this.#midLine ? 'text' : this.#kind(this.#next, at);
      if (at === end && kind !== 'closing') return null;
      this.#line = this.#next;
      this.#newline = at;
      this.#next = this.#scanned = Math.min(at + 1, end);
      this.#midLine = false;
      return kind;
    }

    #kind(line, newline) {
      const [bytes, delimiter] = [this.#bytes, this.#delimiter];
      const length = newline - line;
      if (length < delimiter.length || length > LIMIT) return 'text';
      for (let i = 0; i < delimiter.length; i++) {
        if (bytes[line + i] !== delimiter[i]) return 'text';
      }
      let at = line + delimiter.length;
      let end = newline;
      if (end > at && bytes[end - 1] === CR) end--;
      const closing = end - at >= 2 && bytes[at] === DASH && bytes[at + 1] === DASH;
      if (closing) at += 2;
      while (at < end && (bytes[at] === SPACE || bytes[at] === TAB)) at++;
      if (at < end) return 'text';
      return closing ? 'closing' : 'delimiter';
    }

    #append(bytes) {
      const needed = this.#end + bytes.length;
      if (needed > this.#bytes.length) {
        // Doubling: a part of n bytes is copied at most twice, in however many chunks it comes.
        const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
        larger.set(this.#bytes.subarray(0, this.#end));
        this.#bytes = larger;
      }
      this.#bytes.set(bytes, this.#end);
      this.#end = needed;
    }

    /** Forgets the bytes before #start. What remains came with the last chunk. */
    #compact() {
      if (this.#start === 0) return;
      if (this.#bytes.length > AT_REST && this.#end - this.#start <= AT_REST) {
        const smaller = new Uint8Array(AT_REST);
        smaller.set(this.#bytes.subarray(this.#start, this.#end));
        this.#bytes = smaller;
      } else {
        this.#bytes.copyWithin(0, this.#start, this.#end);
      }
      this.#next -= this.#start;
      this.#scanned -= this.#start;
      this.#end -= this.#start;
      this.#start = 0;
    }
  }

  function headersOf(lines) {
    const headers = new Headers();
    for (const line of lines) {
      const colon = line.indexOf(':');
      try {
        headers.append(line.slice(0, Math.max(colon, 0)), line.slice(colon + 1));
      } catch {
        // No colon, or a name or value that HTTP does not allow: the rest is still of use.
      }
    }
    return headers;
  }

  const BYTE_ORDER_MARKS = [
    ['utf-8', [0xef, 0xbb, 0xbf]],
    ['utf-16be', [0xfe, 0xff]],
    ['utf-16le', [0xff, 0xfe]],
  ];

  const isXML = (type) => /^(text|application)\/xml$|\+xml$/.test(type);

  /** The document that the text is, or null if the type says that it is not XML, if it is not well
   * formed, or in a worker, where nobody can parse it. */
  function parseXML(text, contentType) {
    if (typeof DOMParser === 'undefined' || !isXML(essence(contentType ?? 'text/xml'))) return null;
    const parsed = new DOMParser().parseFromString(text, 'application/xml');
    // DOMParser does not throw: Gecko's answer is a document of this name, Blink's contains one.
    const failed =
      parsed.getElementsByTagNameNS('http://www.w3.org/1999/xhtml', 'parsererror').length ||
      parsed.documentElement?.namespaceURI ===
        'http://www.mozilla.org/newlayout/xml/parsererror.xml';
    return failed ? null : parsed;
  }

  /** One part's body, or a single response's, as the types that a page may ask for. */
  class Body {
    #bytes;
    #contentType;
    #made = {}; // a page that reads responseXML twice expects the same document

    constructor(bytes, contentType) {
      this.#bytes = bytes;
      this.#contentType = contentType ?? 'text/xml'; // what XHR assumes
    }

    get size() {
      return this.#bytes.length;
    }

    get text() {
      return (this.#made.text ??= this.#decoder().decode(this.#bytes));
    }

    get arraybuffer() {
      return this.#bytes.buffer;
    }

    get blob() {
      return (this.#made.blob ??= new Blob([this.#bytes], { type: this.#contentType }));
    }

    get json() {
      if (!('json' in this.#made)) {
        try {
          this.#made.json = JSON.parse(new TextDecoder().decode(this.#bytes));
        } catch {
          this.#made.json = null;
        }
      }
      return this.#made.json;
    }

    /** The document, or null if it is not XML or not well formed; HTML only where asked for. */
    document(html) {
      if (!('document' in this.#made)) this.#made.document = this.#parse(html);
      return this.#made.document;
    }

    #parse(html) {
      const type = essence(this.#contentType);
      if (html && type === 'text/html' && typeof DOMParser !== 'undefined') {
        return new DOMParser().parseFromString(this.text, type);
      }
      return parseXML(this.text, type);
    }

    // Decoded here and not by the parser, since DOMParser takes text and only the declaration of
    // the document itself may say that it is, as the seed's, ISO-8859-1.
    #decoder() {
      const bytes = this.#bytes;
      const marked = BYTE_ORDER_MARKS.find(([, mark]) => mark.every((byte, i) => bytes[i] === byte));
      const label =
        marked?.[0] ?? parameter(this.#contentType, 'charset') ?? this.#declaredEncoding() ?? 'utf-8';
      try {
        return new TextDecoder(label);
      } catch {
        return new TextDecoder(); // an encoding that nobody knows
      }
    }

    #declaredEncoding() {
      if (!isXML(essence(this.#contentType))) return null;
      const declaration = /^<\?xml\s[^>]*?encoding\s*=\s*["']([\w.:-]+)["']/;
      return declaration.exec(latin1(this.#bytes.subarray(0, 256)))?.[1] ?? null;
    }
  }

  const { UNSENT, OPENED, HEADERS_RECEIVED, LOADING, DONE } = XMLHttpRequest;

  /** What XMLHttpRequest was in Gecko, and two events more: `open` says that a multipart answer has
   * begun, before its first part (in Firefox: with the first byte of its body); and `notice` comes
   * in place of `load` for a part with the header Event, which is about the stream and no value:
   * a page written for values need not know of it.
   *
   * While multipart is set, the browser's own request is never opened. It keeps what a page may set
   * (responseType, timeout, withCredentials, the handlers) and dispatches the events; thus a
   * handler's exception is reported as any other, and does not stop the stream.
   *
   * - open(…, false) is asynchronous, as it nearly was: Gecko blocked until the first part only.
   * - Gecko dropped a part's response on going back to readyState 1. Here it stays until the next.
   * - timeout is the longest silence: any byte is a sign of life, a heartbeat's too, which is no
   *   part.
   * - Not there: upload events, overrideMimeType, open()'s user and password.
   */
  class MultipartXMLHttpRequest extends XMLHttpRequest {
    static Parser = Parser;
    static parseXML = parseXML; // for a page that gets the text from a worker

    #multipart = false;
    #readyState = UNSENT;
    #request = null;
    #requestHeaders = new Headers();
    #controller = null; // of the fetch under way; its signal tells a run that it was replaced
    #response = null;
    #headers = new Headers(); // the response's, and over them the part's
    #body = null;
    #timer;

    get multipart() {
      return this.#multipart;
    }

    set multipart(value) {
      if (this.readyState !== UNSENT) throw invalidState('multipart must be set before open()');
      this.#multipart = Boolean(value);
    }

    open(method, url, ...rest) {
      if (!this.#multipart) return super.open(method, url, ...rest);
      const request = new Request(url, { method }); // throws, like open(), if they are no good
      this.#stop();
      this.#forget();
      this.#request = request;
      this.#requestHeaders = new Headers();
      if (this.#readyState !== OPENED) this.#change(OPENED);
    }

    setRequestHeader(name, value) {
      if (!this.#multipart) return super.setRequestHeader(name, value);
      this.#mustBeOpened();
      this.#requestHeaders.append(name, value);
    }

    send(body = null) {
      if (!this.#multipart) return super.send(body);
      this.#mustBeOpened();
      const controller = (this.#controller = new AbortController());
      this.#watch(controller);
      this.#progress('loadstart');
      if (!controller.signal.aborted) this.#run(controller, body);
    }

    abort() {
      if (!this.#multipart) return super.abort();
      if (this.#controller) this.#fail('abort');
      // A handler of those events may have opened the request again.
      if (!this.#controller && this.#readyState === DONE) {
        this.#forget();
        this.#readyState = UNSENT;
      }
    }

    getResponseHeader(name) {
      return this.#multipart ? this.#headers.get(name) : super.getResponseHeader(name);
    }

    getAllResponseHeaders() {
      if (!this.#multipart) return super.getAllResponseHeaders();
      return Array.from(this.#headers, ([name, value]) => `${name}: ${value}\r\n`).join('');
    }

    get readyState() {
      return this.#multipart ? this.#readyState : super.readyState;
    }

    get status() {
      return this.#multipart ? (this.#response?.status ?? 0) : super.status;
    }

    get statusText() {
      return this.#multipart ? (this.#response?.statusText ?? '') : super.statusText;
    }

    get responseURL() {
      return this.#multipart ? (this.#response?.url ?? '') : super.responseURL;
    }

    get responseText() {
      if (!this.#multipart) return super.responseText;
      this.#mustBeOfType('', 'text');
      return this.#body?.text ?? '';
    }

    get responseXML() {
      if (!this.#multipart) return super.responseXML;
      this.#mustBeOfType('', 'document');
      return this.#body?.document(this.responseType === 'document') ?? null;
    }

    get response() {
      if (!this.#multipart) return super.response;
      if (['', 'text'].includes(this.responseType)) return this.responseText;
      if (this.responseType === 'document') return this.responseXML;
      return this.#body?.[this.responseType] ?? null;
    }

    async #run(controller, body) {
      const { signal } = controller;
      try {
        const response = await fetch(this.#request, {
          body,
          // Else Firefox lets a second tab wait for the end of the first one's answer, to share it.
          cache: 'no-store',
          credentials: this.withCredentials ? 'include' : 'same-origin',
          headers: this.#requestHeaders,
          signal,
        });
        if (signal.aborted) return;
        this.#response = response;
        this.#headers = new Headers(response.headers);
        const boundary = Parser.boundary(response.headers.get('Content-Type'));
        if (response.ok && response.body && boundary) {
          await this.#stream(controller, boundary);
        } else {
          const bytes = new Uint8Array(await response.arrayBuffer());
          this.#deliver(controller, response.headers, bytes);
        }
      } catch (error) {
        if (signal.aborted) return;
        // The browser has told the console of a network failure, but not of a stream that is wrong.
        if (error instanceof RangeError) console.error(error);
        this.#fail('error');
        return;
      }
      if (signal.aborted) return;
      this.#stop();
      // In silence: a page that waits for 4 would take the last part for a new one.
      this.#readyState = DONE;
      this.#progress('loadend');
    }

    async #stream(controller, boundary) {
      const { signal } = controller;
      this.dispatchEvent(new Event('open'));
      const parser = new Parser(boundary, ({ headers, body }) => {
        this.#deliver(controller, headers, body);
        if (!signal.aborted) this.#change(OPENED);
      });
      const reader = this.#response.body.getReader();
      while (!signal.aborted) {
        const { done, value } = await reader.read();
        if (done) return parser.end();
        if (signal.aborted) return;
        this.#watch(controller);
        parser.push(value);
      }
    }

    /** Lets one part, or the whole of a response that has none, pass through the states. */
    #deliver({ signal }, headers, bytes) {
      if (signal.aborted) return;
      const body = new Body(bytes, headers.get('Content-Type'));
      this.#body = body;
      this.#headers = new Headers(this.#response.headers);
      headers.forEach((value, name) => this.#headers.set(name, value));
      if (headers.has('Event')) {
        this.#progress('notice', body.size);
        return;
      }
      for (const step of [HEADERS_RECEIVED, LOADING, 'progress', DONE, 'load']) {
        if (typeof step === 'number') this.#change(step);
        else this.#progress(step, body.size);
        if (signal.aborted) return; // by a handler
      }
    }

    /** Ends the request with the event `error`, `abort` or `timeout`. */
    #fail(type) {
      const request = this.#request;
      this.#stop();
      this.#forget();
      if (this.#readyState !== DONE) this.#change(DONE);
      for (const step of [type, 'loadend']) {
        if (this.#request === request) this.#progress(step); // else a handler opened it again
      }
    }

    #stop() {
      clearTimeout(this.#timer);
      this.#controller?.abort();
      this.#controller = null;
    }

    #forget() {
      this.#response = this.#body = null;
      this.#headers = new Headers();
    }

    #watch({ signal }) {
      if (signal.aborted) return;
      clearTimeout(this.#timer);
      if (this.timeout > 0) this.#timer = setTimeout(() => this.#fail('timeout'), this.timeout);
    }

    #change(state) {
      this.#readyState = state;
      this.dispatchEvent(new Event('readystatechange'));
    }

    #progress(type, loaded = 0) {
      const sizes = { lengthComputable: loaded > 0, loaded, total: loaded };
      this.dispatchEvent(new ProgressEvent(type, sizes));
    }

    #mustBeOpened() {
      if (this.#readyState !== OPENED || this.#controller) {
        throw invalidState('the request must be opened and not yet sent');
      }
    }

    #mustBeOfType(...types) {
      if (!types.includes(this.responseType)) {
        throw invalidState(`not with the responseType '${this.responseType}'`);
      }
    }
  }

  const invalidState = (message) => new DOMException(message, 'InvalidStateError');

  globalThis.MultipartXMLHttpRequest = MultipartXMLHttpRequest;
  if (globalThis.document?.currentScript?.hasAttribute('data-install')) {
    globalThis.XMLHttpRequest = MultipartXMLHttpRequest;
  }
})();
