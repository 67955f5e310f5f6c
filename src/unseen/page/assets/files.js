// Decisions as a file: exported for `unseen apply`, imported, and merged with those of a second reviewer.

const FIELDS = ['id', 'decision', 'label', 'note', 'reviewer', 'other_decision', 'other_label', 'other_reviewer']
const KINDS = ['keep', 'drop', 'relabel', 'skip']

/** As CSV; the last column says of which data, and `unseen apply` refuses other data. */
function toFile(data) {
  const mark = data.data ? [['data'], ...[...decided].map(() => [data.data])] : null
  const quoted = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  return [FIELDS, ...[...decided].map(asRow)].map((row, k) => [...row, ...mark?.[k] ?? []].map(quoted).join(',')).join('\n') + '\n'
}

function download(data) {
  const link = element('a', {href: URL.createObjectURL(new Blob([toFile(data)], {type: 'text/csv'})), download: 'decisions.csv'})
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 1000)
  journal.unsaved = false
}

/** Rows of a CSV (RFC 4180), as objects by the names of its first row. */
function parseFile(text) {
  const rows = [[]]
  let cell = '', quoted = false
  const close = () => { rows.at(-1).push(cell); cell = '' }
  for (let k = text.charCodeAt(0) === 0xfeff ? 1 : 0; k < text.length; k++) {
    const c = text[k]
    if (quoted) {
      if (c !== '"') cell += c
      else if (text[k + 1] === '"') { cell += c; k++ } else quoted = false
    } else if (c === '"') quoted = true
    else if (c === ',') close()
    else if (c === '\n') { close(); rows.push([]) }
    else if (c !== '\r') cell += c
  }
  if (quoted) throw new Error('a quotation mark is never closed')
  if (cell || rows.at(-1).length) close()
  const [names, ...found] = rows.filter(row => row.length > 1 || row[0])
  if (!names?.includes('id') || !names.includes('decision')) throw new Error('it must have the columns id, decision and label')
  return found.map(row => Object.fromEntries(names.map((name, k) => [name, row[k] ?? ''])))
}

const isSame = (a, b) => a.decision === b.decision && a.label === b.label

/**
 * Merge a file's decisions into those here, as one step that can be undone. What is decided here only, or there only, stays; skip gives way to
 * a decision; where two differ, the one here stays and the other is listed as a disagreement. Returns what happened, in a sentence.
 */
function merge(data, rows, from) {
  const incoming = new Map(), counts = {added: 0, same: 0, differ: 0, strange: 0, unknown: 0}
  for (const row of rows) {
    const valid = row.id && KINDS.includes(row.decision) && (row.decision !== 'relabel' || data.classes.includes(row.label))
    if (!valid) { counts.unknown++; continue }
    if (!data.positions.has(row.id)) counts.strange++
    incoming.set(...fromRow([row.id, row.decision, row.decision === 'relabel' ? row.label : '', row.note, row.reviewer, row.other_decision, row.other_label, row.other_reviewer]))
  }
  change([...incoming.keys()], (mine, id) => {
    const theirs = incoming.get(id)
    const note = [mine?.note, theirs.note].filter((text, k, all) => text && all.indexOf(text) === k).join(' / ')
    if (!mine || mine.decision === 'skip' && theirs.decision !== 'skip') { counts.added++; return {...theirs, note} }
    if (theirs.decision === 'skip' || isSame(mine, theirs)) { counts.same++; return {...mine, note} }
    counts.differ++
    return {...mine, note, other: {decision: theirs.decision, label: theirs.label, reviewer: theirs.reviewer || from}}
  })
  const said = [`${from}: ${grouped(counts.added)} new, ${grouped(counts.same)} the same, ${grouped(counts.differ)} different`]
  if (counts.strange) said.push(`${grouped(counts.strange)} are of examples that this page does not hold, and are kept for the next download`)
  if (counts.unknown) said.push(`${grouped(counts.unknown)} rows were not understood and left out`)
  return said.join('; ') + '.'
}

async function readFiles(data, files) {
  const told = []
  for (const file of files) {
    try {
      const rows = parseFile(await file.text())
      if (data.data && rows.some(row => row.data && row.data !== data.data)) throw new Error('it decides on other data than those of this page')
      told.push(merge(data, rows, file.name))
    } catch (error) { told.push(`${file.name} was not read: ${error.message}.`) }
  }
  return told.join(' ')
}
