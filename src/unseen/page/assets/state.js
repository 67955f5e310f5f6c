// What is in view: the list, the filters, the sort, the selection; and the address that keeps them.

const START = {list: 'memorized', sort: 'list', class: null, said: null, column: 'memorization', low: null, high: null, search: '', open: false, region: null, only: null, chart: null, shade: 'list', view: 'cards'}
const state = {...START, selected: new Set()}

/** Positions in the order of the current list and sort. Examples are stored most memorized first. */
function order(data) {
  const listed = members(data)
  if (state.sort === 'list') return listed
  if (state.sort === 'id') return sorted(listed, identity(data), false)
  if (state.sort === 'learned') return sorted(listed, learnedChances(data), true)
  return sorted(listed, data[state.sort], COLUMNS[state.sort][3])
}

function members(data) {
  const n = data.ids.length
  if (state.only !== null) return Uint32Array.of(state.only)
  if (state.list === 'easy') return Uint32Array.from({length: n}, (_, i) => n - 1 - i)
  if (state.list === 'decided') return held(data, () => true)
  if (state.list === 'disagreements') return held(data, decision => decision.other)
  return data['list_' + state.list] ?? Uint32Array.from({length: n}, (_, i) => i)
}

const held = (data, wanted) => Uint32Array.from([...decided].filter(([id, decision]) => wanted(decision) && data.positions.has(id)).map(([id]) => data.positions.get(id)))

/** Sorted by numbers, ties as they were; what is not a number comes last. Native sort of one number each: 100,000 in 10 ms. */
function sorted(listed, values, falling) {
  const [low, high] = extent(values), steps = 2 ** 30, keys = new Float64Array(listed.length)
  for (let k = 0; k < listed.length; k++) {
    const value = values[listed[k]], share = Number.isNaN(value) ? 1 : (value - low) / (high - low || 1)
    keys[k] = Math.round((Number.isNaN(value) ? 2 : falling ? 1 - share : share) * steps) * 2 ** 20 + k
  }
  keys.sort()
  return Uint32Array.from(keys, key => listed[key % 2 ** 20])
}

/** The place of each example in the order of the ids, numbers in them by their value. */
function identity(data) {
  if (!data.places) {
    const compare = new Intl.Collator('en', {numeric: true}).compare
    data.places = new Float32Array(data.ids.length)
    data.ids.map((id, i) => i).sort((a, b) => compare(data.ids[a], data.ids[b])).forEach((i, k) => { data.places[i] = k })
  }
  return data.places
}

/** 1 for every example of the list that the filters let through. pairs: also the filter of the pair of classes. */
function filtered(data, mask, pairs = true) {
  const text = state.search.trim().toLowerCase(), column = data[state.column], words = text && searchable(data)
  const low = state.low ?? -Infinity, high = state.high ?? Infinity, bounded = state.low !== null || state.high !== null
  const inside = state.region && within(data, state.region)
  mask.fill(0)
  for (const i of members(data)) {
    mask[i] = !(pairs && state.class !== null && data.given[i] !== state.class
      || pairs && state.said !== null && data.said_unseen[i] !== state.said
      || bounded && !(column[i] >= low && column[i] <= high)
      || inside && !inside(i)
      || state.open && decided.has(data.ids[i])
      || text && !words[i].includes(text))
  }
  return mask
}

/** Id and text, or row, of each example, in small letters. */
function searchable(data) {
  const rows = data.media?.kind === 'rows' ? data.media.rows : null
  return data.words ??= data.ids.map((id, i) => (rows && data.picture[i] ? id + '\n' + rows[data.picture[i] - 1].join('\n') : id).toLowerCase())
}

/** Those of the order that the mask lets through. */
function passing(ordered, mask) {
  const found = new Uint32Array(ordered.length)
  let n = 0
  for (let k = 0; k < ordered.length; k++) if (mask[ordered[k]]) found[n++] = ordered[k]
  return found.subarray(0, n)
}

/** Whether an example lies in a lasso: {chart, points: [x, y, x, y, …]} in shares of the axes. Even and odd crossings. */
function within(data, {chart, points}) {
  const {xs, ys} = places(data, chart), sides = points.length / 2
  return i => {
    const x = xs[i], y = ys[i]
    let inside = false
    for (let a = 0, b = sides - 1; a < sides; b = a++) {
      const ya = points[2 * a + 1], yb = points[2 * b + 1]
      if (ya > y !== yb > y && x < (points[2 * b] - points[2 * a]) * (y - ya) / (yb - ya) + points[2 * a]) inside = !inside
    }
    return inside
  }
}

/** The state as the address keeps it: what differs from the start. */
function toAddress(data) {
  const kept = new URLSearchParams()
  const first = {...START, list: data.first}
  for (const name of Object.keys(START)) {
    if (state[name] === first[name] || state[name] === null) continue
    kept.set(name, name === 'region' ? [state.region.chart, ...state.region.points.map(v => +v.toFixed(3))].join() : name === 'only' ? data.ids[state.only] : String(state[name]))
  }
  if (state.selected.size) kept.set('selected', [...state.selected].sort((a, b) => a - b).map((i, k, all) => (k ? i - all[k - 1] : i).toString(36)).join('.'))
  return kept.toString() ? '#' + kept : '#'
}

function fromAddress(data, address) {
  const kept = new URLSearchParams(address.replace(/^#/, '')), found = {...START, list: data.first, selected: new Set()}
  for (const [name, text] of kept) {
    if (name === 'selected') {
      let i = 0
      for (const step of text.split('.')) { i += parseInt(step, 36); if (i < data.ids.length) found.selected.add(i) }
    } else if (name === 'region') {
      const [chart, ...points] = text.split(',')
      if (SCATTERS[chart] && points.length >= 6 && points.every(v => Number.isFinite(+v))) found.region = {chart, points: points.map(Number)}
    } else if (name === 'only') found.only = data.positions.get(text) ?? null
    else if (['class', 'said', 'low', 'high'].includes(name)) found[name] = Number.isFinite(+text) ? +text : null
    else if (name === 'open') found.open = text === 'true'
    else if (name in START) found[name] = text
  }
  const lists = ['memorized', 'easy', 'decided', 'disagreements'].includes(found.list) || data['list_' + found.list]
  if (!lists) found.list = data.first
  if (!COLUMNS[found.column]) found.column = 'memorization'
  if (!['list', 'id', 'learned'].includes(found.sort) && !COLUMNS[found.sort]) found.sort = 'list'
  return found
}
