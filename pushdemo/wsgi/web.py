"""What comes from WebOb, or from a package that imports it. All of pushdemo imports it from here.

WebOb 1.8 imports cgi, and Python 3.11 and 3.12 warn of that. Only WebOb can change it, and where
warnings are errors (python -W error), this application must be importable all the same.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    from routes.middleware import RoutesMiddleware
    from webob import Request, Response
    from webob.acceptparse import create_accept_encoding_header, create_accept_header
    from webob.etag import AnyETag
    from webob.exc import (
        HTTPException,
        HTTPInternalServerError,
        HTTPNotFound,
        WSGIHTTPException,
        status_map,
    )

__all__ = [
    "AnyETag",
    "HTTPException",
    "HTTPInternalServerError",
    "HTTPNotFound",
    "Request",
    "Response",
    "RoutesMiddleware",
    "WSGIHTTPException",
    "create_accept_encoding_header",
    "create_accept_header",
    "status_map",
]
