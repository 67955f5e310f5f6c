// The pointer in a chart: a lasso or a range selects, a click or a tap opens the nearest point, hovering names it.

function pointers(data, canvas, mask, set, open) {
  let trace = null
  const spot = event => { const r = canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top] }
  const chart = () => state.chart
  canvas.onpointerdown = event => {
    if (event.button || event.pointerType === 'touch' && canvas.dataset.lasso !== 'yes') return
    trace = [spot(event)]
    canvas.setPointerCapture(event.pointerId)
  }
  canvas.onpointermove = event => {
    if (!trace) return chart() === 'histogram' || event.pointerType === 'touch' ? null : hover(data, mask, chart(), spot(event), event)
    const to = spot(event), last = trace.at(-1)
    if (Math.hypot(to[0] - last[0], to[1] - last[1]) < 3) return
    trace.push(to)
    by('tip').hidden = true
    if (chart() === 'histogram') band(canvas, trace[0], to)
    else lassoPath(frames[chart()], shares(trace.slice(-2), frames[chart()].area), false)
  }
  canvas.onpointerleave = () => { by('tip').hidden = true }
  canvas.onpointercancel = () => { trace = null }
  canvas.onpointerup = event => {
    const drawn = trace, to = spot(event)
    trace = null
    by('band')?.remove()
    if (drawn && drawn.length > 2) return set(chart() === 'histogram' ? ranged(drawn[0], to) : lassoed(chart(), drawn))
    const near = chart() === 'histogram' ? -1 : nearest(mask, frames[chart()], to, event.pointerType === 'touch' ? 24 : 8)
    if (near >= 0) open(near)
    else if (state.region) set({region: null})
  }
}

/** Pixels in shares of the axes: x, y, x, y, … */
function shares(spots, area) {
  return spots.flatMap(([x, y]) => [(x - area.left) / (area.right - area.left), (area.bottom - y) / (area.bottom - area.top)])
}

function lassoed(chart, spots) {
  const step = Math.ceil(spots.length / 60)
  return {region: {chart, points: shares(spots.filter((_, k) => k % step === 0), frames[chart].area).map(v => +v.toFixed(3))}}
}

function ranged([from], [to]) {
  const {x, area} = frames.histogram, ends = [from, to].map(v => +x.from((v - area.left) / (area.right - area.left)).toFixed(3)).sort((a, b) => a - b)
  return {column: 'memorization', low: ends[0], high: ends[1]}
}

function band(canvas, from, to) {
  const {area} = frames.histogram, host = canvas.parentElement, made = by('band') ?? host.appendChild(element('div', {id: 'band'}))
  Object.assign(made.style, {left: canvas.offsetLeft + Math.min(from[0], to[0]) + 'px', top: canvas.offsetTop + area.top + 'px', width: Math.abs(to[0] - from[0]) + 'px', height: area.bottom - area.top + 'px'})
}

/** The point in view nearest to a spot, within so many pixels; -1 where there is none. */
function nearest(mask, {xs, ys, area}, [px, py], reach) {
  let best = -1, least = reach * reach
  const width = area.right - area.left, height = area.bottom - area.top
  for (let i = 0; i < xs.length; i++) {
    if (!mask[i]) continue
    const dx = area.left + xs[i] * width - px, dy = area.bottom - ys[i] * height - py, d = dx * dx + dy * dy
    if (d < least) { least = d; best = i }
  }
  return best
}

function hover(data, mask, id, spot, event) {
  const i = nearest(mask, frames[id], spot, 8), tip = by('tip')
  tip.hidden = i < 0
  if (i < 0) return
  const shown = isPicture(data, i) ? [thumbnail(data, data.picture[i] - 1, data.ids[i])] : []
  tip.replaceChildren(...shown, element('div', {}, element('b', {}, snippet(data, i)), element('br'), `label ${named(data, data.given[i])}, unseen says ${named(data, data.said_unseen[i])}`, element('br'), `memorization ${data.memorization[i].toFixed(2)}`))
  tip.style.left = Math.min(event.clientX + 14, innerWidth - 260) + 'px'
  tip.style.top = Math.min(event.clientY + 14, innerHeight - 130) + 'px'
}
