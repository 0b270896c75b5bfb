"""What the person sees: a live table where there is a terminal, plain lines where there is none."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

STORY_LINES_SHOWN = 18
REFRESHES_PER_SECOND = 4


class View:
    """Collects the story and the state of each actor; thread-safe, one lock for all of it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._story: deque[str] = deque(maxlen=STORY_LINES_SHOWN)
        self._actors: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the live table while the block runs, when the console is a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=REFRESHES_PER_SECOND, get_renderable=self._render) as live:
            self._live = live
            yield
        self._live = None

    def say(self, line: str) -> None:
        """Adds a line to the story."""
        with self._lock:
            self._story.append(line)
        if self._live is None:
            self.console.print(line, highlight=False, soft_wrap=True)

    def actor(self, name: str, **columns: str) -> None:
        """Updates what is known of one actor: `door`, `state`, `last`."""
        with self._lock:
            self._actors.setdefault(name, {}).update(columns)

    def _render(self) -> Group:
        table = Table(expand=True)
        for column in ("actor", "door", "state", "last"):
            table.add_column(column)
        with self._lock:
            for name, columns in self._actors.items():
                table.add_row(name, columns.get("door", ""), columns.get("state", ""), columns.get("last", ""))
            story = Text("\n").join(Text.from_markup(line) for line in self._story)
        return Group(table, Panel(story, title="what happens"))
