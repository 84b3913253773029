// What tests/test_multipart_xhr.py runs inside the page. Bytes travel as latin-1 strings.
'use strict';

const bytesOf = (latin1) => Uint8Array.from(latin1, (character) => character.charCodeAt(0));
const latin1Of = (bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');

/** The parts that the parser makes of these chunks: [[headers, body], …] as JSON. */
function parse(boundary, chunks) {
  const parts = [];
  const parser = new MultipartXMLHttpRequest.Parser(boundary, ({ headers, body }) =>
    parts.push([Array.from(headers), latin1Of(body)]),
  );
  for (const chunk of chunks) parser.push(chunk);
  parser.end();
  return JSON.stringify(parts);
}

/** Cuts the bytes at ascending places. */
function cut(bytes, places) {
  const ends = [...places, bytes.length];
  return ends.map((end, i) => bytes.subarray(i ? ends[i - 1] : 0, end));
}

function* everyCut(length) {
  yield [];
  yield Array.from({ length: length - 1 }, (_, i) => i + 1); // byte by byte
  for (let first = 0; first <= length; first++) {
    yield [first];
    for (let second = first; second <= length; second++) yield [first, second];
  }
}

/** Parses the document cut in each of these ways: how many there were, and the first failures. */
function tryCuts({ boundary, stream, parts }, cuts) {
  const bytes = bytesOf(stream);
  const expected = JSON.stringify(parts);
  const failures = [];
  let tried = 0;
  for (const places of cuts) {
    const got = parse(boundary, cut(bytes, places));
    tried++;
    if (got !== expected && failures.length < 3) failures.push({ places, got, expected });
  }
  return { tried, failures };
}

/** What the parser makes of a whole response: the bodies of its parts, and its complaint. */
function outcome(contentType, chunks) {
  const bodies = [];
  let complaint = null;
  try {
    const boundary = MultipartXMLHttpRequest.Parser.boundary(contentType);
    const parser = new MultipartXMLHttpRequest.Parser(boundary, ({ body }) =>
      bodies.push(latin1Of(body)),
    );
    for (const chunk of chunks) parser.push(chunk);
    parser.end();
  } catch (error) {
    complaint = error.message;
  }
  return JSON.stringify({ bodies, complaint });
}

/** As tryCuts, for a response that may be refused. */
function tryOutcomes({ contentType, stream, bodies, complaint }, cuts) {
  const bytes = bytesOf(stream);
  const expected = JSON.stringify({ bodies, complaint });
  const failures = [];
  for (const places of cuts) {
    const got = outcome(contentType, cut(bytes, places));
    if (got !== expected && failures.length < 3) failures.push({ places, got, expected });
  }
  return { tried: cuts.length, failures };
}

/** A request that writes down what happens to it: numbers are readyStates. */
function record(multipart = true, Class = MultipartXMLHttpRequest) {
  const request = new Class();
  request.multipart = multipart;
  request.log = [];
  request.texts = [];
  request.addEventListener('readystatechange', () => request.log.push(request.readyState));
  for (const type of 'loadstart open progress load abort error timeout loadend'.split(' ')) {
    request.addEventListener(type, ({ target }) => target.log.push(type));
  }
  request.addEventListener('load', ({ target }) => {
    if (['', 'text'].includes(target.responseType)) target.texts.push(target.responseText);
  });
  globalThis.request = request;
  return request;
}

/** The name of the exception that the function throws, or null. */
function thrownBy(action) {
  try {
    action();
    return null;
  } catch (error) {
    return error.name;
  }
}
