// One example large: its picture, all of its text or row, every number, probabilities, the loss curve, its relatives, a note.

function opened(data, i, act) {
  const id = data.ids[i], decision = decided.get(id), images = data.media?.kind === 'images'
  const picture = what(data, data.picture[i], id, true)
  const original = data.media?.folder && element('p', {}, element('a', {href: [...data.media.folder.split('/'), ...id.split('/')].map(encodeURIComponent).join('/'), target: '_blank', rel: 'noopener'}, 'Open the original file'), element('span', {className: 'hint'}, ' (where it is within reach; the picture here is the page’s own copy)'))
  const note = element('textarea', {rows: 2, value: decision?.note ?? '', placeholder: 'A note, kept with the decision', onchange: () => act.note(i, note.value)})
  const settle = decision?.other ? element('p', {className: 'notice'}, `Another decision: ${decidedSaid({...decision.other, decision: decision.other.decision})}. `, element('button', {onclick: () => act.decide([i], decision.other.decision, decision.other.label)}, 'Take theirs'), ' ', element('button', {onclick: () => act.decide([i], decision.decision, decision.label)}, 'Keep mine')) : ''
  return [
    element('header', {className: 'large-top'}, element('h2', {id: 'large-title', className: 'id'}, ...marked(id)), element('span', {className: 'hint'}, act.where(i)),
      element('button', {onclick: () => act.step(-1), 'aria-label': 'Previous example', title: '←'}, '←'), element('button', {onclick: () => act.step(1), 'aria-label': 'Next example', title: '→'}, '→'), element('button', {onclick: () => act.close(), 'aria-label': 'Close', title: 'Escape'}, '✕')),
    element('div', {className: images ? 'large-body' : 'large-body wide-body'},
      element('div', {className: 'shown'}, picture ?? '', original || '', element('div', {className: 'kin'}, ...relatives(data, i, 6))),
      element('div', {className: 'facts'}, actions(data, i, act), ...(decision ? [element('p', {className: 'decision'}, decidedSaid({...decision, note: ''}))] : []), settle, says(data, i), chances(data, i),
        ...fall(data, i, true), numbers(data, i),
        element('label', {className: 'note'}, element('span', {}, 'Note '), note))),
  ]
}

/** Bars of the likeliest classes without having seen the example, and its label. */
function chances(data, i) {
  const found = likely(data, i)
  if (!found.some(([c]) => c === data.given[i])) found.push([data.given[i], data.label_score[i]])
  return element('div', {className: 'chances'}, element('h3', {}, 'What is said without having seen it'), ...found.map(([c, p]) => {
    const bar = element('span', {className: 'pair-bar'})
    bar.style.width = `${Math.max(0.5, 100 * p)}%`
    return element('div', {className: c === data.given[i] ? 'same' : 'other'}, element('span', {}, named(data, c) + (c === data.given[i] ? ' (label)' : '')), element('span', {className: 'bar-room'}, bar), element('span', {}, percent(p)))
  }))
}

function numbers(data, i) {
  const rows = Object.entries(COLUMNS).map(([name, [text, , unit]]) => element('div', {}, element('dt', {}, text), element('dd', {}, `${number(data[name][i], unit)}${unit === 'nats' ? ' nats' : ''}`)))
  return element('details', {open: true}, element('summary', {}, 'Every number'), element('dl', {className: 'numbers'}, ...rows))
}
