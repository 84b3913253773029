"""The last minutes of this machine as a picture, drawn by matplotlib.

Drawn without pyplot, which keeps every figure it ever made, for all threads: here each call has a
figure of its own, which goes when it returns.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pushdemo.feeds import machine

MINUTES = 5
MOST_SAMPLES = 600  # two a second; with more frequent reads, fewer minutes are shown

WIDTH, HEIGHT, DPI = 640, 240, 100  # pixels, and how many an inch has

# The background is left out, so that the page's shows: these are seen on white as on black. A grey
# that can be read on both, at 4.5 to 1, is the only one; the lines have 3 to 1.
INK = "#767676"
CPU, MEMORY = "#d9541e", "#3278d2"


class Sample(NamedTuple):
    """moment: monotonic seconds. cpu_percent: on average since the sample before."""

    moment: float
    cpu_percent: float
    memory_percent: float


class Chart:
    """Takes a sample at each call, and draws it after those of the last minutes. Any thread."""

    def __init__(
        self,
        cpu_percent: Callable[[], float],
        memory_percent: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cpu_percent = cpu_percent
        self._memory_percent = memory_percent
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=MOST_SAMPLES)

    def sample(self) -> list[Sample]:
        """Takes a sample; returns it and those of the last minutes, oldest first."""
        with self._lock:
            sample = Sample(self._clock(), self._cpu_percent(), self._memory_percent())
            self._samples.append(sample)
            # The last one that is too old stays: the line begins there, beyond the edge.
            while len(self._samples) > 1 and self._samples[1].moment < sample.moment - MINUTES * 60:
                self._samples.popleft()
            return list(self._samples)

    def __call__(self) -> tuple[bytes, str]:
        return draw(self.sample()), "image/png"


def draw(samples: Sequence[Sample]) -> bytes:
    """The PNG of samples, oldest first and at least one."""
    png = BytesIO()
    FigureCanvasAgg(figure_of(samples)).print_png(png)  # type: ignore[no-untyped-call]
    return png.getvalue()


def figure_of(samples: Sequence[Sample]) -> Figure:
    """What `draw` draws."""
    newest = samples[-1]
    ago = [(newest.moment - sample.moment) / 60 for sample in samples]
    cpu = [sample.cpu_percent for sample in samples]
    memory = [sample.memory_percent for sample in samples]

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="none")
    # Fixed margins, so that nothing jumps between two pictures.
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.21, top=0.87)
    axes = figure.add_subplot(facecolor="none")
    # A step holds for the time before its sample, which is what an average is of.
    axes.plot(ago, cpu, color=CPU, label=f"CPU {cpu[-1]:.0f} %", drawstyle="steps-pre")
    axes.plot(ago, memory, color=MEMORY, label=f"memory {memory[-1]:.0f} %")
    # A dot for now, which is all there is to see of a single sample.
    axes.scatter([0, 0], [cpu[-1], memory[-1]], 16, [CPU, MEMORY], clip_on=False, zorder=3)
    axes.set(xlim=(MINUTES, 0), ylim=(0, 100), xlabel="minutes ago", ylabel="percent")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.tick_params(color=INK, labelcolor=INK)
    axes.spines[:].set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, labelcolor=INK,
        borderaxespad=0,
    )  # fmt: skip
    return figure


# A share in the processors' time of its own: `load` asks at other moments.
plot = Chart(machine.Cpu().percent, lambda: machine.memory()[0])
