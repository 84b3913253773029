<%inherit file="page.mako"/>\
<%namespace name="parts" file="page.mako"/>\
<header class="top">
<h1>All feeds</h1>
${parts.connection()}
</header>
<noscript><p>The server pushes each value as soon as it is there. For that, this page needs JavaScript.</p></noscript>
% if not declared:
<p>No feed is declared: decorate a function with <code>push.feed</code>, or add <code>feed.NAME = package.module:function</code> to the ini.</p>
% endif
<div class="cards">
% for feed in declared:
${parts.card(feed, 2, f"{base}server/index/{quote(feed.name, safe='')}", f"{base}server/index/{quote(feed.name, safe='')}?format=raw", first=loop.index == 0)}
% endfor
</div>
<p><a href="${base}seed.html">The first feed, line by line, as in 2009</a></p>
