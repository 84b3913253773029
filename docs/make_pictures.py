"""Makes the pictures of the README and of docs/: python docs/make_pictures.py

The two drawings are written as SVG. The pages are photographed in Chromium, with development.ini
served beside it; the moving picture is of sixteen seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
sys.path.insert(0, str(HERE.parent))

STYLE = (
    "<style>text{font:14px system-ui,sans-serif;fill:#24292f}.s{font-size:12px;fill:#57606a}"
    "rect{fill:#fff;stroke:#8c959f}.f{fill:#ddf4ff}.g{fill:#dafbe1}.r{fill:#ffebe9}"
    "path{stroke:#57606a;fill:none;marker-end:url(#a)}line{stroke:#8c959f}</style>"
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
    ' orient="auto"><path d="M0 0 8 4 0 8z" style="fill:#57606a;stroke:none"/></marker></defs>'
)


def svg(width: int, height: int, *parts: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img"><rect width="{width}" height="{height}"'
        f' style="fill:#fff;stroke:none"/>{STYLE}{"".join(parts)}</svg>\n'
    )


def box(x: int, y: int, width: int, title: str, more: str, kind: str = "") -> str:
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="56" rx="6"/>'
        f'<text x="{x + 12}" y="{y + 24}">{title}</text>'
        f'<text class="s" x="{x + 12}" y="{y + 44}">{more}</text>'
    )


def steps() -> str:
    """Compute, encode, send."""
    pages = [
        box(640, 20 + 80 * number, 150, f"page {number + 1}", "an open response")
        for number in range(3)
    ]
    arrows = [
        f'<path d="M600 {128} C620 128 620 {48 + 80 * number} 638 {48 + 80 * number}"/>'
        for number in range(3)
    ]
    return svg(
        810, 256,
        box(10, 100, 150, "your function", "runs once", "f"),
        '<path d="M160 128H198"/>',
        box(200, 100, 180, "1 publisher", "one clock for each feed", "g"),
        '<path d="M380 128H418"/>',
        box(420, 100, 180, "2 event", "encoded once a format", "g"),
        *arrows,
        '<text class="s" x="500" y="190">3 broadcaster:</text>',
        '<text class="s" x="500" y="206">the same bytes</text>',
        *pages,
    )  # fmt: skip


def timeline(interval: int = 5, duration: int = 15, took: int = 2) -> str:
    """Beats, computations and values of one feed."""
    scale, left, end = 18, 120, 34
    parts = [
        f'<text x="10" y="40">beats</text><text class="s" x="10" y="56">interval {interval} s</text>',
        f'<text x="10" y="100">function</text><text class="s" x="10" y="116">takes {took} s</text>',
        f'<text x="10" y="160">value</text><text class="s" x="10" y="176">duration {duration} s</text>',
    ]
    computed = 0
    for beat in range(0, end, interval):
        x = left + beat * scale
        parts.append(
            f'<line x1="{x}" y1="26" x2="{x}" y2="60"/><text class="s" x="{x + 3}" y="24">{beat} s</text>'
        )
        again = beat - computed < duration and beat
        if not again:
            computed = beat
            width = took * scale
            parts.append(f'<rect class="f" x="{x}" y="84" width="{width}" height="32"/>')
            length = min(duration, end - beat) * scale
            parts.append(
                f'<rect class="g" x="{x}" y="144" width="{length}" height="32"/>'
                f'<text class="s" x="{x + 6}" y="164">good for {duration} s</text>'
            )
            parts.append(
                f'<path d="M{x + width} 84V64"/><text class="s" x="{x + width + 4}" y="76">sent</text>'
            )
        else:
            parts.append(f'<text class="s" x="{x + 3}" y="44">sent again</text>')
    return svg(left + end * scale + 40, 196, *parts)


def pages() -> None:
    from PIL import Image

    from tests.browsers import Chromium
    from tests.servers import Paster

    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        paster = Paster(directory)
        try:
            with closing(Chromium()) as browser:
                browser.resize(1180, 760)
                browser.open(paster.url)
                browser.wait_for("document.querySelectorAll('[data-state=live]').length >= 5", 60)
                time.sleep(25)  # until the charts have something to show
                frames = []
                for number in range(16):
                    browser.screenshot(directory / f"{number}.png")
                    with Image.open(directory / f"{number}.png") as frame:
                        half = frame.convert("RGB").resize((885, 570), Image.Resampling.LANCZOS)
                    # An octree keeps the few pixels that have a colour of their own.
                    frames.append(
                        half.quantize(
                            128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
                        )
                    )
                    time.sleep(1)
                frames[0].save(PICTURES / "dashboard.gif", save_all=True, append_images=frames[1:],
                               duration=1000, loop=0, optimize=True)  # fmt: skip
                browser.evaluate("void (document.documentElement.style.colorScheme = 'dark')")
                browser.screenshot(PICTURES / "dashboard-dark.png")
                browser.evaluate("void (document.documentElement.style.colorScheme = 'light')")
                browser.open(f"{paster.url}/server/index/load")
                browser.wait_for("document.querySelectorAll('[data-state=live]').length >= 2", 60)
                time.sleep(12)
                browser.screenshot(PICTURES / "feed.png")
                browser.open("about:blank")
        finally:
            paster.close()


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / "steps.svg").write_text(steps())
    (PICTURES / "timeline.svg").write_text(timeline())
    if "--drawings" not in sys.argv:
        pages()


if __name__ == "__main__":
    main()
