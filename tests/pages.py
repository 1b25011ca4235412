"""An HTML page as tests look at it: words, tags, and that it needs nothing but itself."""

import re
from html.parser import HTMLParser

_EMPTY = {"meta", "img", "br", "line", "rect", "polyline", "circle", "input", "link", "path"}


class Page(HTMLParser):
    """Parses the page and refuses one whose tags do not close."""

    def __init__(self, text):
        super().__init__()
        self.source, self.tags, self.links, self.words, self.open = text, [], [], [], []
        self.labels = []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.labels += [value for name, value in attrs if name in ("aria-label", "alt")]
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _EMPTY:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def require_self_contained(self):
        assert "script" not in self.tags
        for link in self.links:
            assert link.startswith("data:image/"), link
        assert not re.search(r"https?://|url\(|@import", self.source)
