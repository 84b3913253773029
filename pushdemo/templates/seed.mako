<%inherit file="page.mako"/>\
<%def name="attributes()"> data-interval="${'' if beats is None else '%g' % beats}"</%def>\
<%def name="kind()">narrow</%def>\
<h1>pushdemo</h1>
% if interval is None:
<p><em>This will push data from the server to you whenever there is some .. enjoy!</em></p>
% else:
<p><em>This will push data from the server to you every ${"second" if interval == 1 else "%g seconds" % interval} .. enjoy!</em></p>
% endif
<noscript><p>This page needs JavaScript to take what the server pushes.</p></noscript>
<!-- The seconds stand outside the status, or a screen reader would count them aloud. -->
<p id="state" data-state="unknown"><span role="status" id="status"></span> <span id="countdown"></span></p>
<p id="age"></p>
<ul id="container"></ul>
<p><a href="${base}">All feeds</a></p>
