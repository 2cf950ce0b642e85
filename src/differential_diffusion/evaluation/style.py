"""How the page of a report looks, on a light screen and on a dark one."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  --ground: #ffffff; --text: #1b1f24; --quiet: #5b6570; --rule: #d9dee3; --raised: #f5f7f9;
  --line-1: #0b6bb0; --line-2: #c2500a; --line-3: #0b7f5f;
  --line-4: #a0498a; --line-5: #6b5bd2; --line-6: #8a6d00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --text: #e6e9ec; --quiet: #9aa5b1; --rule: #333a42; --raised: #1c2127;
    --line-1: #5fb3f0; --line-2: #ff9a57; --line-3: #3ecf9f;
    --line-4: #e58ccb; --line-5: #a99cff; --line-6: #e3c14a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 40px 0 8px; padding-bottom: 4px;
  border-bottom: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 20px 0 8px; font-weight: 600; }
p { margin: 8px 0; color: var(--quiet); max-width: 75ch; }
.lead { color: var(--text); overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; vertical-align: top; }
th { color: var(--quiet); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
.figure { text-align: right; padding: 5px 0 5px 14px; white-space: nowrap; }
th.figure { white-space: normal; }
.columns { display: grid; gap: 8px 32px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
img { max-width: 100%; height: auto; image-rendering: pixelated; }
.chart { margin: 0; padding: 12px; background: var(--raised); border-radius: 8px; }
.chart svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 12px; }
svg .label { fill: var(--text); font-size: 13px; }
svg .grid { stroke: var(--rule); }
svg .axis, svg .tick { stroke: var(--quiet); fill: none; }
svg g path { fill: none; stroke: var(--key); stroke-width: 2; }
svg circle { fill: var(--key); stroke: var(--raised); stroke-width: 1.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 8px;
  padding: 0; font-size: 13px; }
.key { display: inline-block; width: 14px; height: 3px; margin-right: 7px; vertical-align: middle;
  background: var(--key); }
.line-1 { --key: var(--line-1); } .line-2 { --key: var(--line-2); }
.line-3 { --key: var(--line-3); } .line-4 { --key: var(--line-4); }
.line-5 { --key: var(--line-5); } .line-6 { --key: var(--line-6); }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
