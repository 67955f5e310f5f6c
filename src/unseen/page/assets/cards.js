// A card per example: what it is, the number it is sorted by, what the networks say, how its loss fell, who is like it, and what to do.

/** The likeliest classes of an example without having seen it: [class, probability]. */
function likely(data, i) {
  const each = data.likeliest.length / data.ids.length
  return Array.from({length: each}, (_, k) => [data.likeliest[i * each + k], data.chances[i * each + k] / 255]).filter(([, p], k) => k === 0 || p >= 0.01)
}

const percent = p => p > 0.995 ? '>99%' : p < 0.01 ? '<1%' : `${Math.round(100 * p)}%`

function says(data, i) {
  const given = data.given[i], [first, ...others] = likely(data, i)
  const rows = [['label', named(data, given), given, ''], ['unseen', named(data, data.said_unseen[i]), data.said_unseen[i], first[0] === data.said_unseen[i] ? percent(first[1]) : ''], ['seen', named(data, data.said_seen[i]), data.said_seen[i], '']]
  if (data.true) rows.push(['true', named(data, data.true[i]), data.true[i], ''])
  const made = rows.map(([name, text, label, chance]) => element('div', {className: label === given ? 'same' : 'other'}, element('dt', {}, name), element('dd', {title: text}, element('b', {}, text), chance ? ` ${chance}` : '')))
  if (others.length) made.splice(2, 0, element('div', {className: 'rest'}, element('dt', {}, 'or'), element('dd', {}, others.map(([c, p]) => `${named(data, c)} ${percent(p)}`).join(', '))))
  return element('dl', {className: 'says'}, ...made)
}

/** The curve of the loss with its legend, where there is more than one epoch. */
const fall = (data, i, axes = false) => data.curves.epochs.length < 2 ? [] : [element('div', {className: 'fall'}, curve(data, i, axes), curveLegend())]

/** Related examples by kind, side by side with their labels. most: of each kind. */
function relatives(data, i, most) {
  const groups = new Map()
  for (const [kind, other, value] of data.related.of[i] ?? []) groups.set(kind, [...groups.get(kind) ?? [], [other, value]])
  return [...groups].map(([kind, found]) => element('div', {className: 'related'}, element('p', {className: 'kind'}, kind), element('ul', {}, ...found.slice(0, most).map(([other, value]) => {
    const [, id, label, picture] = data.related.others[other], said = `${id}, labelled ${named(data, label)} (${value})`
    const shown = data.media && picture >= 0 ? data.media.kind === 'images' ? thumbnail(data, picture, said) : element('span', {className: 'snippet'}, data.media.rows[picture].join(', ').slice(0, 120)) : ''
    return element('li', {title: said, className: label === data.given[i] ? 'same' : 'other'}, shown, element('span', {className: 'of'}, named(data, label)))
  }))))
}

/** One card. act: what its controls do. */
function card(data, i, act) {
  const id = data.ids[i], decision = decided.get(id), [name, value, unit] = told(data, i), wide = data.media?.kind === 'rows'
  const made = element('li', {className: `card${decision ? ' is-' + decision.decision : ''}${state.selected.has(i) ? ' chosen' : ''}`, tabIndex: -1, 'data-i': i, 'aria-label': `${id}, ${name} ${number(value, unit)}, labelled ${named(data, data.given[i])}, unseen says ${named(data, data.said_unseen[i])}${decision ? `, ${decidedSaid(decision)}` : ''}`})
  const pick = element('input', {type: 'checkbox', checked: state.selected.has(i), 'aria-label': `Select ${id}`, onclick: event => act.select(i, event.shiftKey)})
  const open = element('button', {className: 'open', title: 'Open (Enter)', 'aria-label': `Open ${id}`, onclick: () => act.open(i)}, '⤢')
  const shown = what(data, data.picture[i], id)
  if (shown && !wide) { shown.classList.add('opens'); shown.onclick = () => act.open(i) }
  const figures = element('div', {className: 'figures'}, element('p', {className: 'score'}, element('b', {}, number(value, unit)), element('span', {}, `${unit === 'nats' ? ' nats, ' : ' '}${name}`)), says(data, i))
  made.append(element('div', {className: 'top'}, element('label', {className: 'pick'}, pick), element('span', {className: 'id', title: id}, element('bdi', {}, ...marked(id))), open),
    element('div', {className: wide ? 'body wide-body' : 'body'}, ...(shown ? [shown] : []), figures),
    ...fall(data, i), ...relatives(data, i, wide ? 2 : 5),
    ...(decision ? [element('p', {className: 'decision'}, decidedSaid(decision))] : []), actions(data, i, act))
  return made
}

const WORDS = {keep: 'kept', drop: 'dropped', relabel: 'relabelled', skip: 'skipped'}

function decidedSaid({decision, label, note, reviewer, other}) {
  const said = `${WORDS[decision]}${label ? ` as ${label}` : ''}${reviewer ? ` by ${reviewer}` : ''}`
  const differs = other ? `; ${other.reviewer || 'another reviewer'}: ${WORDS[other.decision]}${other.label ? ` as ${other.label}` : ''}` : ''
  return said + differs + (note ? `. ${note}` : '')
}

/** keep, drop, relabel as suggested, skip, and any other class. */
function actions(data, i, act) {
  const suggested = data.said_unseen[i], decision = decided.get(data.ids[i]), suits = suggested !== data.given[i]
  const button = (kind, key, text, label) => {
    const isOn = decision?.decision === kind && (kind !== 'relabel' || decision.label === label)
    const said = kind === 'relabel' ? `relabel as ${label}` : kind
    return element('button', {className: kind, title: `${said} (${key})`, 'aria-label': said, 'aria-pressed': String(isOn), onclick: () => act.decide([i], isOn ? null : kind, label)}, text)
  }
  return element('div', {className: 'actions'}, button('keep', 'k', 'keep'), button('drop', 'd', 'drop'), ...(suits ? [button('relabel', 'r', `→ ${named(data, suggested)}`, named(data, suggested))] : []), button('skip', 's', 'skip'),
    classChoice(data, decision?.decision === 'relabel' ? decision.label : '', label => act.decide([i], label ? 'relabel' : null, label)))
}

/** A field that relabels to any class. */
function classChoice(data, chosen, choose, name = 'Relabel as') {
  const select = element('select', {className: 'classes-of', 'aria-label': name}, element('option', {value: ''}, `${name} …`))
  const fill = () => { if (select.options.length === 1) select.append(...data.classes.map(label => element('option', {value: label}, label))) }
  if (data.classes.length <= 30) fill()
  else if (chosen) select.append(element('option', {value: chosen}, chosen))
  select.value = chosen
  select.onfocus = select.onpointerdown = () => { if (select.options.length < data.classes.length) { select.replaceChildren(select.options[0]); fill(); select.value = chosen } }
  select.onchange = () => choose(select.value)
  return select
}
