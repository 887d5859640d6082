// Scales and ticks.

/** A function from [low, high] to [from, to]. */
export function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Round ticks from zero (or `low`) to at least `high`: 1, 2, 2.5 and 5 steps. */
export function ticks(low, high, count = 4) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= rough * 0.999);
  const out = [];
  for (let i = Math.floor(low / step + 1e-9); i * step < high + step * 0.999; i += 1) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** Draw again when the size of the element that a chart stands in changes. */
export function onResize(element, draw) {
  let [width, height] = [0, 0];
  new ResizeObserver(([entry]) => {
    const next = [Math.floor(entry.contentRect.width), Math.floor(entry.contentRect.height)];
    if (Math.abs(next[0] - width) < 2 && Math.abs(next[1] - height) < 2) return;
    [width, height] = next;
    requestAnimationFrame(draw);
  }).observe(element);
}
