// A shared worker that holds one stream for all tabs, since a browser opens no more than six
// connections to a server. Its name is the stream's absolute URL.
'use strict';
importScripts('multipart-xhr.js', 'stream.js');

const stream = new SharedStream(name);

addEventListener('connect', ({ ports: [port] }) => {
  port.onmessage = ({ data }) => stream.hear(port, data);
});
