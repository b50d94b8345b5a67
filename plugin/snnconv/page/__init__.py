"""One page on a converted network, in one file that loads nothing from elsewhere."""

from snnconv.page.write import write_page

__all__ = ["write_page"]
