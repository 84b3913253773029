'use strict';
importScripts('/multipart-xhr.js');

const request = new MultipartXMLHttpRequest();
request.multipart = true;
request.open('GET', '/server/index');
request.onload = () => postMessage([request.responseText, request.responseXML]);
request.send();
