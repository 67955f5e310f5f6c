// A card per example: what it is, its score, what both sides say, how its loss fell, who is like it, and what to do with it.

const sheets = new Map()

/** Draw a thumbnail on a canvas once its sheet is decoded. number: from 0. */
function thumbnail(data, number, text, side = 96) {
  const about = data.media, canvas = element('canvas', {className: 'thumb' + (about.ink ? ' ink' : ''), width: about.width, height: about.height, role: 'img', 'aria-label': text, title: text})
  const perSheet = about.columns * about.columns, which = Math.floor(number / perSheet), at = number % perSheet
  if (!sheets.has(which)) {
    const image = new Image()
    image.src = about.sheets[which]
    sheets.set(which, image.decode().then(() => image))
  }
  sheets.get(which).then(image => {
    const x = at % about.columns * about.stride, y = Math.floor(at / about.columns) * about.stride
    canvas.getContext('2d').drawImage(image, x, y, about.width, about.height, 0, 0, about.width, about.height)
  })
  return canvas
}

/** The picture, text or row of an example; number 0: the page does not hold it. */
function what(data, number, text) {
  if (!data.media) return null
  if (!number) return element('div', {className: 'absent'}, 'not kept in this page')
  if (data.media.kind === 'images') return thumbnail(data, number - 1, text)
  const cells = data.media.rows[number - 1]
  if (!data.media.names.length) return element('p', {className: 'text'}, cells[0])
  return element('dl', {className: 'row'}, ...cells.flatMap((value, k) => element('div', {}, element('dt', {}, data.media.names[k]), element('dd', {}, value))))
}

/** Loss per epoch of both sides, as a small chart. */
function curve(data, i) {
  const {epochs, largest} = data.curves, width = 120, height = 36
  if (epochs.length < 2) return ''
  const path = side => epochs.map((epoch, k) => {
    const value = data.curves_of[(i * 2 + side) * epochs.length + k]
    const x = 1 + (width - 2) * (epoch - epochs[0]) / (epochs.at(-1) - epochs[0])
    return `${k ? 'L' : 'M'}${x.toFixed(1)},${(height - 1 - (height - 2) * value / 255).toFixed(1)}`
  }).join('')
  const loss = data.loss_unseen[i].toFixed(2), seen = data.loss_seen[i].toFixed(2)
  return vector('svg', {class: 'curve', preserveAspectRatio: 'none', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Loss over ${epochs.at(-1)} epochs; at the end unseen ${loss}, seen ${seen} nats`},
    vector('path', {class: 'line seen-line', d: path(0)}), vector('path', {class: 'line unseen-line', d: path(1)}))
}

function relatives(data, i) {
  const groups = new Map()
  for (const [kind, number, value] of data.related.of[i] ?? []) groups.set(kind, [...groups.get(kind) ?? [], [number, value]])
  return [...groups].map(([kind, found]) => element('div', {className: 'related'}, element('h4', {}, kind), element('ul', {}, ...found.map(([number, value]) => {
    const [, id, label, picture] = data.related.others[number], told = `${id}, labelled ${named(data, label)} (${value})`
    const shown = data.media && data.media.kind === 'images' && picture >= 0 ? thumbnail(data, picture, told, 32) : ''
    return element('li', {title: told}, shown, named(data, label))
  }))))
}

function says(data, i) {
  const given = data.given[i]
  const told = [['label', given, ''], ['seen says', data.said_seen[i], 'seen'], ['unseen says', data.said_unseen[i], 'unseen']]
  if (data.true) told.push(['true', data.true[i], ''])
  return element('dl', {className: 'says'}, ...told.map(([name, label, side]) =>
    element('div', {className: label === given ? 'same' : 'other'}, element('dt', {}, name), element('dd', {title: named(data, label)}, named(data, label)))))
}

/** One card. decide(i, decision, label): keep, drop, relabel, or null to take it back. */
function card(data, i, decision, decide) {
  const id = data.ids[i], score = data.memorization[i].toFixed(2)
  const made = element('li', {className: 'card' + (decision ? ' is-' + decision.decision : ''), tabIndex: 0, 'data-i': i, 'aria-label': `${id}, memorization ${score}, labelled ${named(data, data.given[i])}, unseen says ${named(data, data.said_unseen[i])}`})
  made.onfocus = () => made.querySelectorAll('button, select').forEach(control => { control.tabIndex = 0 })
  const shown = what(data, data.picture[i], id)
  const wide = data.media && data.media.kind === 'rows'
  const figures = element('div', {className: 'figures'}, element('p', {className: 'score', title: 'memorization, nats'}, score), says(data, i))
  made.append(element('div', {className: wide ? 'body wide-body' : 'body'}, ...(shown ? [shown] : []), figures), curve(data, i), ...relatives(data, i),
    element('p', {className: 'id', title: id}, id), actions(data, i, decision, decide))
  return made
}

function actions(data, i, decision, decide) {
  const suggested = data.said_unseen[i]
  const button = (name, key, text, label) => element('button', {className: name, tabIndex: -1, title: `${name === 'relabel' ? `relabel as ${named(data, suggested)}` : name} (${key})`, 'aria-label': name === 'relabel' ? `relabel as ${named(data, suggested)}` : name, 'aria-pressed': String(decision?.decision === name), onclick: () => decide(i, decision?.decision === name ? null : name, label)}, text)
  const choices = element('div', {className: 'actions'}, button('keep', 'k', 'keep'), button('drop', 'd', 'drop'), button('relabel', 'r', suggested === data.given[i] ? 'relabel' : `relabel ${named(data, suggested)}`, suggested))
  if (decision?.decision === 'relabel') {
    const select = element('select', {tabIndex: -1, 'aria-label': 'New label', onchange: () => decide(i, 'relabel', +select.value)}, ...data.classes.map((name, c) => element('option', {value: c, selected: name === decision.label}, name)))
    choices.append(select)
  }
  return choices
}

/** The beginning of an example's text where it is one, else its id. */
function snippet(data, i) {
  const texts = data.media?.kind === 'rows' && !data.media.names.length && data.picture[i]
  return texts ? data.media.rows[data.picture[i] - 1][0].slice(0, 90) : data.ids[i]
}

/** Rows by rank, a column per class, as figures 7 and 8 of the paper. */
function byClass(data, end, open, rows = 6, most = 20) {
  const columns = new Map(data.classes.slice(0, most).map((_, c) => [c, []]))
  const n = data.ids.length, listed = data['list_' + end]
  for (let k = 0; k < (listed ? listed.length : n); k++) {
    const i = listed ? listed[k] : end === 'easy' ? n - 1 - k : k, column = columns.get(data.given[i])
    if (column && column.length < rows) column.push(i)
  }
  const made = [...columns].map(([c, of]) => element('div', {className: 'column'}, element('h3', {title: named(data, c)}, named(data, c)), ...of.map(i => {
    const told = [data.given[i], data.said_seen[i], data.said_unseen[i]].map(label => named(data, label)).join(', ')
    const shown = data.media?.kind === 'images' && data.picture[i] ? thumbnail(data, data.picture[i] - 1, data.ids[i], 56) : element('span', {className: data.media?.kind === 'rows' && !data.media.names.length ? 'snippet' : 'id'}, snippet(data, i))
    return element('button', {className: 'mini', title: data.ids[i], onclick: () => open(i)}, shown, element('b', {}, data.memorization[i].toFixed(1)), element('span', {}, `(${told})`))
  })))
  const parts = [element('div', {className: data.media?.kind === 'images' ? 'columns' : 'columns wordy'}, ...made)]
  if (data.classes.length > most) parts.push(element('p', {className: 'hint'}, `The first ${most} of ${data.classes.length} classes. The class filter shows the others below.`))
  document.getElementById('by-class').replaceChildren(...parts)
}
