// The charts. Each function draws one from the data and the mask of the filters.

const SCATTERS = {
  map: {x: 'variability', y: 'confidence', xName: 'variability', yName: 'confidence', kind: 'linear'},
  losses: {x: 'loss_seen', y: 'loss_unseen', xName: 'seen loss (nats)', yName: 'unseen loss (nats)', kind: 'log'},
}
const frames = {}

function scatter(id, data, mask) {
  const canvas = document.getElementById(id), about = SCATTERS[id], frame = prepare(canvas)
  const known = frames[id]?.x ? frames[id] : scaled(about, data)
  frames[id] = Object.assign(known, frame, {area: frame.area, chart: about})
  axes(frame, known.x, known.y, about.xName, about.yName)
  if (id === 'losses') diagonal(frame, known)
  points(frame, known.xs, known.ys, mask, id === 'map' ? byCorrectness(data) : byTruth(data), data.ids.length > 50000 ? 1.2 : data.ids.length > 5000 ? 1.6 : 3)
  box(id, frame, known)
}

function scaled(about, data) {
  const [xLow, xHigh] = extent(data[about.x]), [yLow, yHigh] = extent(data[about.y])
  const x = about.kind === 'log' ? scale(0, xHigh, 'log') : scale(0, Math.max(xHigh, 0.1)), y = about.kind === 'log' ? scale(0, yHigh, 'log') : scale(0, 1)
  return {x, y, xs: Float32Array.from(data[about.x], x.to), ys: Float32Array.from(data[about.y], y.to)}
}

function byCorrectness(data) {
  const shades = ramp(colour('unseen'), colour('middle'), colour('seen'))
  return i => shades[Math.round(63 * data.correctness[i])]
}

function byTruth(data) {
  const [real, wrong] = ['seen', 'unseen'].map(name => packed(channels(colour(name))))
  return data.true ? i => data.given[i] === data.true[i] ? real : wrong : i => data.given[i] === data.said_unseen[i] ? real : wrong
}

function diagonal({context, area}, {x, y}) {
  const end = Math.min(x.high, y.high)
  context.strokeStyle = colour('muted')
  context.setLineDash([4, 4])
  context.beginPath()
  for (let k = 0; k <= 50; k++) {
    const v = x.from(k / 50 * x.to(end))
    context.lineTo(place(x, v, area.left, area.right), place(y, v, area.bottom, area.top))
  }
  context.stroke()
  context.setLineDash([])
}

/** The rectangle of the selection, where it was made in this chart. */
function box(id, {context, area}, {x, y}) {
  const chosen = state.selection
  if (!chosen || chosen.chart !== id) return
  const left = place(x, chosen.x0, area.left, area.right), right = place(x, chosen.x1, area.left, area.right)
  const top = chosen.y ? place(y, chosen.y1, area.bottom, area.top) : area.top, bottom = chosen.y ? place(y, chosen.y0, area.bottom, area.top) : area.bottom
  context.strokeStyle = colour('ink')
  context.strokeRect(left, top, right - left, bottom - top)
}

function histogram(data, mask) {
  const frame = prepare(document.getElementById('histogram')), gap = data.memorization, bins = 80
  const [low, high] = extent(gap), x = scale(low, high)
  const counts = [0, 1, 2].map(() => new Float64Array(bins))
  for (let i = 0; i < gap.length; i++) {
    const bin = Math.min(bins - 1, Math.floor(x.to(gap[i]) * bins)), w = weight(data, i)
    counts[2][bin] += w
    if (mask[i]) counts[data.true && data.true[i] !== data.given[i] ? 1 : 0][bin] += w
  }
  const y = scale(0, Math.max(...counts[2]), 'log')
  y.ticks = [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6].filter(v => v <= y.high)
  axes(frame, x, y, 'memorization (nats)', 'examples')
  const {context, area} = frame, width = (area.right - area.left) / bins
  const shades = [[2, colour('pale'), 1], [0, colour('seen'), 1], [1, colour('unseen'), 0.85]]
  for (const [which, shade, alpha] of shades) {
    context.fillStyle = shade
    context.globalAlpha = alpha
    counts[which].forEach((c, bin) => {
      const top = place(y, c, area.bottom, area.top)
      if (c > 0) context.fillRect(area.left + bin * width, top, Math.max(1, width - 1), area.bottom - top)
    })
  }
  context.globalAlpha = 1
  frames.histogram = {...frame, x, y, chart: {x: 'memorization'}}
  box('histogram', frame, {x, y})
}

/** Lines of one quantity per epoch: solid unseen, dashed seen; a colour per group. */
function lines(id, data, quantity, percent) {
  const width = 460, height = 250, left = 42, right = width - 100, top = 10, bottom = height - 34
  const {epochs, groups} = data.history
  const series = groups.flatMap((group, g) => ['seen', 'unseen'].map(side => ({group: group.name, g, side, values: group[`${quantity}_${side}`]})))
  const x = scale(epochs[0], epochs.at(-1)), y = percent ? scale(0, 1) : scale(0, Math.max(...series.flatMap(s => s.values.filter(Number.isFinite))))
  const art = vector('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': lineSummary(series, quantity, percent)})
  for (const tick of y.ticks) {
    const at = place(y, tick, bottom, top)
    art.append(vector('line', {class: 'grid-line', x1: left, x2: right, y1: at, y2: at}), label(left - 6, at + 4, percent ? Math.round(tick * 100) + '%' : tick, 'end'))
  }
  for (const tick of x.ticks.filter(Number.isInteger)) art.append(label(place(x, tick, left, right), bottom + 16, tick, 'middle'))
  art.append(label((left + right) / 2, bottom + 30, 'epoch', 'middle'))
  const ends = []
  for (const {g, side, values} of series) {
    const path = values.map((v, k) => `${k ? 'L' : 'M'}${place(x, epochs[k], left, right).toFixed(1)},${place(y, v, bottom, top).toFixed(1)}`).join('')
    art.append(vector('path', {class: `line group${g} ${side}`, d: path}))
    ends.push({g, side, at: place(y, values.at(-1), bottom, top)})
  }
  names(art, ends, groups, right, top, bottom)
  document.getElementById(id).replaceChildren(art)
}

function lineSummary(series, quantity, percent) {
  const told = series.map(s => `${s.group}, ${s.side}: ${percent ? Math.round(100 * s.values.at(-1)) + '%' : s.values.at(-1).toFixed(2)}`)
  return `${quantity === 'loss' ? 'Loss' : 'Accuracy'} after the last epoch. ${told.join('; ')}.`
}

/** Names at the ends of the lines, pushed apart where they would overlap. */
function names(art, ends, groups, right, top, bottom) {
  ends.sort((a, b) => a.at - b.at)
  let last = top - 12
  const free = ends.map((end, k) => last = Math.max(end.at + 4, last + 12))
  const over = Math.max(0, last - bottom - 4)
  ends.forEach((end, k) => {
    art.append(vector('text', {class: `name group${end.g}`, x: right + 6, y: Math.min(free[k], free[k] - (k / Math.max(1, ends.length - 1)) * over)}, `${groups[end.g].name.replace(/ (labels|fifth)$/, '')}, ${end.side}`))
  })
}

const label = (x, y, text, anchor) => vector('text', {class: 'tick', x, y, 'text-anchor': anchor}, String(text))

/** Middle 90%, median and maximum of memorization, a row per class, highest 95% point first. */
function perClass(data, mask, choose, all = false) {
  const classes = data.classes.length, groups = Array.from({length: classes}, () => [])
  for (let i = 0; i < data.ids.length; i++) if (mask[i]) groups[data.given[i]].push(i)
  const [low, high] = extent(data.memorization), x = scale(low, high), at = v => 1 + 98 * x.to(v), percent = v => v.toFixed(2) + '%'
  const found = groups.map((of, c) => ({c, of, high: quantile(data, of, 0.95)})).filter(({of}) => of.length).sort((a, b) => b.high - a.high)
  const shown = all ? found : found.slice(0, 20)
  const rows = shown.map(({c, of, high}) => {
    const from = at(quantile(data, of, 0.05)), middle = at(quantile(data, of, 0.5)), most = at(data.memorization[of[0]])
    const art = vector('svg', {'aria-hidden': 'true'},
      vector('line', {class: 'grid-line', x1: percent(at(0)), x2: percent(at(0)), y1: 0, y2: '100%'}),
      vector('line', {class: 'grid-line', x1: percent(from), x2: percent(most), y1: '50%', y2: '50%'}),
      vector('rect', {class: 'bar', x: percent(from), y: '25%', width: percent(Math.max(0.3, at(high) - from)), height: '50%', rx: 2}),
      vector('rect', {class: 'median', x: percent(middle), y: '12%', width: 2, height: '76%'}),
      vector('circle', {class: 'most', cx: percent(most), cy: '50%', r: 3}))
    const told = `${named(data, c)}: ${of.length} shown, median ${quantile(data, of, 0.5).toFixed(2)}, 95% below ${high.toFixed(2)}, highest ${data.memorization[of[0]].toFixed(2)} nats`
    return element('button', {className: 'class-row', title: told, 'aria-label': told, 'aria-pressed': String(state.class === c), onclick: () => choose(c)},
      element('span', {className: 'class-name'}, named(data, c)), art)
  })
  const marks = x.ticks.map(tick => vector('text', {class: 'tick', x: percent(at(tick)), y: 12, 'text-anchor': 'middle'}, String(tick)))
  rows.push(element('div', {className: 'class-row'}, element('span', {className: 'class-name hint'}, 'nats'), vector('svg', {'aria-hidden': 'true'}, ...marks)))
  if (shown.length < found.length) rows.push(element('button', {className: 'quiet', onclick: () => perClass(data, mask, choose, true)}, `Show all ${found.length} classes`))
  document.getElementById('per-class').replaceChildren(...rows)
}

/** Weighted quantile of memorization of examples in falling order. */
function quantile(data, of, share) {
  if (!of.length) return NaN
  if (!data.sampled) return data.memorization[of[Math.min(of.length - 1, Math.floor((1 - share) * of.length))]]
  const whole = of.reduce((sum, i) => sum + weight(data, i), 0)
  let above = 0
  for (const i of of) if ((above += weight(data, i)) >= (1 - share) * whole) return data.memorization[i]
  return data.memorization[of.at(-1)]
}

/** Given label against unseen prediction: a table up to 16 classes, else the most frequent pairs. */
function confusion(data, mask, choose) {
  const classes = data.classes.length, counts = new Map()
  for (let i = 0; i < data.ids.length; i++) {
    if (!mask[i]) continue
    const key = data.given[i] * classes + data.said_unseen[i]
    counts.set(key, (counts.get(key) ?? 0) + weight(data, i))
  }
  const off = [...counts].filter(([key]) => Math.floor(key / classes) !== key % classes).sort((a, b) => b[1] - a[1])
  const most = off.length ? off[0][1] : 1
  document.getElementById('confusion').replaceChildren(classes <= 16 ? table(data, counts, most, choose) : pairs(data, off.slice(0, 20), most, choose))
}

function table(data, counts, most, choose) {
  const classes = data.classes.length, head = element('tr', {}, element('td', {}))
  for (let c = 0; c < classes; c++) head.append(element('th', {scope: 'col', title: named(data, c)}, named(data, c)))
  const body = element('tbody', {}, head)
  for (let g = 0; g < classes; g++) {
    const row = element('tr', {}, element('th', {scope: 'row', title: named(data, g)}, named(data, g)))
    for (let s = 0; s < classes; s++) row.append(cell(data, g, s, counts.get(g * classes + s) ?? 0, most, choose))
    body.append(row)
  }
  return element('div', {className: 'scroll'}, element('table', {className: 'confusion'}, body))
}

function cell(data, g, s, value, most, choose) {
  const shown = value ? short(Math.round(value)) : '', chosen = state.pair && state.pair[0] === g && state.pair[1] === s
  const button = element('button', {onclick: () => choose(g, s), 'aria-pressed': String(!!chosen), 'aria-label': `labelled ${named(data, g)}, unseen says ${named(data, s)}: ${count(value, data)}`}, shown)
  if (g !== s && value) button.style.setProperty('--share', `${Math.round(5 + 75 * value / most)}%`)
  return element('td', {className: g === s ? 'agree' : value ? 'differ' : ''}, value ? button : '')
}

function pairs(data, found, most, choose) {
  const rows = found.map(([key, value]) => {
    const g = Math.floor(key / data.classes.length), s = key % data.classes.length
    const bar = element('span', {className: 'pair-bar'})
    bar.style.width = `${100 * value / most}%`
    return element('button', {className: 'pair', onclick: () => choose(g, s)}, element('span', {}, `${named(data, g)} → ${named(data, s)}`), bar, element('span', {}, count(value, data)))
  })
  return element('div', {}, ...rows)
}
