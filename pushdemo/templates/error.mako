<%! from pushdemo.lib.addresses import reference %>\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>${status}</title>
<body style="font-family: system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>${status}</h1>
<p>${detail}</p>
<p><a href="${reference(request.environ, '/')}">The start page</a></p>
</body>
</html>
