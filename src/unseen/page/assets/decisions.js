// Decisions: keep, drop, relabel, skip; undone and done again; saved as one goes; and what they say of those that are left.

/** By id: {decision, label (a class name, for relabel), note, reviewer, other: what another reviewer decided, where it differs}. */
const decided = new Map()
const journal = {done: [], undone: [], store: '', reviewer: '', said: null, failed: false}

/** Change decisions. make: from what was decided, or undefined, to what is, or null. Returns the ids that changed. */
function change(ids, make) {
  const steps = []
  for (const id of ids) {
    const before = decided.get(id), after = make(before, id) ?? undefined
    if (JSON.stringify(before) !== JSON.stringify(after)) steps.push([id, before, after])
  }
  if (!steps.length) return []
  journal.done.push(steps)
  journal.undone = []
  return replay(steps.map(([id, , after]) => [id, after]))
}

function undo() {
  const steps = journal.done.pop()
  if (!steps) return []
  journal.undone.push(steps)
  return replay(steps.map(([id, before]) => [id, before]).reverse())
}

function redo() {
  const steps = journal.undone.pop()
  if (!steps) return []
  journal.done.push(steps)
  return replay(steps.map(([id, , after]) => [id, after]))
}

function replay(pairs) {
  for (const [id, decision] of pairs) decision ? decided.set(id, decision) : decided.delete(id)
  decisionsChanged()
  save()
  return pairs.map(([id]) => id)
}

function decisionsChanged() { journal.learned = null }

/**
 * A decision on one example or many; a disagreement with another reviewer is settled by it. kind: keep, drop, relabel, skip, or null to take it
 * back. label: of relabel, a class name, or a function of the position that gives it.
 */
function decide(data, positions, kind, label = '') {
  const of = id => kind !== 'relabel' ? '' : typeof label === 'function' ? label(data.positions.get(id)) : label
  return change(positions.map(i => data.ids[i]), (before, id) => kind && {decision: kind, label: of(id), note: before?.note ?? '', reviewer: journal.reviewer})
}

/** A note; of an example that is not decided yet it skips it, so that the note stays in the file. */
function annotate(id, note) {
  return change([id], before => !before && !note ? null : {decision: 'skip', label: '', reviewer: journal.reviewer, ...before, note})
}

const asRow = ([id, {decision, label, note, reviewer, other}]) => [id, decision, label, note, reviewer, other?.decision ?? '', other?.label ?? '', other?.reviewer ?? '']

function fromRow([id, decision, label = '', note = '', reviewer = '', otherDecision = '', otherLabel = '', otherReviewer = '']) {
  const found = {decision, label, note, reviewer}
  if (otherDecision) found.other = {decision: otherDecision, label: otherLabel, reviewer: otherReviewer}
  return [id, found]
}

/** Write all decisions to the browser. Where its storage is full the page says so, and keeps them until they are downloaded. */
function save() {
  try {
    localStorage.setItem(journal.store, JSON.stringify({reviewer: journal.reviewer, rows: [...decided].map(asRow)}))
    journal.failed = false
  } catch { journal.failed = true }
  journal.unsaved = journal.failed
}

/** Read what the browser keeps. Returns whether it could be read. */
function restore() {
  let kept = null
  try { kept = JSON.parse(localStorage.getItem(journal.store)) } catch { return false }
  if (!kept) return true
  decided.clear()
  const rows = Array.isArray(kept) ? kept.map(([id, {decision, label}]) => [id, decision, label]) : kept.rows // before 0.2 a list of pairs
  for (const row of rows) decided.set(...fromRow(row))
  journal.reviewer = kept.reviewer ?? ''
  decisionsChanged()
  return true
}

const PRIOR = 2 // decisions that agree with the stated probabilities are imagined, so that the first few do not swing them

/**
 * The probability of each example to be wrong, given the decisions: the stated one, times (found + 2 f) / (expected + 2) in its class,
 * where f = (found + 2) / (expected + 2) over all classes, at most 0.99. found: decided wrong (relabelled, or dropped from the list
 * "probably wrong"); expected: the sum of the stated probabilities of all that were decided wrong or right.
 */
function learnedChances(data) {
  if (journal.learned) return journal.learned
  const chances = data.stated ?? data.wrong_probability, classes = data.classes.length
  const found = new Float64Array(classes), expected = new Float64Array(classes), isListed = new Set(data.list_suspects)
  for (const [id, {decision}] of decided) {
    const i = data.positions.get(id)
    if (i === undefined || decision === 'skip' || decision === 'drop' && !isListed.has(i)) continue
    found[data.given[i]] += decision !== 'keep'
    expected[data.given[i]] += chances[i] || 0
  }
  const sum = values => values.reduce((a, b) => a + b, 0)
  const all = (sum(found) + PRIOR) / (sum(expected) + PRIOR)
  const factors = found.map((f, c) => (f + PRIOR * all) / (expected[c] + PRIOR))
  journal.learned = chances.map((p, i) => Math.min(0.99, p * factors[data.given[i]]))
  return journal.learned
}

/** How far a list is decided, in a sentence. */
function progressOf(data, listed) {
  const total = listed.length, kinds = {keep: 0, drop: 0, relabel: 0, skip: 0}, isListed = total < data.ids.length ? new Set(listed) : null
  let left = 0
  if (state.list === 'suspects') for (const i of listed) left += learnedChances(data)[i]
  for (const [id, {decision}] of decided) {
    const i = data.positions.get(id)
    if (i === undefined || isListed && !isListed.has(i)) continue
    kinds[decision]++
    if (decision !== 'skip') left -= learnedChances(data)[i]
  }
  const parts = Object.entries({keep: 'kept', drop: 'dropped', relabel: 'relabelled', skip: 'skipped'}).filter(([kind]) => kinds[kind]).map(([kind, word]) => `${grouped(kinds[kind])} ${word}`)
  const wrong = kinds.drop + kinds.relabel, done = wrong + kinds.keep
  const said = `${grouped(done)} of ${grouped(total)} decided${parts.length ? ` (${parts.join(', ')})` : ''}.`
  if (state.list !== 'suspects') return said
  return `${said.slice(0, -1)}, ${grouped(wrong)} wrong so far` + (total - done ? (data.stated ? `; about ${grouped(Math.max(0, left))} of the other ${grouped(total - done)} are wrong too.` : '; nobody can say how many of the others are.') : '.')
}
