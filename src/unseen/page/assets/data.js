'use strict'
// The page's data: typed arrays behind a JSON header, gzip, base64 (packing.py), and which examples the filters let through.

const TYPES = {uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int64: BigInt64Array}
const MISSING = 65535

async function unpack(text) {
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), c => c.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))
  const buffer = await new Response(stream).arrayBuffer()
  const start = 4 + new DataView(buffer).getUint32(0, true)
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, start - 4)))
  const data = header.facts
  for (const [name, about] of Object.entries(header.arrays)) {
    const stored = new TYPES[about.type](buffer, start + about.offset, about.length)
    data[name] = about.scale ? restored(stored, ...about.scale) : stored
  }
  return data
}

function restored(stored, low, step) {
  const values = new Float32Array(stored.length)
  for (let i = 0; i < stored.length; i++) values[i] = stored[i] === MISSING ? NaN : low + step * stored[i]
  return values
}

const COLUMNS = {
  memorization: 'memorization (nats)', loss_seen: 'seen loss (nats)', loss_unseen: 'unseen loss (nats)',
  label_score: 'label score', confidence: 'confidence', variability: 'variability',
}
const LISTS = {
  memorized: 'Most memorized', suspects: 'Probably wrong', rare: 'Rare but right', easy: 'Easiest', decided: 'Decided',
}

const ABOUT = {
  memorized: 'Highest memorization first: what the network knows only because it has seen it.',
  suspects: 'Another class is likelier for these by all that is known without having seen them; the surest first. Relabel or drop them if you agree.',
  rare: 'Hard to predict without having seen them, yet their label is the likeliest: unusual examples of their class, usually worth keeping.',
  easy: 'Lowest memorization first: the rest of the data teaches them. Typical examples, and many alike.',
  decided: 'What you have decided so far.',
}

/** Filters of the page. `selection` is a rectangle in a chart, `pair` a cell of the confusion table, `only` the one example opened. */
const state = {list: 'memorized', class: null, column: 'memorization', low: null, high: null, search: '', selection: null, pair: null, only: null}

/** Positions in the order of the current list. Examples are stored most memorized first. */
function listOrder(data, decisions) {
  const n = data.ids.length
  if (state.list === 'easy') return Uint32Array.from({length: n}, (_, i) => n - 1 - i)
  if (state.list === 'decided') return data.ids.map((id, i) => i).filter(i => decisions.has(data.ids[i]))
  if (data['list_' + state.list]) return data['list_' + state.list]
  return Uint32Array.from({length: n}, (_, i) => i)
}

/** 1 for every example that the filters other than the list let through. */
function filtered(data, mask) {
  const n = data.ids.length, text = state.search.trim().toLowerCase(), column = data[state.column]
  const low = state.low ?? -Infinity, high = state.high ?? Infinity, bounded = state.low !== null || state.high !== null
  const box = state.selection, x = box && data[box.x], y = box && box.y && data[box.y]
  for (let i = 0; i < n; i++) {
    mask[i] = !(state.only !== null && i !== state.only
      || state.class !== null && data.given[i] !== state.class
      || bounded && !(column[i] >= low && column[i] <= high)
      || box && !(x[i] >= box.x0 && x[i] <= box.x1 && (!y || y[i] >= box.y0 && y[i] <= box.y1))
      || state.pair && (data.given[i] !== state.pair[0] || data.said_unseen[i] !== state.pair[1])
      || text && !data.ids[i].toLowerCase().includes(text))
  }
  return mask
}

/** Those of the order that the mask lets through. */
function passing(order, mask) {
  const found = new Uint32Array(order.length)
  let n = 0
  for (let k = 0; k < order.length; k++) if (mask[order[k]]) found[n++] = order[k]
  return found.subarray(0, n)
}

const weight = (data, i) => data.sampled && data.sampled[i] ? data.weight : 1
const count = (value, data) => (data.sampled ? '≈ ' : '') + Math.round(value).toLocaleString('en')
const named = (data, label) => data.classes[label] ?? String(label)
