/* What pages say in words: the state of a stream, times, and what a part has to say.
 *
 * Needs multipart-xhr.js.
 */
'use strict';

/** The state of a stream (see stream.js), for a person. */
function stateWords(message) {
  return {
    connecting: 'Connecting',
    live: 'Live',
    waiting: `${message.why}. Reconnecting`,
    failed: `${message.why}. Reload the page to try again.`,
    stopped: 'Stopped',
  }[message.state];
}

/** When the next attempt is: `in 3 s`, `now`; nothing where none is planned. */
function countdownWords(due, now = Date.now()) {
  if (due === null) return '';
  const seconds = Math.ceil((due - now) / 1_000);
  return seconds > 0 ? `in ${seconds} s` : 'now';
}

/** A time span in its largest unit: 59 s, 59 min, 23 h, 7 d. */
function span(milliseconds) {
  const seconds = Math.floor(milliseconds / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** How old a value is; the server's dates are whole seconds, so it may seem to come from the
 * future. */
const age = (computed, now = Date.now()) => span(Math.max(0, now - computed));

/** A part's document element, if it is XML; null otherwise. */
const documentOf = ({ text, contentType }) =>
  MultipartXMLHttpRequest.parseXML(text, contentType)?.documentElement ?? null;

// Beats may come a little late: so many milliseconds later than two of them, they do not come.
const LATE = 2_000;

/** The milliseconds for which nothing has come where beats should have; 0 while all is well.
 *
 * interval: of the beats, in milliseconds; 0 where there are none. last: when the last came. */
function silence(interval, last, now = Date.now()) {
  const silent = now - last;
  return interval > 0 && silent > 2 * interval + LATE ? silent : 0;
}
