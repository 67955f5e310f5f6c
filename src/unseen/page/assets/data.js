'use strict'
// The page's data: typed arrays behind a JSON header, gzip, base64 (packing.py), and the words for what is in them.

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
  data.positions = new Map(data.ids.map((id, i) => [id, i]))
  data.values = {}
  return data
}

function restored(stored, low, step) {
  const values = new Float32Array(stored.length)
  for (let i = 0; i < stored.length; i++) values[i] = stored[i] === MISSING ? NaN : low + step * stored[i]
  return values
}

const LISTS = {
  suspects: 'Probably wrong', rare: 'Rare but right', duplicates: 'Duplicates', outliers: 'Outliers', leaks: 'Leaks',
  memorized: 'Most memorized', easy: 'Easiest', risky: 'Risky records', decided: 'Decided', disagreements: 'Disagreements',
}

const ABOUT = {
  suspects: 'By all that is known without having seen them, another class is likelier. The surest come first.',
  rare: 'They are hard to predict without having seen them, and yet their label is the likeliest. They are usually worth keeping.',
  duplicates: 'They stand in the data twice, or nearly so. Those whose labels differ come first.',
  outliers: '', leaks: '', risky: '',
  memorized: 'The highest memorization comes first: what the network knows only because it has seen it.',
  easy: 'The lowest memorization comes first: the rest of the data teaches these.',
  decided: 'What you have decided so far.',
  disagreements: 'Two reviewers decided differently. Decide again to settle it.',
}

/** Numbers of an example: name, what stands on the card, unit, whether the largest comes first. */
const COLUMNS = {
  wrong_probability: ['probability to be wrong', 'probably wrong', '%', true],
  memorization: ['memorization', 'memorization', 'nats', true],
  loss_unseen: ['unseen loss', 'unseen loss', 'nats', true],
  loss_seen: ['seen loss', 'seen loss', 'nats', true],
  difficulty: ['difficulty', 'difficulty', 'nats', true],
  label_score: ['label score', 'label score', '', false],
  confidence: ['confidence over the epochs', 'confidence', '', false],
  variability: ['variability over the epochs', 'variability', '', true],
}
/** What each list is sorted by. Only the lists that are not cut from a column have numbers of their own. */
const OWN = {
  suspects: 'wrong_probability', rare: 'difficulty', memorized: 'memorization', easy: 'memorization', decided: 'memorization',
  disagreements: 'memorization', duplicates: ['cosine', ''], leaks: ['cosine', ''], outliers: ['strangeness', ''], risky: ['chance to be found', '%'],
}

/** What the card of an example says of it, by the list and the sort: [name, number, unit]. */
function told(data, i) {
  const by = state.sort === 'list' ? OWN[state.list] : state.sort === 'learned' ? 'wrong_probability' : state.sort === 'id' ? 'memorization' : state.sort
  if (state.sort === 'learned') return ['wrong, by your decisions', learnedChances(data)[i], '%']
  if (typeof by === 'string') return [COLUMNS[by][1], data[by][i], COLUMNS[by][2]]
  return [by[0], ownValues(data, state.list).get(i), by[1]]
}

function ownValues(data, list) {
  return data.values[list] ??= new Map(Array.from(data['list_' + list], (i, k) => [i, data['value_' + list][k]]))
}

const weight = (data, i) => data.sampled && data.sampled[i] ? data.weight : 1
const grouped = value => Math.round(value).toLocaleString('en')
const count = (value, data) => (data.sampled ? '≈ ' : '') + grouped(value)
const named = (data, label) => data.classes[label] ?? String(label)
/** A number as it stands on the page. unit: % for probabilities, nats, or none. */
const number = (value, unit = '') => unit === '%' && value >= 0 ? percent(value) : value === undefined || Number.isNaN(value) ? 'unknown' : Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2)
