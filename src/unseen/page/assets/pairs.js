// Label against unseen prediction. It counts the list's examples that pass all filters but those of the two classes, so that a number is
// what opens when one clicks it.

function confusion(data, mask, choose) {
  const classes = data.classes.length, counts = new Map()
  for (let i = 0; i < data.ids.length; i++) {
    if (!mask[i]) continue
    const key = data.given[i] * classes + data.said_unseen[i], found = counts.get(key) ?? {value: 0, held: 0}
    found.value += weight(data, i)
    found.held++
    counts.set(key, found)
  }
  const off = [...counts].filter(([key]) => Math.floor(key / classes) !== key % classes).sort((a, b) => b[1].value - a[1].value)
  const most = off.length ? off[0][1].value : 1
  if (!counts.size) return element('p', {className: 'hint'}, 'No example is in view.')
  return element('div', {id: 'confusion'}, classes <= 12 ? table(data, counts, most, choose) : '', common(data, off.slice(0, classes <= 12 ? 8 : 24), most, choose))
}

const isChosen = (g, s) => state.class === g && state.said === s

function table(data, counts, most, choose) {
  const classes = data.classes.length, head = element('tr', {}, element('td', {}))
  for (let c = 0; c < classes; c++) head.append(element('th', {scope: 'col', title: named(data, c)}, named(data, c)))
  const body = element('tbody', {}, head)
  for (let g = 0; g < classes; g++) {
    const row = element('tr', {}, element('th', {scope: 'row', title: named(data, g)}, named(data, g)))
    for (let s = 0; s < classes; s++) row.append(cell(data, g, s, counts.get(g * classes + s), most, choose))
    body.append(row)
  }
  return element('div', {className: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'Label against unseen prediction'}, element('table', {className: 'confusion'}, body))
}

function cell(data, g, s, found, most, choose) {
  if (!found) return element('td')
  const button = element('button', {onclick: () => choose(g, s), 'aria-pressed': String(isChosen(g, s)), 'aria-label': pairSaid(data, g, s, found)}, short(Math.round(found.value)))
  if (g !== s) button.style.setProperty('--share', `${Math.round(5 + 50 * found.value / most)}%`)
  return element('td', {className: g === s ? 'agree' : 'differ'}, button)
}

const pairSaid = (data, g, s, {value, held}) => `labelled ${named(data, g)}, unseen says ${named(data, s)}: ${count(value, data)}${data.sampled ? `, ${grouped(held)} on this page` : ''}`

function common(data, found, most, choose) {
  const rows = found.map(([key, about]) => {
    const g = Math.floor(key / data.classes.length), s = key % data.classes.length, bar = element('span', {className: 'pair-bar'})
    bar.style.width = `${100 * about.value / most}%`
    return element('button', {className: 'pair', 'aria-pressed': String(isChosen(g, s)), title: pairSaid(data, g, s, about), onclick: () => choose(g, s)}, element('span', {}, `${named(data, g)} → ${named(data, s)}`), bar, element('span', {}, count(about.value, data)))
  })
  return element('div', {className: 'common'}, ...rows.length ? [element('p', {className: 'hint'}, 'The most frequent: label → unseen prediction'), ...rows] : [])
}

/** Rows by rank, a column per class, as figures 7 and 8 of the paper: the first of the view in each class. */
function byClass(data, shown, open, rows = 8, most = 20) {
  const columns = new Map(data.classes.map((_, c) => [c, []]))
  for (const i of shown) { const column = columns.get(data.given[i]); if (column && column.length < rows) column.push(i) }
  const filled = [...columns].filter(([, of]) => of.length)
  const made = filled.slice(0, most).map(([c, of]) => element('div', {className: 'column'}, element('h3', {title: named(data, c)}, named(data, c)), ...of.map(i => {
    const said = [data.given[i], data.said_seen[i], data.said_unseen[i]].map(label => named(data, label)).join(', '), [name, value, unit] = told(data, i)
    const shown = isPicture(data, i) ? thumbnail(data, data.picture[i] - 1, data.ids[i]) : element('span', {className: 'snippet'}, snippet(data, i))
    return element('button', {className: 'mini', title: `${data.ids[i]}: ${name}, then label, seen prediction, unseen prediction`, onclick: () => open(i)}, shown, element('b', {}, number(value, unit)), element('span', {}, `(${said})`))
  })))
  const parts = [element('div', {className: isPicture(data, shown[0] ?? 0) ? 'columns' : 'columns wordy', tabIndex: 0, role: 'region', 'aria-label': 'Examples by class'}, ...made)]
  if (filled.length > most) parts.push(element('p', {className: 'hint'}, `These are ${most} of ${filled.length} classes. The filter by label shows the others.`))
  return parts
}
