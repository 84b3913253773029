/* XMLHttpRequest.multipart, which Firefox had until version 22, on top of fetch.
 *
 *     const request = new MultipartXMLHttpRequest();
 *     request.multipart = true;                    // before open(), as in old Gecko
 *     request.open('GET', 'server/index');
 *     request.onload = (event) => console.log(event.target.responseXML);   // once per part
 *     request.send();
 *
 * Every part runs the readyStates 2, 3 and 4, fires `load`, and goes back to 1. The end of the
 * stream fires `loadend`. With multipart left false the class is the browser's own.
 *
 * <script src="multipart-xhr.js" data-install></script> also puts the class in the place of
 * window.XMLHttpRequest, for pages written in 2009. Works in dedicated and shared workers too
 * (importScripts), where there is no DOMParser and so no responseXML.
 */
(() => {
  'use strict';

  const [TAB, LF, CR, SPACE, DASH] = [9, 10, 13, 32, 45];

  // The longest header block of a part, and the longest line that can be a delimiter, in bytes.
  const LIMIT = 16 * 1024;
  // After so many bytes without a delimiter, none is expected any more.
  const UNKNOWN_LIMIT = 64 * 1024;
  // Of the bytes that came instead of what was expected, so many are shown.
  const EXCERPT = 60;
  // The longest delimiter that is not declared (RFC 2046, section 5.1.1).
  const LONGEST_DELIMITER = 72;
  const IDLE = Uint8Array.from('Idle:', (character) => character.charCodeAt(0));
  // The buffer's size at rest: it grows for a large part and is given back after it.
  const AT_REST = 4 * 1024;

  /** The value of a parameter of a Content-Type (RFC 2045, section 5.1), or null. A token may hold
   * spaces, which the standard does not allow: one camera declares `boundary=video boundary--`. */
  function parameter(contentType, name) {
    const parameters = /;\s*([^\s;=]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/g;
    for (const [, found, quoted, token] of (contentType ?? '').matchAll(parameters)) {
      if (found.toLowerCase() === name) return quoted?.replace(/\\(.)/g, '$1') ?? token.trimEnd();
    }
    return null;
  }

  const essence = (contentType) => contentType.split(';')[0].trim().toLowerCase();

  // Not TextDecoder('latin1'), which is windows-1252 and makes characters Headers refuses.
  const latin1 = (bytes) => String.fromCharCode(...bytes);

  /** The stream is not what it says it is: the message says what was expected, and what came. */
  class BadStream extends Error {
    name = 'BadStream';
  }

  const ESCAPES = { '\t': '\\t', '\n': '\\n', '\r': '\\r', "'": "\\'", '\\': '\\\\' };

  /** The beginning of a text of bytes, for people: on one line, in quotes, with escapes. */
  function excerpt(latin1Text) {
    const shown = latin1Text
      .slice(0, EXCERPT)
      .replace(/[^ -&(-[\]-~]/g, (character) => ESCAPES[character] ?? hexadecimal(character));
    return latin1Text.length > EXCERPT ? `'${shown}...'` : `'${shown}'`;
  }

  const hexadecimal = (character) =>
    `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;

  const trimmed = (latin1Line) => latin1Line.replace(/[ \t\r]+$/, '');

  /** The line that separates the parts, and what a server that is not exact means.
   *
   * RFC 2046, section 5.1.1: a server that declares the boundary `x` sends the line `--x` before
   * each part, and `--x--` at the end. Not all servers do. For `boundary=VALUE` these lines are
   * possible, and the first of them that the stream shows counts from then on:
   *
   *     --VALUE   exact
   *     VALUE     the hyphens are in the value already, or are missing in the stream
   *     --WORD    where VALUE is in single quotes, or goes on after a space or a comma
   *     WORD
   *
   * If the stream shows none of them, the line can still be known: see `name`.
   */
  class Delimiter {
    #possible;
    #exact;
    #found = false;

    /** boundary: as it is declared; '' if none is. */
    constructor(boundary) {
      const [word] = boundary.replace(/^["' \t]+|["' \t]+$/g, '').split(/[ \t,]/);
      const values = [boundary, word].filter((value) => value !== '');
      const lines = values.flatMap((value) => [`--${value}`, value]);
      this.#possible = Array.from(new Set(lines), (line) =>
        Uint8Array.from(line, (character) => character.charCodeAt(0)),
      );
      this.#exact = this.#possible[0];
      this.expected = boundary ? `the line '--${boundary}'` : "a line that begins with '--'";
    }

    /** What the line is: 'text', 'delimiter' or 'closing'. The first delimiter decides which one
     * the stream uses. A closing one cannot decide, unless it is exact: in front of all parts, a
     * line such as `x--` is more probably text. */
    kind(bytes, line, newline) {
      if (newline - line > LIMIT) return 'text';
      for (const possible of this.#possible) {
        const kind = kindOf(possible, bytes, line, newline);
        if (kind === 'text') continue;
        if (kind === 'closing' && !this.#found && possible !== this.#exact) continue;
        this.#use(possible);
        return kind;
      }
      return 'text';
    }

    /** Whether the stream's first line is the delimiter, although the boundary is another.
     *
     * It is if it begins with two hyphens, and either no boundary is declared, or the next line is
     * a header of a part (beforeHead). Otherwise it may be text before the first part, which the
     * standard allows. */
    name(first, beforeHead) {
      const line = trimmed(latin1(first.subarray(0, LONGEST_DELIMITER + 3)));
      if (!/^--./s.test(line) || line.length > LONGEST_DELIMITER) return false;
      if (this.#possible.length && !beforeHead) return false;
      this.#use(first.slice(0, line.length));
      return true;
    }

    /** Whether an unfinished line may yet become a delimiter. */
    mayBegin(begun) {
      return ['--', ...this.#possible.map(latin1)].some((line) =>
        line.startsWith(begun.slice(0, line.length)),
      );
    }

    #use(line) {
      if (this.#found) return;
      this.#possible = [line];
      this.#exact = line;
      this.#found = true;
    }
  }

  function kindOf(delimiter, bytes, line, newline) {
    if (newline - line < delimiter.length) return 'text';
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

  // A part's header. Some servers repeat the response's head in the body: that is none.
  const HEADER_OF_PART = /^content-(?:length|type(?![ \t]*:[ \t]*multipart\/))[ \t]*:/i;
  const mayBeHeaderOfPart = (begun) => 'content-'.startsWith(begun.slice(0, 8).toLowerCase());

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
   *
   * What is taken although it is not exact, because it can mean one thing only:
   *
   * - another delimiter than the declared one (see Delimiter);
   * - no delimiter before the first part, where the stream begins with a header of that part;
   * - no line end between a body that has a Content-Length and the delimiter;
   * - a Content-Length that is not one number: the part then ends at the delimiter;
   * - a status line in a part's head.
   *
   * What is refused, with a BadStream: a stream that shows no delimiter, a part that goes on after
   * its Content-Length, and a line in a head that is no header.
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
    #begun = false; // there was a delimiter, or what stands for one
    #unknown = ''; // before that, the first bytes that came
    #unknownSize = 0;
    #ended = false;
    #reader;

    /** boundary: as it is declared; '' if none is. onPart is called with {headers: Headers, body:
     * Uint8Array}, and must not throw. */
    constructor(boundary, onPart) {
      this.#delimiter = new Delimiter(boundary);
      this.#onPart = onPart;
      this.#reader = this.#read();
    }

    /** The boundary that a Content-Type declares; '' for multipart/x-mixed-replace without one, and
     * null for what is no multipart stream. */
    static boundary(contentType) {
      const type = essence(contentType ?? '');
      if (!type.startsWith('multipart/')) return null;
      const none = type === 'multipart/x-mixed-replace' ? '' : null;
      return parameter(contentType, 'boundary') || none;
    }

    /** The bytes of memory held. */
    get held() {
      return this.#bytes.length;
    }

    /** What there is to say if no more comes: what was expected, and what came; or null. */
    get complaint() {
      if (this.#begun) return null;
      const begun = this.#startOfNext().replace(/^[ \t\r]+/, '');
      if (this.#unknown === '') {
        const may = this.#delimiter.mayBegin(begun) || mayBeHeaderOfPart(begun);
        if (begun === '' || may) return null;
      }
      const got = excerpt(this.#unknown + begun);
      return `expected ${this.#delimiter.expected} before the first part, got ${got}`;
    }

    /** Takes the stream's next bytes. Throws BadStream. */
    push(bytes) {
      this.#append(bytes);
      this.#advance();
    }

    /** The stream is over. A closing delimiter needs no line end; no other line can do without.
     * Throws BadStream if nothing of it was understood. */
    end() {
      this.#ended = true;
      this.#advance();
      const { complaint } = this;
      if (complaint !== null) throw new BadStream(complaint);
    }

    #startOfNext() {
      return latin1(this.#bytes.subarray(this.#next, Math.min(this.#end, this.#next + EXCERPT + 1)));
    }

    #advance() {
      const { done } = this.#reader.next();
      if (done) this.#start = this.#end; // the epilogue
      this.#compact();
    }

    // The grammar. A generator, so that it reads top to bottom and can wait for bytes anywhere.
    *#read() {
      let kind = yield* this.#readPreamble();
      this.#begun = true;
      while (kind !== 'closing') {
        const lines = [];
        const implied = kind === 'head'; // by its first header; there was no delimiter
        kind = yield* this.#readHeaders(lines);
        if (implied && kind !== 'text') continue; // and so it was none
        const headers = headersOf(lines);
        let body = new Uint8Array();
        let length = null;
        if (kind === 'text') {
          length = headers.get('Content-Length');
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
        kind ??= yield* this.#readBehind(length);
      }
    }

    /** Reads to the first delimiter, or before the first line of a head that has none. */
    *#readPreamble() {
      let first = null; // line of the stream, as long as it may be a delimiter
      for (;;) {
        const kind = this.#readLine();
        const [from, to] = kind === null ? [this.#next, this.#end] : [this.#line, this.#newline];
        if (to - from > UNKNOWN_LIMIT - this.#unknownSize) {
          this.#next = from;
          throw new BadStream(this.complaint ?? `a line is longer than ${UNKNOWN_LIMIT} bytes`);
        }
        if (kind === null) {
          yield;
          continue;
        }
        if (kind !== 'text') {
          this.#start = this.#next;
          return kind;
        }
        const line = this.#bytes.slice(from, to);
        const text = latin1(line.subarray(0, LIMIT));
        if (trimmed(text) !== '') {
          const isFirst = this.#unknown === '';
          this.#noteUnknown(text, line.length);
          if (isFirst && this.#delimiter.name(line, false)) {
            this.#start = this.#next;
            return 'delimiter';
          }
          if (HEADER_OF_PART.test(text)) {
            const named = first !== null && this.#delimiter.name(first, true);
            if (named || isFirst) {
              this.#start = this.#next = this.#scanned = from; // to be read again, as a header
              return named ? 'delimiter' : 'head';
            }
          }
          first = isFirst ? line : null;
        }
        this.#start = this.#next;
      }
    }

    #noteUnknown(text, length) {
      this.#unknownSize = Math.min(UNKNOWN_LIMIT, this.#unknownSize + length + 1);
      this.#unknown = `${this.#unknown}${text.slice(0, EXCERPT + 1)}\n`.slice(0, EXCERPT + 1);
    }

    /** Reads from behind a body of known length to the next delimiter. */
    *#readBehind(length) {
      for (;;) {
        const kind = this.#readLine();
        if (kind !== null && kind !== 'text') {
          this.#start = this.#next;
          return kind;
        }
        const [from, to] = kind === null ? [this.#next, this.#end] : [this.#line, this.#newline];
        const line = this.#bytes.subarray(from, Math.min(to, from + LIMIT));
        const tooLong = to - from > UNKNOWN_LIMIT;
        if (tooLong || (kind !== null && !this.#isBlank(from, to))) {
          if (!tooLong && this.#delimiter.name(line, false)) {
            this.#start = this.#next;
            return 'delimiter';
          }
          const got = excerpt(tooLong ? latin1(line) : trimmed(latin1(line)));
          const counted = `the ${length} bytes of its Content-Length`;
          throw new BadStream(`expected the end of a part after ${counted}, got ${got}`);
        }
        this.#start = this.#next;
        if (kind === null) yield;
      }
    }

    #isBlank(from, to) {
      const blank = [SPACE, TAB, CR];
      return this.#bytes.subarray(from, to).every((byte) => blank.includes(byte));
    }

    /** Reads to the blank line ('text'), or to a delimiter that comes instead. */
    *#readHeaders(lines) {
      for (let size = 0; ; ) {
        const kind = this.#readLine();
        if (kind === null && size === 0) this.#dropIdle();
        const length = (kind === null ? this.#end : this.#next) - this.#start;
        if (size + length > LIMIT) throw new BadStream(`part headers over ${LIMIT} bytes`);
        if (kind === null) {
          yield;
          continue;
        }
        size += length;
        this.#start = this.#next;
        if (kind !== 'text') return kind;
        const line = latin1(this.#bytes.subarray(this.#line, this.#newline)).replace(/\r$/, '');
        if (line === '') return kind;
        const folded = /^[ \t]/.test(line);
        if (!folded && !line.includes(':') && !line.startsWith('HTTP/')) {
          throw new BadStream(`expected a header of a part, got ${excerpt(trimmed(line))}`);
        }
        if (folded && lines.length) lines.push(lines.pop() + line);
        else lines.push(line);
      }
    }

    /** Forgets the value of the header Idle while there is nothing else: our server makes it longer
     * by a space for each heartbeat, and in a silence of weeks by more than a head may have. */
    #dropIdle() {
      const begun = this.#bytes.subarray(this.#start, this.#end);
      if (begun.length <= IDLE.length || !IDLE.every((byte, at) => begun[at] === byte)) return;
      if (begun.subarray(IDLE.length).every((byte) => byte === SPACE)) {
        this.#end = this.#scanned = this.#start + IDLE.length;
      }
    }

    *#readCounted(length) {
      while (this.#end - this.#start < length) yield;
      const body = this.#bytes.slice(this.#start, this.#start + length);
      this.#start = this.#next = this.#scanned = this.#start + length;
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
      const kind = this.#delimiter.kind(bytes, this.#next, at);
      if (at === end && kind !== 'closing') return null;
      this.#line = this.#next;
      this.#newline = at;
      this.#next = this.#scanned = Math.min(at + 1, end);
      return kind;
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
        headers.append(line.slice(0, Math.max(colon, 0)).trim(), line.slice(colon + 1));
      } catch {
        // A status line, or a name or value that HTTP does not allow: the rest is still of use.
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
   *   part. Bytes of which nothing can be understood are none.
   * - reason says, once the request is over, why its answer is no multipart stream although its
   *   status is good, so that to ask again would not help: a line for people, or null.
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
    #parser = null;
    #reason = null;
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
      this.#reason = null;
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

    get reason() {
      return this.#reason;
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

    /** The part, or the body, as a Blob of its type, whatever the responseType is. Not XHR's. */
    get responseBlob() {
      return this.#body?.blob ?? null;
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
        if (response.ok && response.body && boundary !== null) {
          await this.#stream(controller, boundary);
        } else {
          const bytes = new Uint8Array(await response.arrayBuffer());
          if (response.ok) this.#reason = this.#otherType(bytes);
          this.#deliver(controller, response.headers, bytes);
        }
      } catch (error) {
        if (signal.aborted) return;
        // The browser has told the console of a network failure, but not of a stream that is wrong.
        if (error instanceof BadStream) {
          console.error(error);
          this.#reason = error.message;
        }
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
      const parser = (this.#parser = new Parser(boundary, ({ headers, body }) => {
        this.#deliver(controller, headers, body);
        if (!signal.aborted) this.#change(OPENED);
      }));
      const reader = this.#response.body.getReader();
      while (!signal.aborted) {
        const { done, value } = await reader.read();
        if (done) return parser.end();
        if (signal.aborted) return;
        parser.push(value);
        if (parser.complaint === null) this.#watch(controller);
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
      this.#controller = this.#parser = null;
    }

    #forget() {
      this.#response = this.#body = null;
      this.#headers = new Headers();
    }

    #watch({ signal }) {
      if (signal.aborted) return;
      clearTimeout(this.#timer);
      if (this.timeout > 0) this.#timer = setTimeout(() => this.#giveUp(), this.timeout);
    }

    #giveUp() {
      const complaint = this.#parser?.complaint ?? null;
      const endless = this.#response?.ok && this.#parser === null; // and of another type
      this.#reason = complaint ?? (endless ? this.#otherType() : null);
      this.#fail(complaint === null ? 'timeout' : 'error');
    }

    #otherType(bytes) {
      const type = this.#response.headers.get('Content-Type') ?? 'no Content-Type';
      const begin = bytes && `: ${excerpt(latin1(bytes.subarray(0, EXCERPT + 1)))}`;
      return `expected a multipart stream, got ${type}${begin ?? ''}`;
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
