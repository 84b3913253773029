"""One slow function, computed once, on every open page, from plain WSGI."""
