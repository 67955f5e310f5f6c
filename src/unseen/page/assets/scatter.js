// The scatters: the map of the examples, and two numbers of each against each other. The list's examples stand out; the axes stay.

const SCATTERS = {
  look: {name: 'Map', x: 'look_x', y: 'look_y', about: 'Near means alike, in two dimensions of the features.'},
  said: {name: 'Predictions', x: 'said_x', y: 'said_y', about: 'Near means: predicted alike by what has not seen them.'},
  losses: {name: 'Losses', x: 'loss_seen', y: 'loss_unseen', xName: 'seen loss (nats)', yName: 'unseen loss (nats)', kind: 'log', about: 'Above the line: known only because it was seen.'},
  cartography: {name: 'Data map', x: 'variability', y: 'confidence', xName: 'variability', yName: 'confidence', about: 'Mean and spread, over the epochs, of the label’s probability. Easy at the top, ambiguous to the right.'},
}
const SHADES = {list: 'list', class: 'label', said: 'unseen prediction', score: 'memorization', decided: 'decision'}
const kept = {}, frames = {}

/** Scales of a scatter, and its points in shares of them. */
function places(data, id) {
  if (kept[id]) return kept[id]
  const about = SCATTERS[id]
  if (about.kind === 'log') {
    const [x, y] = [about.x, about.y].map(name => scale(0, extent(data[name])[1], 'log'))
    return kept[id] = {x, y, xs: Float32Array.from(data[about.x], x.to), ys: Float32Array.from(data[about.y], y.to)}
  }
  const isMap = !about.xName
  const [x, y] = [about.x, about.y].map((name, k) => isMap ? padded(data[name]) : k ? scale(0, 1) : scale(0, Math.max(extent(data[name])[1], 0.1)))
  return kept[id] = {x, y, xs: Float32Array.from(data[about.x], x.to), ys: Float32Array.from(data[about.y], y.to)}
}

function padded(values) {
  const [low, high] = extent(values), room = 0.03 * (high - low || 1)
  return scale(low - room, high + room)
}

function scatter(canvas, id, data, mask) {
  const about = SCATTERS[id], frame = prepare(canvas, about.xName ? undefined : {left: 8, top: 8, right: 8, bottom: 8}), {x, y, xs, ys} = places(data, id)
  frames[id] = {...frame, x, y, xs, ys}
  if (about.xName) axes(frame, x, y, about.xName, about.yName)
  if (id === 'losses') diagonal(frame, x, y)
  let some = 0
  for (let i = 0; i < mask.length; i++) some += mask[i]
  const size = some > 50000 ? 1.2 : some > 5000 ? 1.8 : some > 300 ? 3 : 5
  points(frame, xs, ys, mask, shader(data), size)
  if (state.region?.chart === id) lassoPath(frame, state.region.points)
}

/** The colour of each point: packed. */
function shader(data) {
  const flat = name => packed(channels(colour(name)))
  if (state.shade === 'class' || state.shade === 'said') {
    const shades = classColours(data).map(css => packed(channels(css))), labels = state.shade === 'class' ? data.given : data.said_unseen
    return i => shades[labels[i] % shades.length]
  }
  if (state.shade === 'score') {
    const shades = ramp(colour('seen'), colour('middle'), colour('unseen')), {memorization} = data, [, high] = extent(memorization)
    return i => shades[Math.max(0, Math.min(63, Math.round(63 * memorization[i] / (high || 1))))]
  }
  if (state.shade === 'decided') {
    const shades = {keep: flat('good'), drop: flat('poor'), relabel: flat('unseen'), skip: flat('middle')}, open = flat('seen')
    return i => shades[decided.get(data.ids[i])?.decision] ?? open
  }
  const [one, two] = [flat('seen'), flat('unseen')], truth = data.true ?? data.said_unseen
  return i => data.given[i] === truth[i] ? one : two
}

const classColours = data => Array.from({length: Math.min(12, data.classes.length)}, (_, k) => colour('class' + k))

function legend(data) {
  const key = (css, text) => { const made = element('span', {}, text); made.style.setProperty('--key', css); return made }
  const of = name => `var(--${name})`
  if (state.shade === 'class' || state.shade === 'said') return [...data.classes.slice(0, 12).map((name, k) => key(of('class' + k), name)), ...data.classes.length > 12 ? [element('span', {className: 'plain'}, 'and so on, in the same colours')] : []]
  if (state.shade === 'score') return [key(of('seen'), 'low memorization'), key(of('middle'), 'middle'), key(of('unseen'), 'high')]
  if (state.shade === 'decided') return [key(of('good'), 'keep'), key(of('poor'), 'drop'), key(of('unseen'), 'relabel'), key(of('middle'), 'skip'), key(of('seen'), 'undecided')]
  const words = data.true ? ['label as it was', 'label changed on purpose'] : ['unseen prediction agrees', 'it says another class']
  return [key(of('seen'), words[0]), key(of('unseen'), words[1]), key(of('pale'), 'not in view')]
}

function diagonal({context, area}, x, y) {
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

/** The line of a lasso; points: x, y, x, y, … in shares of the axes. */
function lassoPath({context, area}, points, closed = true) {
  context.strokeStyle = colour('ink')
  context.lineWidth = 1.5
  context.beginPath()
  for (let k = 0; k < points.length; k += 2) context.lineTo(area.left + points[k] * (area.right - area.left), area.bottom - points[k + 1] * (area.bottom - area.top))
  if (closed) context.closePath()
  context.stroke()
}
