// The other charts: the long tail, learning over the epochs, memorization per class.

function histogram(canvas, data, mask) {
  const frame = prepare(canvas), gap = data.memorization, bins = 60
  const [low, high] = extent(gap), x = scale(low, high), counts = [0, 1].map(() => new Float64Array(bins))
  for (let i = 0; i < gap.length; i++) {
    const bin = Math.min(bins - 1, Math.floor(x.to(gap[i]) * bins)), w = weight(data, i)
    counts[0][bin] += w
    if (mask[i]) counts[1][bin] += w
  }
  const y = scale(0, Math.max(...counts[0]), 'log')
  y.ticks = [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6].filter(v => v <= y.high)
  axes(frame, x, y, 'memorization (nats)', 'examples')
  const {context, area} = frame, width = (area.right - area.left) / bins
  for (const [which, shade] of [[0, 'pale'], [1, 'seen']]) {
    context.fillStyle = colour(shade)
    counts[which].forEach((c, bin) => {
      const top = place(y, c, area.bottom, area.top)
      if (c > 0) context.fillRect(area.left + bin * width, top, Math.max(1, width - 1), area.bottom - top)
    })
  }
  frames.histogram = {...frame, x, y}
}

/** Lines of one quantity per epoch: solid unseen, dashed seen; a colour per group. */
function lines(data, quantity, percent) {
  const width = 460, height = 230, left = 42, right = width - 100, top = 10, bottom = height - 34
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
  return element('figure', {}, element('figcaption', {}, percent ? 'Share of labels that are predicted, per epoch' : 'Mean loss per epoch (nats)'), art)
}

function lineSummary(series, quantity, percent) {
  const said = series.map(s => `${s.group}, ${s.side}: ${percent ? Math.round(100 * s.values.at(-1)) + '%' : s.values.at(-1).toFixed(2)}`)
  return `${quantity === 'loss' ? 'Loss' : 'Accuracy'} after the last epoch. ${said.join('; ')}.`
}

/** Names at the ends of the lines, pushed apart where they would overlap. */
function names(art, ends, groups, right, top, bottom) {
  ends.sort((a, b) => a.at - b.at)
  let last = top - 12
  const free = ends.map(end => last = Math.max(end.at + 4, last + 12))
  const over = Math.max(0, last - bottom - 4)
  ends.forEach((end, k) => {
    art.append(vector('text', {class: `name group${end.g}`, x: right + 6, y: Math.min(free[k], free[k] - (k / Math.max(1, ends.length - 1)) * over)}, `${groups[end.g].name.replace(/ (labels|fifth)$/, '')}, ${end.side}`))
  })
}

const label = (x, y, text, anchor) => vector('text', {class: 'tick', x, y, 'text-anchor': anchor}, String(text))

/** Middle 90%, median and maximum of memorization, a row per class, highest 95% point first; and how many of each class are in view. */
function perClass(data, mask, choose, all = false) {
  const groups = Array.from({length: data.classes.length}, () => []), inView = new Float64Array(data.classes.length)
  for (let i = 0; i < data.ids.length; i++) { groups[data.given[i]].push(i); if (mask[i]) inView[data.given[i]] += weight(data, i) }
  const [low, high] = extent(data.memorization), x = scale(low, high), at = v => 1 + 98 * x.to(v), percent = v => v.toFixed(2) + '%'
  const found = groups.map((of, c) => ({c, of, high: quantile(data, of, 0.95)})).filter(({of}) => of.length).sort((a, b) => b.high - a.high)
  const shown = all ? found : found.slice(0, 20)
  const rows = shown.map(({c, of, high}) => {
    const from = at(quantile(data, of, 0.05)), middle = at(quantile(data, of, 0.5)), most = at(data.memorization[of[0]])
    const art = vector('svg', {'aria-hidden': 'true'},
      vector('line', {class: 'grid-line', x1: percent(at(0)), x2: percent(at(0)), y1: 0, y2: '100%'}),
      vector('line', {class: 'grid-line', x1: percent(from), x2: percent(most), y1: '50%', y2: '50%'}),
      vector('rect', {class: 'range', x: percent(from), y: '25%', width: percent(Math.max(0.3, at(high) - from)), height: '50%', rx: 2}),
      vector('rect', {class: 'median', x: percent(middle), y: '12%', width: 2, height: '76%'}),
      vector('circle', {class: 'most', cx: percent(most), cy: '50%', r: 3}))
    const said = `${named(data, c)}: ${count(inView[c], data)} in view, median memorization ${quantile(data, of, 0.5).toFixed(2)}, 95% below ${high.toFixed(2)}, highest ${data.memorization[of[0]].toFixed(2)} nats`
    return element('button', {className: 'class-row', title: said, 'aria-pressed': String(state.class === c), onclick: () => choose(c)},
      element('span', {className: 'class-name'}, named(data, c)), element('span', {className: 'class-count'}, count(inView[c], data)), art)
  })
  const marks = x.ticks.map(tick => vector('text', {class: 'tick', x: percent(at(tick)), y: 12, 'text-anchor': 'middle'}, String(tick)))
  rows.push(element('div', {className: 'class-row'}, element('span', {className: 'class-name hint'}, 'nats'), element('span'), vector('svg', {'aria-hidden': 'true'}, ...marks)))
  const made = element('div', {className: 'classes'}, ...rows)
  if (shown.length < found.length) made.append(element('button', {className: 'quiet', onclick: () => made.replaceWith(perClass(data, mask, choose, true))}, `Show all ${found.length} classes`))
  return made
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
