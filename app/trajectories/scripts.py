"""CSS and JavaScript of the tab Trajectories: moving markers, and clicks on the map and on images."""

from __future__ import annotations

from explore import figures

CSS = """
#paths-map { overflow: hidden; min-width: 0; }
#paths-map .modebar-container .modebar { opacity: .75; }
#paths-chosen .pictures.two { max-width: none; gap: 8px; }
#paths-grids .pictures.two { max-width: none; }
.pick { position: relative; cursor: pointer; }
.pick i { position: absolute; box-sizing: border-box; border: 2.5px solid #fff; outline: 2.5px solid var(--member);
  pointer-events: none; }
#paths-choice .form { gap: 8px; background: var(--block-background-fill); }
@media (max-width: 640px) { #paths-map .modebar-container { display: none; } }
"""
# Markers and the chosen path are moved in the browser: a new figure from the server would reset zoom and camera.
MOVE_JS = (
    """(step, image) => {
  const map = document.querySelector("#paths-map .js-plotly-plot");
  if (!map?.data || !window.Plotly) return;
  const number = (role, member) => map.data.findIndex(trace => trace.meta?.role === role && trace.meta.member === member);
  const about = map.data[number("path", 0)]?.customdata;
  if (!about) return;
  const frames = about.findIndex(row => row[0] === null), images = about.length / (frames + 1);
  let frame = 0;
  for (let k = 1; k < frames; k++) if (Math.abs(about[k][2] - step) < Math.abs(about[frame][2] - step)) frame = k;
  const axes = ["x", "y", "z"].filter(axis => axis in map.data[0]);
  const chosen = image >= 1 && image <= images ? image - 1 : null;
  const colored = number("point", 0) >= 0;
  const change = {customdata: []}, traces = [];
  for (const axis of axes) change[axis] = [];
  for (const member of [0, 1]) {
    const path = map.data[number("path", member)];
    const at = [...Array(images).keys()].map(i => i * (frames + 1) + frame);
    const whole = chosen === null ? [] : [...Array(frames).keys()].map(k => chosen * (frames + 1) + k);
    const here = chosen === null ? [] : [chosen * (frames + 1) + frame];
    for (const [role, picked] of [["at", at], ["chosen", whole], ["chosen-at", here]]) {
      traces.push(number(role, member));
      for (const axis of axes) change[axis].push(picked.length ? picked.map(k => path[axis][k]) : [null]);
      change.customdata.push(picked.map(k => about[k]));
    }
  }
  const faint = chosen !== null ? BEHIND : colored ? FAINT : CLEAR;
  window.Plotly.restyle(map, change, traces)
    .then(() => window.Plotly.restyle(map, {opacity: faint}, [number("path", 0), number("path", 1)]));
  const curve = document.querySelector("#paths-distance .js-plotly-plot");
  const lines = curve?.layout?.shapes?.length;
  if (lines) {
    const t = about[frame][3];
    window.Plotly.relayout(curve, {[`shapes[${lines - 1}].x0`]: t, [`shapes[${lines - 1}].x1`]: t});
  }
}""".replace("BEHIND", str(figures.BEHIND))
    .replace("FAINT", str(figures.FAINT))
    .replace("CLEAR", str(figures.CLEAR))
)
# A click on a point of the map sets image and step. Gradio builds a new figure for every map, so each needs a listener.
LISTEN_JS = """() => {
  let tries = 0;
  const listen = () => {
    const map = document.querySelector("#paths-map .js-plotly-plot");
    if (!map?.on || !map._fullData) { if (++tries < 100) setTimeout(listen, 100); return; }
    if (map.dataset.linked) return;
    map.dataset.linked = "1";
    map.on("plotly_click", event => {
      const about = event.points?.[0]?.customdata;
      if (!about || about[0] === null) return;
      window.clocklessPick = {image: about[0], step: about[2]};
      document.querySelector("#paths-pick").click();
    });
  };
  listen();
}"""
# A click on an image chooses it; a second click clears the choice.
PICTURES_JS = """() => {
  if (window.clocklessPictures) return;
  window.clocklessPictures = true;
  document.addEventListener("click", event => {
    const grid = event.target.closest?.("#paths-grids .pick");
    if (!grid) return;
    const box = grid.getBoundingClientRect(), {count, columns, rows} = grid.dataset;
    const column = Math.min(columns - 1, Math.floor((event.clientX - box.left) / box.width * columns));
    const row = Math.min(rows - 1, Math.floor((event.clientY - box.top) / box.height * rows));
    const image = row * columns + column + 1;
    if (image > count) return;
    window.clocklessPick = {image, step: null};
    document.querySelector("#paths-pick").click();
  });
}"""
PICK_JS = """(step, image) => {
  const pick = window.clocklessPick;
  if (!pick) return [step, image];
  return [pick.step ?? step, pick.step === null && pick.image === image ? 0 : pick.image];
}"""
