<%doc>The frame of all pages: see pushdemo/wsgi/page.py.</%doc>\
<%def name="title()">pushdemo</%def>\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${self.title()}</title>
<link rel="icon" href="data:,">
% if base is not None:
% for name in styles:
<link rel="stylesheet" href="${base}${name}">
% endfor
% for name in scripts:
<script src="${base}${name}" defer></script>
% endfor
% endif
% for content in inline_styles:
<style>${content | n}</style>
% endfor
</head>
<body data-streams="${streams}"${self.attributes()}>
<main class="${self.kind()}">
${next.body()}
</main>
% for content in inline_scripts:
<script>${content | n}</script>
% endfor
</body>
</html>
<%def name="attributes()"></%def>\
<%def name="kind()">wide</%def>\
<%def name="connection()">\
<p id="state" data-state="unknown"><span role="status" id="status"></span> <span id="countdown"></span></p>
<p id="announcer" class="unseen" role="status"></p>
</%def>\
<%def name="made(feed)">${"computed" if feed.make_executor is not None else "published" if feed.is_pushed else "relayed"}</%def>\
<%def name="number(seconds)">${"" if seconds is None else "%g" % seconds}</%def>\
<%def name="card(feed, level, link=None, newest=None, first=False)">\
<%
    computed = feed.make_executor is not None
    repeats = computed and feed.repeat
%>\
<section class="card" aria-label="${feed.name}" data-feed="${feed.name}" data-made="${made(feed)}" data-interval="${number(feed.interval if computed else None)}" data-duration="${number(feed.duration if computed else None)}" data-repeats="${'true' if repeats else 'false'}">
<header>
% if level == 2:
<h2><a href="${link}">${feed.name}</a></h2>
% endif
<p class="state" data-state="unknown"><span class="words"></span></p>
</header>
<noscript><p>Without JavaScript this page does not change. <a href="${newest}">The newest value</a>.</p></noscript>
<div class="value">${"<ul id='container' class='lines'></ul>" if first else "" | n}</div>
<footer><p class="age"></p><p class="shared"></p></footer>
</section>
</%def>\
