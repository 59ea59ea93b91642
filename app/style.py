"""Styles that the tabs share."""

CSS = """
.tab-section { border-top: 1px solid rgba(127,127,127,.35); padding-top: 14px; margin-top: 10px; gap: 10px; }
/* The first section of a tab stands right below the row of tabs, which has a line of its own. */
.tab-section:first-child { border-top: 0; padding-top: 0; margin-top: 0; }
.tab-section h2 { font-size: 1.2rem; font-weight: 700; margin: 0; scroll-margin-top: 12px; }
.tab-section .lead { margin: .15rem 0 0; max-width: 75rem; }
.tab-section .html-container, .tab-head .html-container { padding: 0; }
.tab-stage, .examples { gap: 8px; }
.examples .examples-label { flex: 0 0 auto; min-width: 0; width: auto; align-self: center; font-size: .9rem; font-weight: 600; }
.tab-head nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
.tab-head nav a { color: var(--body-text-color); text-decoration: underline; padding: .3rem 0; }
.tab-section .note, .tab-head .note { font-size: .85rem; margin: 0; max-width: 62rem; opacity: .85; }
.pictures.two { grid-template-columns: repeat(2, minmax(0, 1fr)); max-width: 46rem; }
table.figures { border: 0 !important; border-collapse: collapse; width: 100%; max-width: 46rem; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
table.figures caption { text-align: left; padding-bottom: 4px; }
.tab-section table.figures :is(th, td) { text-align: left; vertical-align: top; padding: 3px 12px 3px 0;
  border: 0 solid rgba(127,127,127,.25) !important; border-bottom-width: 1px !important; font-weight: 400; }
.tab-section table.figures tr { border: 0 !important; }
.tab-section table.figures thead :is(th, td) { font-weight: 600; }
table.figures small { white-space: nowrap; opacity: .85; }
table.figures .figure { white-space: nowrap; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; }
.tab-plot { overflow-x: auto !important; }
.tab-plot .modebar-container { display: none; }
/* Hidden by style, not by Gradio: a figure that is shown and filled at once sometimes stayed empty. */
.until-drawn:not(:has(.js-plotly-plot)) { visibility: hidden; height: 0; min-height: 0; overflow: hidden; }
.tab-plot:not(:has(.js-plotly-plot)) { visibility: hidden; height: 0; min-height: 0; padding: 0; border: 0; overflow: hidden; }
@media (max-width: 640px) {
  table.figures :is(small, .figure) { white-space: normal; }
  .tab-section table.figures :is(th, td) { padding-right: 8px; }
  .examples .examples-label { flex-basis: 100%; }
  .pictures.three { grid-template-columns: repeat(3, minmax(0, 1fr)); }
}
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px 12px; }
/* The bars stand in one line, and so do the pictures, also where one title takes two lines. */
.pictures .cell { margin: 0; min-width: 0; border-top: 4px solid var(--member); display: flex; flex-direction: column;
  justify-content: space-between; }
.pictures figcaption { display: flex; flex-wrap: wrap; gap: 0 .5em; font-size: .85rem; padding: 3px 0; line-height: 1.3; }
.pictures figcaption span { opacity: .75; }
.pictures img { display: block; width: 100%; height: auto; }
.pictures .empty { aspect-ratio: 1; display: flex; align-items: center; justify-content: center; text-align: center;
  padding: 8%; border: 1.5px dashed rgba(127,127,127,.6); border-radius: 6px; font-size: .85rem; opacity: .8; }
.status { font-size: .9rem; font-variant-numeric: tabular-nums; }
.status .bar { height: 4px; margin-top: 5px; border-radius: 2px; background: rgba(127,127,127,.25); overflow: hidden; }
.status .bar i { display: block; height: 100%; background: currentColor; opacity: .65; }
.notice { border: 1.5px solid #D55E00; border-radius: 6px; padding: .5rem .7rem; font-size: .9rem; }
.summary { font-size: .9rem; margin: 0; }
/* One grey cannot be read on both a white and a dark page: the text of figures takes the color of the page's text. */
.js-plotly-plot .main-svg text:not(.hovertext text) { fill: var(--body-text-color) !important; }
.js-plotly-plot .hoverlayer .legend .bg { fill: var(--background-fill-primary) !important; }
@media (max-width: 640px) {
  .pictures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .pictures .difference { order: 1; }
  .pictures figcaption { flex-direction: column; }
}
"""
