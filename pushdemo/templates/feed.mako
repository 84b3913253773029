<%inherit file="page.mako"/>\
<%namespace name="parts" file="page.mako"/>\
<%!
TITLES = {"~status": "Status"}
FOR = {
    "multipart": "this page; a picture in an <img>",
    "sse": "EventSource",
    "ndjson": "curl and jq",
    "json": "one value, now",
    "xml": "the same",
}
%>\
<%def name="kind()">wide ${"single" if len(declared) == 1 else ""}</%def>\
<%def name="title()">${", ".join(TITLES.get(feed.name, feed.name) for feed in declared)}</%def>\
<header class="top">
% if base is not None:
<p><a href="${base}">All feeds</a></p>
% endif
<h1>${", ".join(TITLES.get(feed.name, feed.name) for feed in declared)}</h1>
${parts.connection()}
</header>
<div class="cards ${'alone' if len(declared) == 1 else ''}">
% for feed in declared:
${parts.card(feed, 1 if len(declared) == 1 else 2, "" , "?" + query + "format=raw")}
% endfor
</div>
<h2>This address, in other formats</h2>
<ul class="formats">
% for name, media_type in formats.items():
<li><a href="?${query}format=${name}">${name}</a> <code>${media_type}</code>: ${FOR[name]}</li>
% endfor
% if len(declared) == 1:
<li><a href="?${query}format=raw">raw</a>: the newest value as it is, once; a picture, for one</li>
% endif
% if declared[0].template is not None and len(declared) == 1:
<li><a href="?${query}format=fragment">fragment</a> <code>text/html</code>: the newest value as HTML, once; <a href="?${query}format=htmx">htmx</a>, <a href="?${query}format=turbo">turbo</a> and <a href="?${query}format=datastar">datastar</a> are streams of it</li>
% endif
</ul>
<h2>To copy</h2>
% for line in lines:
<h3>${line.place}</h3>
<div class="copy"><pre id="line-${line.name}" tabindex="0" role="region" aria-label="${line.name}"><code data-line="${address}">${line.text}</code></pre><button type="button" data-copies="line-${line.name}" hidden>Copy<span class="unseen"> ${line.name}</span></button></div>
% endfor
