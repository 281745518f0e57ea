"""The browser that the page's tests share."""

from browser import browser

__all__ = ["browser"]
