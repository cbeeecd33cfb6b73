"""What the page looks like where its classes do not say it: sizes, contrast, and what stays in sight."""

from __future__ import annotations

STYLE = """
body { overflow-wrap: anywhere; }
html { scroll-padding-top: calc(3.7rem + 30vh) !important; }
.studio-picture { width: 100%; position: sticky; top: 3.6rem; z-index: 10; padding: 0.25rem 0; background: #fff; }
.body--dark .studio-picture { background: #121212; }
.studio-picture img { display: block; max-width: 100%; max-height: 30vh; margin: 0 auto; object-fit: contain; }
/* On a telephone, the picture stays above all that follows it, and not only above what stands in its own column. */
.studio-left { display: contents; }
@media (min-width: 1024px) {
  html { scroll-padding-top: 4rem !important; }
  .studio-left { display: flex; position: sticky; top: 4.5rem; }
  .studio-picture { position: static; }
  .studio-picture img { max-height: 70vh; }
}
.studio-warning { color: #8a3b00; }
.body--dark .studio-warning { color: #ffb74d; }
.nicegui-code-copy { opacity: 1; }
"""
