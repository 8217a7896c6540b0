"""The page's style: light and dark, for screens of any width and for paper; related to that of `apiece check`."""

LIGHT = """--ink: #1c2430; --dim: #566070; --ground: #f6f8fa; --card: #ffffff; --line: #d9dfe6; --soft: #eef2f6;
  --accent: #1f5f9e; --more: #b85c00; --less: #1c6fb0; --bar: #5c7690; --flag: #a3123a; --warn: #7a4f00;
  --grid: #e6eaef; --edge: #7d8999; --press: #1f5f9e; --pressed: #ffffff;"""
DARK = """--ink: #e4e9ef; --dim: #a3aebb; --ground: #10141a; --card: #181e26; --line: #303a46; --soft: #202833;
  --accent: #86baf0; --more: #f0a04b; --less: #62b0ec; --bar: #8198b0; --flag: #ff8aa2; --warn: #f0c060;
  --grid: #28313c; --edge: #66758a; --press: #86baf0; --pressed: #10141a;"""

STYLE = (
    f":root {{ color-scheme: light dark; {LIGHT} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}\n"
    """
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  overflow-wrap: break-word; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: .2rem; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: .5rem 1rem; z-index: 9; }
.page { max-width: 76rem; margin: 0 auto; padding: 1.2rem; }
header h1 { font-size: 1.7rem; line-height: 1.2; letter-spacing: -.01em; margin: .4rem 0 .6rem; }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: 0; font-size: .9rem; }
.facts div { display: flex; gap: .5rem; min-width: 0; }
.facts dt { color: var(--dim); flex: none; }
.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
nav.contents { margin: 1.2rem 0 0; border-block: 1px solid var(--line); padding: .5rem 0; }
@media (min-width: 60rem) and (min-height: 40rem) {
  nav.contents { position: sticky; top: 0; z-index: 5; background: var(--ground); }
  html { scroll-padding-top: 4rem; }
}
nav.contents [aria-current] { color: var(--ink); font-weight: 600; }
nav.contents ul { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; margin: 0; padding: 0;
  font-size: .92rem; }
nav.contents a { text-decoration: none; display: inline-block; padding: .2rem 0; }
nav.contents a:hover { text-decoration: underline; }
main > section { margin-top: 3rem; }
h2 { font-size: 1.3rem; letter-spacing: -.005em; line-height: 1.25; margin: 0 0 .7rem; }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 2rem 0 .4rem; }
h2 + h3 { margin-top: 0; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.lead { color: var(--dim); }
.live:empty { margin: 0; }
.dim { color: var(--dim); font-weight: 400; }
.absent { color: var(--dim); border-left: 3px solid var(--line); padding-left: .8rem; }
.card, .tile { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .9rem
  1rem; }

#verdict h2 { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
#verdict { margin-top: 1.6rem; }
.verdict { list-style: none; margin: 0; padding: 0; max-width: 56rem; font-size: 1.12rem; line-height: 1.5; }
.verdict li { padding: .55rem 0 .55rem 1rem; border-left: 3px solid var(--line); }
.verdict li:first-child { border-color: var(--accent); font-size: 1.3rem; line-height: 1.4; font-weight: 600; }

.tiles { display: grid; gap: .7rem; margin: 0 0 .8rem; grid-template-columns: repeat(auto-fit, minmax(10rem,
  1fr)); }
.tile { display: flex; flex-direction: column; }
.tile dt { font-size: .88rem; color: var(--dim); }
.tile dd { margin: 0; display: flex; flex-direction: column; }
.tile dd span { font-size: .82rem; color: var(--dim); line-height: 1.35; }
.tile b { font-size: 1.75rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile.more b { color: var(--more); }
.tile.less b { color: var(--less); }
.beside { display: grid; gap: .8rem; grid-template-columns: minmax(0, 1fr) minmax(13rem, 17rem); align-items:
  stretch; }
.wide-chart { padding: .6rem 1rem; }
.waterfall { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: .6rem .8rem; align-items: center;
  font-size: .92rem; padding: .3rem 0; }
.waterfall svg { display: block; width: 100%; height: 1.35rem; border-radius: .15rem; }
.waterfall span { color: var(--dim); }
.waterfall b { font-variant-numeric: tabular-nums; text-align: right; }
.beside dl { margin: .4rem 0 0; font-size: .88rem; }
.beside dl div { display: flex; gap: 1rem; padding: .22rem 0; justify-content: space-between; }
.beside dt { color: var(--dim); }
.beside dd { margin: 0; text-align: right; font-weight: 600; font-variant-numeric: tabular-nums; }
.beside h3 { margin: 0; font-size: .95rem; }

.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  margin-bottom: .8rem; }
.long { max-height: 36rem; overflow-y: auto; }
.long thead th { position: sticky; top: 0; background: var(--card); box-shadow: 0 1px 0 var(--line); z-index: 1;
  }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .6rem .8rem .2rem; color: var(--dim); font-size: .82rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .8rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-weight: 600; font-size: .82rem; color: var(--dim); vertical-align: bottom;
  line-height: 1.3; }
tbody th { font-weight: 600; min-width: 7rem; }
tbody th bdi { display: inline-block; width: max-content; max-width: 18rem; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.chart { min-width: 7.5rem; width: 10rem; padding: .62rem .4rem 0; }
.dense th, .dense td { padding-inline: .5rem; }
.dense td.text { min-width: 11rem; }
.by { display: block; font-weight: 400; color: var(--dim); font-size: .8rem; }
table.narrow { max-width: 30rem; }
td.text { min-width: 14rem; }
.causes tbody th { min-width: 13rem; }
thead .number { white-space: normal; min-width: 4.6rem; }
tfoot th, tfoot td { border-top: 2px solid var(--line); font-weight: 600; }
tr.none > * { color: var(--dim); }
tbody tr:hover > * { background: var(--soft); }
.range { display: block; font-size: .8rem; color: var(--dim); }
.zero { color: var(--dim); }
.sort { font: inherit; color: inherit; background: none; border: 0; padding: .2rem 0; margin: 0; cursor:
  pointer; text-align: inherit; }
.sort:hover { color: var(--ink); text-decoration: underline; }
th[aria-sort] .arrow::before { content: "\\2195"; opacity: .55; }
th[aria-sort=ascending] .arrow::before { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] .arrow::before { content: "\\2193"; opacity: 1; }
html:not(.scripts) .arrow, html:not(.scripts) .scripted { display: none; }
html:not(.scripts) .sort { pointer-events: none; }
.ledger tbody th, .options tbody th { min-width: 16rem; }
.options tbody th { width: 26rem; }
.kind-name { display: flex; align-items: center; gap: .6rem; }
.meaning { display: block; font-weight: 400; color: var(--dim); font-size: .82rem; line-height: 1.4; max-width:
  30rem; }

button, select, input { font: inherit; color: inherit; }
.chip, .only, .plain { background: var(--card); border: 1px solid var(--edge); border-radius: 1rem; cursor:
  pointer; padding: .2rem .75rem; min-height: 2rem; line-height: 1.3; }
.only { font-size: .76rem; padding: 0 .55rem; min-height: 1.5rem; font-weight: 400; color: var(--dim); }
.plain { border-radius: .35rem; }
.chip:hover, .only:hover, .plain:hover { border-color: var(--accent); }
[aria-pressed=true] { background: var(--press); border-color: var(--press); color: var(--pressed); }
[aria-pressed=true] .dim { color: inherit; }
.filters { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1rem
  .7rem; margin-bottom: .8rem; }
.fields { display: flex; flex-wrap: wrap; gap: .7rem; align-items: end; margin-top: .8rem; }
.field { min-width: 0; }
.field .label, .field label { display: block; font-size: .82rem; color: var(--dim); margin-bottom: .25rem; }
.grow { flex: 1 1 12rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; }
select, input[type=search] { background: var(--ground); border: 1px solid var(--edge); border-radius: .35rem;
  padding: .25rem .5rem; min-height: 2.1rem; width: 100%; max-width: 24rem; }
.toggles { gap: .3rem 1.3rem; font-size: .9rem; }
.toggles label { display: flex; gap: .4rem; align-items: center; min-height: 1.8rem; }
.toggles input { width: 1rem; height: 1rem; accent-color: var(--accent); margin: 0; }
#filter-status { margin: .6rem 0 0; font-size: .9rem; color: var(--dim); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; list-style: none; margin: 0 0 .4rem; padding: 0;
  font-size: .85rem; color: var(--dim); }
.legend li { display: flex; align-items: center; gap: .5rem; }
.legend svg { width: 44px; height: 12px; }
.legend rect { fill: #39424e; }

.grid { display: grid; gap: 1rem .8rem; margin-bottom: 1.2rem; grid-template-columns: repeat(auto-fill,
  minmax(min(12.5rem, 42vw), 1fr)); }
.grid.large { grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); align-items: start; }
.enlarged .grid { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
.view { position: relative; border-radius: .35rem; overflow: hidden; background: #21262e; }
.view img, .view svg { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
figcaption { font-size: .82rem; line-height: 1.4; margin-top: .35rem; }
figcaption .told { display: block; }
.foot { display: flex; align-items: baseline; gap: .4rem; color: var(--dim); font-size: .76rem; }
.where { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
.tag { color: var(--dim); font-size: .72rem; border: 1px solid var(--line); border-radius: .25rem; padding: 0
  .3rem; flex: none; }
.o { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.view svg { filter: drop-shadow(0 0 .7px #000) drop-shadow(0 0 .5px rgb(0 0 0 / .8)); }
.o.truth { stroke: #56b4e9; stroke-width: 3.4; }
.whole .o { stroke-width: 1.6; }
.whole .o.truth { stroke-width: 2.4; }
.o.prediction { stroke: #ffa827; stroke-dasharray: 6 4; }
.o.near.near { stroke-width: 1.1; opacity: .7; }
.o.near.prediction { stroke-dasharray: 3 3; }
.o.candidate { stroke-width: 2; stroke-dasharray: .1 4.5; stroke-linecap: round; }
.no-truth .o.truth, .no-prediction .o.prediction, .no-near .o.near { display: none; }
.group[hidden], figure[hidden], tr[hidden] { display: none; }

svg text { font: 11.5px system-ui, sans-serif; fill: var(--ink); }
svg .tick { fill: var(--dim); text-anchor: middle; }
svg .tick.end, svg .row.end { text-anchor: end; }
svg .axis { fill: var(--dim); text-anchor: middle; font-size: 12px; }
svg .row { font-size: 14px; }
svg .strong { font-weight: 600; }
svg.inline { display: block; width: 100%; max-width: 13rem; height: auto; overflow: visible; }
.bar { fill: var(--bar); }
.bar.more, .dot.more, .point.more { fill: var(--more); }
.bar.less, .dot.less { fill: var(--less); }
.bar.truth, .bar.predicted { fill: var(--bar); }
.bar.soft { fill: var(--bar); opacity: .4; }
.dot { fill: var(--bar); }
.whisker { stroke: var(--ink); stroke-width: 1.3; fill: none; }
.zero, .link { stroke: var(--dim); stroke-width: 1; fill: none; }
.link { stroke-dasharray: 2 3; }
svg .zero { opacity: .6; }
.grid-line, svg .grid { stroke: var(--grid); fill: none; }
svg .frame { stroke: var(--dim); fill: none; }
.point { fill: var(--accent); fill-opacity: .55; }
.point.solid { fill-opacity: 1; }
.trend { stroke: var(--accent); stroke-width: 2; fill: none; }
.second { stroke: var(--more); stroke-width: 2; fill: none; stroke-dasharray: 6 3; }
.second-point { fill: var(--more); fill-opacity: .8; }
.ideal { stroke: var(--dim); stroke-width: 1.2; stroke-dasharray: 4 4; fill: none; }
.plots { display: grid; margin-bottom: .8rem; gap: .8rem; grid-template-columns: repeat(auto-fit,
  minmax(min(20rem, 100%), 1fr)); }
.plots .card { min-width: 0; }
.plots h3 { margin: 0 0 .3rem; }
.plot { display: block; width: 100%; max-width: 36rem; height: auto; }
.plots p { font-size: .85rem; margin: .4rem 0 0; }
.plots details { margin-top: .5rem; }
details > summary { cursor: pointer; color: var(--accent); font-size: .9rem; padding: .2rem 0; }
details .scroll, details .glossary { margin: .6rem 0 1rem; }
section > details { margin-bottom: .3rem; }

.flag { display: inline-block; color: var(--flag); border: 1px solid currentcolor; border-radius: .25rem;
  font-weight: 500; font-size: .76rem; line-height: 1.5; padding: 0 .35rem; margin: 0 .25rem .15rem 0;
  white-space: nowrap; }
.flag.warn { color: var(--warn); }
.flag.good { color: var(--less); }
.promises { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
.promises h3 { margin: 0 0 .3rem; }
.promises p { font-size: .92rem; margin: 0 0 .5rem; }
.promises dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: .1rem .8rem; font-size: .86rem; }
.promises dt { color: var(--dim); }
.promises dd { margin: 0; font-variant-numeric: tabular-nums; }
.promises .void { border-style: dashed; }
ul.notes { padding-left: 1.2rem; margin: 0 0 .8rem; max-width: 46rem; }
ul.notes li { margin-bottom: .3rem; }
.glossary { display: grid; grid-template-columns: minmax(8rem, 13rem) 1fr; gap: .5rem 1.2rem; margin: 0;
  font-size: .9rem; }
.glossary dt { font-weight: 600; overflow-wrap: anywhere; }
.glossary dd { margin: 0; max-width: 46rem; overflow-wrap: anywhere; }
footer { margin: 3rem 0 1rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: .85rem; color:
  var(--dim); }

@media (max-width: 40rem) {
  .page { padding: .9rem; }
  header h1 { font-size: 1.4rem; }
  .verdict li:first-child { font-size: 1.12rem; }
  .verdict { font-size: 1.02rem; }
  main > section { margin-top: 2.4rem; }
  .glossary { grid-template-columns: 1fr; gap: .1rem; }
  .glossary dd { margin-bottom: .6rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile { padding: .6rem .7rem; }
  .tile b { font-size: 1.4rem; }
  th, td { padding: .4rem .55rem; }
  .ledger tbody th { min-width: 11rem; }
  .beside { grid-template-columns: minmax(0, 1fr); }
  .facts div { flex: 1 1 100%; }
  select { max-width: none; }
}
@page { margin: 14mm; }
@media print {
  table { font-size: 7.5pt; }
  th, td { padding: .2rem .35rem; }
  .range { font-size: 6.5pt; }
  .arrow { display: none; }
  .view svg { filter: none; }
  .long thead th { position: static; }
  .long tbody tr:nth-child(n + 26) { display: none; }
  .long caption::after { content: ": the first 25 rows; the page on a screen has all"; }
  body { font-size: 10.5pt; background: #fff; }
  .page { max-width: none; padding: 0; }
  .scripted, nav.contents, .skip { display: none !important; }
  main > section { margin-top: 1.4rem; }
  h2, h3 { break-after: avoid; }
  figure, .card, .tile, tr { break-inside: avoid; }
  .scroll { overflow: visible; max-height: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .group[hidden], figure[hidden] { display: revert; }
  .grid { grid-template-columns: repeat(5, 1fr); }
  .grid.large { grid-template-columns: repeat(3, 1fr); }
  a { color: inherit; text-decoration: none; }
}
@media (prefers-reduced-motion: no-preference) {
  html { scroll-behavior: smooth; }
}
@media (forced-colors: active) {
  .bar { fill: CanvasText; }
  [aria-pressed=true] { outline: 3px solid Highlight; }
}
"""
)
